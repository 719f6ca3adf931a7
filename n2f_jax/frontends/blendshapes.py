"""ARKit's 52 blendshape scores of a face from its points: Google's blendshape network of 2022.

Model card "MediaPipe Blendshape V2" (Apache-2.0). It takes 146 of the 478 points and gives 52 scores between 0 and 1,
left and right being the subject's.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from n2f_jax.face_mesh.arkit_names import UNITS
from n2f_jax.frontends.tflite import Runtime, open_network
from n2f_jax.runtime.assets_cache import FACE_LANDMARKER, asset_path

# Google's order, by letters; "_neutral" is no blendshape and stays unused.
BLENDSHAPES = ("_neutral", *sorted(UNITS))
# Points that the network takes, in order.
POINTS = np.r_[
    0, 1, 4:9, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52:56, 58, 61, 63, 65:68, 70, 78, 80:83, 84, 87, 88,
    91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144:147, 148:151, 152:156, 157:164, 168, 172, 173,
    176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282:286, 288, 291, 293,
    295:298, 300, 308, 310:313, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373:376,
    377:383, 384:391, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468:478,
]  # fmt: skip


# Where the scores of ``UNITS`` are among the 52.
OF_UNITS = np.array([BLENDSHAPES.index(name) for name in UNITS])


def scores_of_units(scores: Float[np.ndarray, "52"] | None) -> Float[np.ndarray, "51"]:
    """Scores in the order of ``UNITS``; NaN of none."""
    if scores is None:
        return np.full(len(UNITS), np.nan, np.float32)
    return np.asarray(scores, np.float32)[OF_UNITS]


class BlendshapeNetwork:
    """Scores of ``BLENDSHAPES`` from the 478 points of one face.

    Args:
        num_threads: threads of the interpreter.
        runtime: what runs the network (``frontends.tflite``).

    Raises:
        AssetError: the network is not in the cache.
        ImportError: as ``FaceNetwork``.
    """

    def __init__(self, num_threads: int = 1, runtime: Runtime | None = None):
        self._network = open_network(
            asset_path(FACE_LANDMARKER, "face_blendshapes.tflite"), num_threads, runtime
        )

    def __call__(self, points: Float[np.ndarray, "478 3"]) -> Float[np.ndarray, "52"]:
        """Scores 0 … 1.

        Args:
            points: u, v of any upright picture in any unit: scale and place do not matter; depth is not used. Google
                feeds points of the whole image, whose roll disturbs the scores a little.
        """
        (scores,) = self._network.named(points[POINTS, :2]).values()
        return scores.reshape(len(BLENDSHAPES)).copy()
