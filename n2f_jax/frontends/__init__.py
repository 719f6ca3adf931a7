"""What turns photographs into normal maps, masks and landmarks."""

FRONTENDS = ("face_mesh", "pixel3dmm", "precomputed")
