"""Collects the samples of one half, and keeps them in a file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from face_check.corruptions import KINDS
from face_check.known_faces import known_photographs, known_renders
from face_check.samples import Sample, ghosts, random_of, spoilt_samples
from n2f_jax.frontends.face_landmarks import FaceLandmarker

# Of each face of a photograph every kind once; of a render, which hardly differs from the next, some.
_TWICE = ("hand", "several", "surgical_mask", "eye_patch")
_TEXTURES = 40


def collect(
    photos: Path, renders: Path, split: str, most_renders: int, of_render: int, parts: int
) -> list[Sample]:
    """All samples of a half: of photographs, of renders, and of ghosts.

    Args:
        photos: folder with the listed repositories.
        renders: folder with ``choosing`` and ``reporting``.
        split: ``choosing`` or ``reporting``.
        most_renders: so many pictures at most.
        of_render: samples of each.
        parts: parts of photographs without faces.
    """
    # The check sees a face before anything else is done with its points.
    plain = {"check": False, "eyes": False, "profiles": False}
    sure = FaceLandmarker(**plain)
    # The check learns from what is below the limits too, and is measured on what is above.
    limits = {"min_score": 0.2, "min_detection_score": 0.35} if split == "choosing" else {}
    landmarker = FaceLandmarker(**plain, **limits)
    found: list[Sample] = []
    textures = [np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)]
    kinds = [*KINDS, *(_TWICE if split == "choosing" else ())]
    for known in known_photographs(photos, split, sure):
        if len(textures) < _TEXTURES:
            textures.append(known.image)
        found += spoilt_samples(known, kinds, landmarker, textures)
    print(f"{split}: {len(found)} of photographs", flush=True)
    for known in known_renders(renders / split, most_renders):
        chosen = random_of(known.name, "kinds").choice(KINDS[1:], of_render, replace=False)
        found += spoilt_samples(known, ["none", *map(str, chosen)], landmarker, textures)
    print(f"{split}: {len(found)} with renders", flush=True)
    low = FaceLandmarker(**plain, min_score=0.0, min_detection_score=0.15)
    found += ghosts(photos, split, low, parts, parts // 2)
    print(f"{split}: {len(found)} with ghosts", flush=True)
    return found


def kept(path: Path | None, **arguments: Any) -> list[Sample]:
    """What ``collect`` gives, from the file where it is there already."""
    if path is not None and path.exists():
        with path.open("rb") as stream:
            return pickle.load(stream)
    samples = collect(**arguments)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            pickle.dump(samples, stream)
    return samples
