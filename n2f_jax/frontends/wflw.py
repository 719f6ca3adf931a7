"""WFLW's 98 landmarks (Wu et al., CVPR 2018), as PIPNet finds them, to iBUG's 68."""

import numpy as np
from jaxtyping import Float

NUM_POINTS = 98

# For each of the 68. The contour takes every other of WFLW's 33; of the brows the upper edge; the nose as it is; of
# the eyes, which have 8 points in WFLW, the middle of the upper and of the lower lid are left out; the mouth as it is.
# 96 and 97 are the pupils.
WFLW_TO_IBUG68 = np.array(
    [
        *range(0, 33, 2),
        *range(33, 38),
        *range(42, 47),
        *range(51, 60),
        *(60, 61, 63, 64, 65, 67),
        *(68, 69, 71, 72, 73, 75),
        *range(76, 96),
    ]
)


def wflw_to_ibug68(points: Float[np.ndarray, "98 2"]) -> Float[np.ndarray, "68 2"]:
    """The 68 among the 98."""
    if points.shape != (NUM_POINTS, 2):
        raise ValueError(f"WFLW has {NUM_POINTS} landmarks of 2 coordinates, not {points.shape}")
    return points[WFLW_TO_IBUG68]
