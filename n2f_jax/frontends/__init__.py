"""What turns photographs into normal maps, masks and landmarks."""

from typing import Literal

FRONTENDS = ("face_mesh", "pixel3dmm", "precomputed")
# Which of MediaPipe's face networks finds a face's points (``face_networks``).
Landmarks = Literal["v1", "v2"]
LANDMARKS: tuple[Landmarks, ...] = ("v1", "v2")
DEFAULT_LANDMARKS: Landmarks = "v2"
