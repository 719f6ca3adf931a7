"""The paper's own front end: Pixel3DMM's normals (and UV) under FaRL's face mask, on photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.frontends.base import Frontend, FrontendFace, Image, Provenance
from n2f_jax.frontends.dlpack import to_jax
from n2f_jax.frontends.face_landmarks import FaceLandmarker, MeshedFace
from n2f_jax.frontends.farl import FarlParser, cut_for_parser
from n2f_jax.frontends.files import record
from n2f_jax.frontends.pixel3dmm import COMMIT
from n2f_jax.frontends.pixel3dmm.checkpoint import load_network
from n2f_jax.frontends.pixel3dmm.crop import INPUT_SIZE, SCALE, cut, face_window
from n2f_jax.frontends.pixel3dmm.predict import Precision, predict_normals, predict_uv
from n2f_jax.frontends.resample import Window, crop_maps
from n2f_jax.geometry.crop import landmark_crop
from n2f_jax.runtime.assets_cache import FACE_LANDMARKER, MEDIAPIPE


class Pixel3dmmFrontend(Frontend):
    """Faces and their 68 landmarks from the free face mesh, maps from Pixel3DMM and FaRL in PyTorch.

    Everything after the crops are cut stays on PyTorch's device and goes to JAX by DLPack; a front end for a GPU wants
    a JAX that leaves memory (``XLA_PYTHON_CLIENT_PREALLOCATE=false``, which ``scripts/reconstruct.py`` sets).

    Args:
        normals: Pixel3DMM's ``normals.ckpt``.
        uv: its ``uv.ckpt``; None for no UV.
        farl_weights: FaRL's TorchScript file; None: where facer keeps it.
        size: S, side of the maps in pixels.
        crop_scale: side of the crop over the longer side of the 68 landmarks' box.
        max_faces: keep only the largest of each image; None keeps all.
        device: of PyTorch; None for the GPU if there is one.
        precision: of the networks' matrix products (FaRL's stay in float32).
        landmarker: finds the faces; None for the face mesh.

    Raises:
        FrontendFileError, AssetError, ImportError: a file or package is missing or wrong; the message has the remedy.
    """

    name = "pixel3dmm"

    def __init__(
        self,
        normals: str | Path | None,
        uv: str | Path | None = None,
        farl_weights: str | Path | None = None,
        *,
        size: int,
        crop_scale: float,
        max_faces: int | None = None,
        device: str | None = None,
        precision: Precision = "float32",
        landmarker: FaceLandmarker | None = None,
    ):
        self.size, self.crop_scale, self.max_faces, self.precision = size, crop_scale, max_faces, precision
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._normals = load_network(normals, "normals", self.device)
        self._uv = None if uv is None else load_network(uv, "uv_map", self.device)
        self._parser = FarlParser(farl_weights, self.device)
        self._landmarker = landmarker or FaceLandmarker()
        paths = {"pixel3dmm_normals": Path(normals), "farl": self._parser.path}
        if uv is not None:
            paths["pixel3dmm_uv"] = Path(uv)
        self.files = record(paths) | MEDIAPIPE.digests | FACE_LANDMARKER.digests
        self._provenance = Provenance(
            frontend=self.name,
            files=self.files,
            commit=COMMIT,
            region=f"Pixel3DMM's crop: {SCALE} times the box of the face mesh, {INPUT_SIZE} pixels",
            mask="FaRL's classes",
            landmarks="the face mesh",
        )

    def detect(self, images: Sequence[Image], sources: Sequence[Path | None]) -> list[list[FrontendFace]]:
        """The faces of each image, the largest first; all of them go through the networks together."""
        found = [self._landmarker(image)[: self.max_faces] for image in images]
        places = [(image, face) for image, faces in zip(images, found, strict=True) for face in faces]
        if not places:
            return [[] for _ in images]
        windows = [face_window(face.box, image.shape[:2]) for image, face in places]
        crops = torch.from_numpy(
            np.stack([cut(image, window) for (image, _), window in zip(places, windows, strict=True)])
        ).to(self.device)
        heads, points, head_windows = zip(
            *(cut_for_parser(image, five_points(_landmarks(face))) for image, face in places), strict=True
        )
        normals = to_jax(predict_normals(self._normals, crops, self.precision))
        uv = None if self._uv is None else to_jax(predict_uv(self._uv, crops, self.precision))
        classes = to_jax(self._parser(*(torch.from_numpy(np.stack(x)) for x in (heads, points))))

        maps = zip(
            windows, head_windows, normals, classes, [None] * len(places) if uv is None else uv, strict=True
        )
        faces = iter([self._face(face, *of_face) for (_, face), of_face in zip(places, maps, strict=True)])
        return [[next(faces) for _ in of_image] for of_image in found]

    def _face(
        self, face: MeshedFace, window: Window, head_window: Window, normals, classes, uv
    ) -> FrontendFace:
        landmarks = _landmarks(face)
        crop = landmark_crop(landmarks, self.crop_scale)
        maps = crop_maps(window, crop, self.size, normals, classes, uv, head_window)
        return FrontendFace(
            normals=maps.normals,
            mask=maps.mask,
            crop=crop,
            landmarks_68=landmarks,
            score=face.score,
            points_468=face.points,
            uv=maps.uv,
            classes=maps.classes,
            eyes=face.eyes,
            blendshapes=face.blendshapes,
            confidence=face.confidence,
            region_confidence=face.region_confidence,
            provenance=self._provenance,
        )


def five_points(landmarks: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "5 2"]:
    """The points that place FaRL's parser, which facer takes from its detector, from the 68 landmarks.

    The middles of the eyes, the nose's tip and the mouth's corners.
    """
    eyes = [landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)]
    return np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]])


def _landmarks(face: MeshedFace) -> np.ndarray:
    return face.points[load_coarse_mesh().ibug68, :2]
