"""Whether a found face can be believed, as a whole and part by part, from what can be seen."""

from __future__ import annotations

import dataclasses
import functools
import math
import zipfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS, load_coarse_mesh
from n2f_jax.frontends.blendshapes import BLENDSHAPES
from n2f_jax.geometry.alignment import procrustes
from n2f_jax.geometry.camera import pitch_yaw_roll
from n2f_jax.geometry.squares import Square, cut_square
from n2f_jax.runtime.assets_cache import AssetError

if TYPE_CHECKING:
    from n2f_jax.frontends.face_landmarks import MeshedFace

# Parts of a face by iBUG's 68 landmarks; right and left are the subject's.
REGIONS = {
    "brows": tuple(range(17, 27)),
    "right_eye": tuple(range(36, 42)),
    "left_eye": tuple(range(42, 48)),
    "nose": tuple(range(27, 36)),
    "mouth": tuple(range(48, 68)),
    "jaw": tuple(range(17)),
}
SIZE = 48  # of the unfolded face, pixels
CROP = 128  # what it is taken from
CHANNELS = 5
MEASURES = (
    "score", "detection score", "mirror gap", "size", "sharpness", "contrast", "light", "distance from a mean face",
    "yaw", "pitch", "roll", "share outside", "version gap", *(f"version gap of {name}" for name in REGIONS),
    "blink difference",
)  # fmt: skip
# What the check says: each region is seen and in place; the inner 51 landmarks are in place; there is a face.
OUTPUTS = (*REGIONS, "all", "face")
LAYERS = 4  # convolutions of the network
ASSET = "face_confidence.npz"
# Below this confidence a face is doubtful, as scripts/build/train_face_confidence.py finds. A doubtful one that is
# hardly a face is dropped; the script would allow 0.68, but a wrong head that is marked is worth more than none.
DOUBTFUL, GHOST = 0.72, 0.5
# The rim around the face that is unfolded with it, in units of the face.
RIM = 1.25
# Of the 256 levels: what counts as no contrast, and the unit of colour; fewest pixels to take a mean of.
NO_CONTRAST, COLOUR, FEWEST = 4.0, 30.0, 50
BLINKS = (BLENDSHAPES.index("eyeBlinkLeft"), BLENDSHAPES.index("eyeBlinkRight"))


@dataclasses.dataclass(frozen=True)
class FaceCheck:
    """What can be believed of a found face; probabilities.

    Attributes:
        confidence: the mean error of the inner 51 landmarks is below 12 % of the distance of the outer eye corners.
        is_face: there is a face at all, be its points right or wrong.
        regions: of each of ``REGIONS``, the share of its landmarks that are in view and in place (error below 12 % of
            the eye distance; 25 % of the jaw's).
    """

    confidence: float
    is_face: float
    regions: dict[str, float]

    @property
    def doubtful(self) -> bool:
        return self.confidence < DOUBTFUL

    @property
    def ghost(self) -> bool:
        """Not worth returning."""
        return self.doubtful and self.is_face < GHOST


@dataclasses.dataclass(frozen=True)
class _Sheet:
    """Where each pixel of the unfolded face lies on the mesh.

    Attributes:
        outline: ``(B,)`` points at the mesh's rim.
        triangles: ``(F, 3)`` of the mesh and of the rim; points from 468 on are the outline's, moved outward.
        triangle: ``(S, S)`` which triangle each pixel lies on.
        corners: ``(S, S, 3)`` its points.
        weights: ``(S, S, 3)`` where on it.
        covered: ``(S, S)``.
    """

    outline: Int[np.ndarray, " B"]
    triangles: Int[np.ndarray, "F 3"]
    triangle: Int[np.ndarray, "S S"]
    corners: Int[np.ndarray, "S S 3"]
    weights: Float[np.ndarray, "S S 3"]
    covered: Bool[np.ndarray, "S S"]


@functools.cache
def face_sheet() -> _Sheet:
    mesh = load_coarse_mesh()
    faces = np.asarray(mesh.faces)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = {tuple(edge) for edge in edges.tolist()}
    rim = np.array([edge for edge in edges.tolist() if (edge[1], edge[0]) not in both])
    outline = rim[:, 0]
    moved = {int(point): NUM_POINTS + i for i, point in enumerate(outline)}
    ring = [triangle for a, b in rim.tolist() for triangle in ((b, a, moved[a]), (b, moved[a], moved[b]))]
    triangles = np.concatenate([faces, np.array(ring)]).astype(np.int32)
    flat = _with_rim(mesh.reference[:, :2] * [1, -1], outline)
    low, high = flat.min(axis=0), flat.max(axis=0)
    flat = (flat - (low + high) / 2) / (high - low).max() * SIZE + SIZE / 2
    depth = np.concatenate([mesh.reference[:, 2], np.full(len(outline), mesh.reference[:, 2].min() - 1)])
    nearest = np.full((SIZE, SIZE), -np.inf)
    triangle, weights = np.zeros((SIZE, SIZE), np.int32), np.zeros((SIZE, SIZE, 3))
    for number, corners in enumerate(triangles):
        a, b, c = flat[corners]
        matrix = np.stack([b - a, c - a], axis=1)
        if abs(np.linalg.det(matrix)) < 1e-9:
            continue
        u0, v0 = np.floor(flat[corners].min(axis=0)).astype(int).clip(0)
        u1, v1 = np.ceil(flat[corners].max(axis=0)).astype(int)
        part = np.s_[v0:v1, u0:u1]
        v, u = np.mgrid[part].astype(float)[:, : SIZE - v0, : SIZE - u0] + 0.5
        st = (np.stack([u, v], axis=-1) - a) @ np.linalg.inv(matrix).T
        w = np.concatenate([1 - st.sum(axis=-1, keepdims=True), st], axis=-1)
        z = w @ depth[corners]
        here = (w > -1e-6).all(axis=-1) & (z > nearest[part])
        nearest[part][here], triangle[part][here], weights[part][here] = z[here], number, w[here]
    return _Sheet(
        outline, triangles, triangle, triangles[triangle], weights.astype(np.float32), np.isfinite(nearest)
    )


def _with_rim(points, outline):
    """Points with those of the outline once more, moved outward."""
    rim = points[outline]
    centre = rim.mean(axis=0)
    return np.concatenate([points, centre + RIM * (rim - centre)])


def unfold(
    crop: UInt8[np.ndarray, "C C 3"],
    points: Float[np.ndarray, "468 2"],
    square: Square,
    image_size: tuple[int, int],
) -> Float[np.ndarray, "S S 5"]:
    """The face laid flat by its points: where they are right, each part of any face lies in the same place.

    Args:
        crop: the square of the image, RGB.
        points: in units of the square's side, from its upper left corner.
        square: of the image.
        image_size: rows and columns of the image.

    Returns:
        Float32 light with its mean taken off and over its deviation, red and blue over light in one fixed unit, 1
        where the surface faces the camera, and 1 inside the image.
    """
    sheet = face_sheet()
    rimmed = _with_rim(points, sheet.outline).astype(np.float32)
    corners = rimmed[sheet.triangles]
    places = sum(rimmed[sheet.corners[..., k]] * sheet.weights[..., k, None] for k in range(3))
    in_crop = (places * len(crop) - 0.5).astype(np.float32)
    pixels = cv2.remap(crop, in_crop, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    # Counter-clockwise from outside; v points down.
    facing = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] < 0)[sheet.triangle]
    in_image = square.centre + (places - 0.5) * square.side @ square.axes().T
    inside = ((in_image >= 0) & (in_image <= image_size[::-1])).all(axis=-1)
    seen = sheet.covered & facing & inside
    red, green, blue = np.moveaxis(pixels.astype(np.float32), -1, 0)
    light = 0.3 * red + 0.59 * green + 0.11 * blue
    chosen = seen if seen.sum() >= FEWEST else sheet.covered
    flat = (light - light[chosen].mean()) / (light[chosen].std() + NO_CONTRAST)
    colours = [(x - light - np.median((x - light)[chosen])) / COLOUR for x in (red, blue)]
    channels = [flat.clip(-4, 4), *(x.clip(-3, 3) for x in colours), facing, inside]
    return np.stack([x * sheet.covered for x in channels], axis=-1).astype(np.float32)


def measures(
    face: MeshedFace, crop: UInt8[np.ndarray, "C C 3"], image_size: tuple[int, int]
) -> Float[np.ndarray, " M"]:
    """What else tells of a face, by ``MEASURES``; NaN where the second network did not run."""
    square, points = face.square, face.points.astype(np.float64)
    in_square = square.from_image(points)
    grey = crop.astype(np.float32) @ np.full(3, 1 / 3, np.float32)
    middle = np.s_[len(crop) // 5 : -len(crop) // 5]
    contrast = float(grey[middle, middle].std())
    edges = float(cv2.Laplacian(grey, cv2.CV_32F)[middle, middle].std())
    reference = np.asarray(load_coarse_mesh().reference, np.float64)
    fit = procrustes(reference, in_square, scaling=True)
    pitch, yaw, _ = pitch_yaw_roll(np.asarray(fit.rotation))
    outside = np.concatenate([-points[:, :2], points[:, :2] - image_size[::-1]], axis=1).max(axis=1) > 0
    values = [
        _logit(face.score),
        _logit(face.detection_score),
        math.log(face.mirror_gap + 1e-3),
        math.log(face.size),
        math.log(edges / (contrast + 3) + 1e-2),
        math.log(contrast + 1),
        float(grey[middle, middle].mean()) / 64,
        math.log(float(np.linalg.norm(fit.apply(reference) - in_square, axis=1).mean()) + 1e-3),
        abs(yaw),
        pitch,
        1 - math.cos(square.angle),
        float(outside.mean()),
    ]
    if face.points_478 is None or face.blendshapes is None:
        return np.array([*values, *[math.nan] * (len(REGIONS) + 2)])
    ibug = load_coarse_mesh().ibug68
    gaps = np.linalg.norm(face.points_478[ibug, :2] - points[ibug, :2], axis=1) / square.side
    of_regions = [math.log(float(gaps[list(indices)].mean()) + 1e-3) for indices in REGIONS.values()]
    blink = abs(float(face.blendshapes[BLINKS[0]] - face.blendshapes[BLINKS[1]]))
    return np.array([*values, math.log(face.version_gap + 1e-3), *of_regions, blink])


class FaceConfidence:
    """The check of a found face: a small convolutional network that sees the unfolded face, and what is measured.

    ``scripts/build/train_face_confidence.py`` trains it.

    Args:
        path: of the weights; None: those that come with the package.

    Raises:
        AssetError: the file is missing, damaged, or of another check than this one.
    """

    def __init__(self, path: Path | None = None):
        self.weights = _read(path)

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], face: MeshedFace) -> FaceCheck:
        """What can be believed of a face of an image.

        Raises:
            ValueError: the face has no square.
        """
        if face.square is None:
            raise ValueError("a face without its square cannot be checked")
        crop = cut_square(image, face.square, CROP)
        size = image.shape[:2]
        flat = unfold(crop, face.square.from_image(face.points)[:, :2], face.square, size)
        outputs = dict(
            zip(OUTPUTS, self.probabilities(flat, measures(face, crop, size)).tolist(), strict=True)
        )
        return FaceCheck(outputs["all"], outputs["face"], {name: outputs[name] for name in REGIONS})

    def probabilities(
        self, flat: Float[np.ndarray, "S S 5"], measured: Float[np.ndarray, " M"]
    ) -> Float[np.ndarray, "8"]:
        """``OUTPUTS`` of what ``unfold`` and ``measures`` give, calibrated."""
        w = self.weights
        x = flat
        for layer in range(LAYERS):
            x = _convolved(x, w[f"kernel{layer}"], w[f"bias{layer}"])
        z = np.nan_to_num(((measured - w["mean"]) / w["deviation"]).clip(-4, 4), nan=0.0).astype(np.float32)
        x = np.concatenate([x.ravel(), z])
        x = np.maximum(x @ w["hidden_kernel"] + w["hidden_bias"], 0)
        logits = x @ w["out_kernel"] + w["out_bias"]
        return 1 / (1 + np.exp(-(w["slope"] * logits + w["offset"])))


def _convolved(x, kernel, bias):
    """Convolution with stride 2, padded by half the kernel, then the positive part."""
    half = len(kernel) // 2
    x = np.pad(x, ((half, half), (half, half), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(0, 1))[::2, ::2]
    rows, columns = windows.shape[:2]
    flat = windows.transpose(0, 1, 3, 4, 2).reshape(rows * columns, -1)
    out = flat @ kernel.reshape(-1, kernel.shape[-1]) + bias
    return np.maximum(out, 0).reshape(rows, columns, -1)


def asset_of_package() -> Path:
    """The weights that come with the package."""
    return Path(str(resources.files(__package__) / "assets" / ASSET))


def _read(path):
    path = asset_of_package() if path is None else path
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            weights = {key: data[key] for key in data.files}
        about = {key: tuple(weights.pop(key).tolist()) for key in ("outputs", "measures")}
        if about != {"outputs": OUTPUTS, "measures": MEASURES}:
            raise ValueError("it is of another version of the check")
        return {key: value.astype(np.float32) for key, value in weights.items() if value.dtype.kind == "f"}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise AssetError(
            f"{path}: the weights of the check of found faces cannot be read ({error}); install n2f-jax again, or make "
            "them with scripts/build/train_face_confidence.py"
        ) from error


def _logit(probability):
    p = min(max(probability, 1e-5), 1 - 1e-5)
    return math.log(p / (1 - p))
