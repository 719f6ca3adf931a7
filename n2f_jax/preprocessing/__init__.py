"""Many photographs and videos through a front end onto the disk: what ``scripts/preprocess.py`` does."""
