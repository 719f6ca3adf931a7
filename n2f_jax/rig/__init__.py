"""A person's head as a rig in binary glTF: skin, morph targets, texture, camera, animation (docs/rigs.md)."""
