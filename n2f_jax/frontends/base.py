"""What every front end gives: for each face of a photograph, the network's input and where it was cut."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import overload

import jax
import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

import n2f_jax
from n2f_jax.frontends.eyes import Eyes
from n2f_jax.geometry.boxes import bounding_box, box_overlap
from n2f_jax.geometry.crop import Crop

# Overlap of the 68 landmarks' boxes in consecutive frames from which two faces are one.
SAME_FACE = 0.3


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a face's maps come from, for the record (JSON by ``dataclasses.asdict``).

    No front end assumes a focal length: ``n2f_jax.geometry.focal`` resolves that of the photograph.

    Attributes:
        frontend: its name.
        version: of n2f-jax.
        files: every network or archive that took part: its role → its SHA-256.
        commit: of the outside repository whose conventions hold, where there is one.
        region: the square that the front end's own networks saw, in words; the maps are cut again to the paper's
            landmark box.
        mask: what decided the mask.
        landmarks: what found the 68 landmarks.
    """

    frontend: str
    files: Mapping[str, str]
    region: str
    mask: str
    landmarks: str
    commit: str | None = None
    version: str = n2f_jax.__version__


@dataclasses.dataclass(frozen=True)
class FrontendFace:
    """One face. S is the network's input size. Maps are NumPy arrays, or JAX arrays that never left their device.

    Attributes:
        normals: ``(S, S, 3)`` float32 unit normals in the front end's head frame (``face_mesh.map_frames``), zero
            outside the mask.
        mask: ``(S, S)`` float32, 1 on the face.
        crop: the square of the original image that the maps show: the landmark box of the paper.
        landmarks_68: ``(68, 2)`` float32 iBUG landmarks, pixels of the original image (centres at +0.5).
        score: the front end's probability that this is a face; NaN where it gives none.
        points_468: ``(468, 3)`` float32 face mesh points, original pixels and depth in the same scale
            growing away from the camera; None for a front end without them.
        uv: ``(S, S, 2)`` float32 in [−1, 1], zero outside the mask: ``2·(u, v) − 1`` of FLAME's texture coordinates,
            u towards the subject's left, v up, as ``n2f_jax.render`` draws them; None for a front end without UV.
        classes: ``(S, S)`` uint8, ids of ``n2f_jax.frontends.face_classes``; None for a front end without a parser.
        provenance: where the maps come from; None where it is not known.
        eyes: how far they are closed and where they look; None for a front end that does not see.
        blendshapes: ``(52,)`` ARKit's scores by name (``frontends.blendshapes.BLENDSHAPES``); None likewise.
        activations: ``(2, D)`` what a landmark network made of the face's crop and of the mirrored one
            (``frontends.face_networks.CropPoints``); NaN for one that it did not see, None likewise.
        confidence: probability that the inner 51 landmarks lie within 12 % of the eyes' distance; NaN where the front
            end does not say.
        region_confidence: the same of regions of the face (``frontends.face_confidence.REGIONS``): low where a mask, a
            hand or hair hides one, and what is reconstructed there is invented.
    """

    normals: Float[np.ndarray | jax.Array, "S S 3"]
    mask: Float[np.ndarray | jax.Array, "S S"]
    crop: Crop
    landmarks_68: Float[np.ndarray, "68 2"]
    score: float
    points_468: Float[np.ndarray, "468 3"] | None = None
    uv: Float[np.ndarray | jax.Array, "S S 2"] | None = None
    classes: UInt8[np.ndarray | jax.Array, "S S"] | None = None
    provenance: Provenance | None = None
    eyes: Eyes | None = None
    blendshapes: Float[np.ndarray, "52"] | None = None
    activations: Float[np.ndarray, "2 D"] | None = None
    confidence: float = math.nan
    region_confidence: Mapping[str, float] = dataclasses.field(default_factory=dict)


def largest_face_size(faces: Sequence[FrontendFace], crop_scale: float) -> float:
    """Longer side of the box around the 68 landmarks of the largest face, pixels; NaN without any.

    Args:
        faces: of one image.
        crop_scale: side of their crops over that of the box.
    """
    return max((float(face.crop.side) for face in faces), default=math.nan) / crop_scale


Image = UInt8[np.ndarray, "H W 3"]


class Frontend(abc.ABC):
    """RGB images → faces, the largest first; an empty list where there is none.

    Call it with one image, or with several at once so that its networks see whole batches.

    Attributes:
        name: recorded in what is written.
        files: role → SHA-256 of the networks that it runs; another file may mean other maps.
        can_follow: ``follow`` is quicker than finding faces anew.
    """

    name: str
    can_follow: bool = False
    files: Mapping[str, str] = MappingProxyType({})

    @abc.abstractmethod
    def detect(self, images: Sequence[Image], sources: Sequence[Path | None]) -> list[list[FrontendFace]]:
        """The faces of each image.

        Args:
            images: upright, of any sizes.
            sources: the file of each, for front ends that look up what was computed before; None where unknown.
        """

    def follow(self, image: Image, previous: FrontendFace) -> FrontendFace | None:
        """The face of a clip's frame that was there in the frame before; None where there is none any more.

        Here: what overlaps it most of the faces found anew. A front end that can look where the face was is quicker.

        Args:
            image: upright.
            previous: of the frame before.
        """
        box = bounding_box(previous.landmarks_68)
        shared = [(box_overlap(box, bounding_box(face.landmarks_68)), face) for face in self(image)]
        overlap, face = max(shared, key=lambda one: one[0], default=(0.0, None))
        return face if overlap >= SAME_FACE else None

    @overload
    def __call__(self, images: Image, sources: Path | None = None) -> list[FrontendFace]: ...
    @overload
    def __call__(
        self, images: Sequence[Image], sources: Sequence[Path | None] | None = None
    ) -> list[list[FrontendFace]]: ...
    def __call__(self, images, sources=None):
        """``detect`` for one ``(H, W, 3)`` uint8 image (faces), or for a sequence (a list of faces for each).

        Raises:
            TypeError, ValueError: an image is none (``as_image``), or there is another number of sources than images.
        """
        one = isinstance(images, np.ndarray) and images.ndim == 3
        images = [as_image(image) for image in ([images] if one else images)]
        sources = [None] * len(images) if sources is None else [sources] if one else list(sources)
        if len(sources) != len(images):
            raise ValueError(f"{len(images)} images and {len(sources)} sources")
        faces = self.detect(images, sources)
        return faces[0] if one else faces


def as_image(image: object) -> Image:
    """An image as a NumPy array, from one or from another library's array.

    Raises:
        TypeError: not an array; a PIL image is none, for it may lie on its side or have a palette.
        ValueError: not ``(H, W, 3)`` uint8, or without a pixel.
    """
    if isinstance(image, PIL.Image.Image):
        raise TypeError(
            "an image is an (H, W, 3) uint8 RGB array or a file, not a PIL image: "
            "np.asarray(PIL.ImageOps.exif_transpose(image).convert('RGB')) is one"
        )
    if not hasattr(image, "__array__"):
        raise TypeError(f"an image is an (H, W, 3) uint8 RGB array, not a {type(image).__name__}")
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise ValueError(f"an image is (H, W, 3) uint8 RGB, not {array.shape} {array.dtype}")
    if not array.size:
        raise ValueError(f"an image has at least one pixel, and this one's shape is {array.shape}")
    return array
