"""From a clip to one person's track: one identity, and expression, pose, lids and gaze in every frame."""
