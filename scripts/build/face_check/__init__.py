"""Makes what ``train_face_confidence.py`` trains the check of found faces on."""
