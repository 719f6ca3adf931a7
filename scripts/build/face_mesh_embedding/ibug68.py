"""The 68 landmarks of iBUG's scheme among the 468 points of the face mesh."""

import numpy as np

# The subject's right is the image's left. Contour from the right ear over the chin to the left ear; brows,
# right then left, each from the image's left; nose bridge down, nostrils; right eye and left eye from the
# image's left corner over the upper lid; outer lips and inner lips from the right corner over the upper lip.
FACE_MESH_TO_IBUG68 = np.array(
    [
        *(127, 234, 93, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 323, 454, 356),
        *(70, 63, 105, 66, 107),
        *(336, 296, 334, 293, 300),
        *(168, 197, 5, 4),
        *(75, 97, 2, 326, 305),
        *(33, 160, 158, 133, 153, 144),
        *(362, 385, 387, 263, 373, 380),
        *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
        *(78, 82, 13, 312, 308, 317, 14, 87),
    ],
    np.int32,
)
