"""How many steps of refinement pay on the free front end's maps: sampled heads, seen as it sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import flame_jax
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.metrics.head_errors import rotation_error_degrees, vertex_errors
from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT, from_pretrained
from n2f_jax.preprocessing.open_sets import RENDERED, see_heads
from n2f_jax.reconstruction.reconstructor import Reconstructor

_SHOWN = ("face", "eyes", "nose", "mouth", "left_ear", "right_ear")


@dataclasses.dataclass(frozen=True)
class Row:
    """Errors after so many steps.

    Attributes:
        steps: at most; 0 is the network with its camera on the points.
        millimetres: region → ``(heads,)`` mean vertex error, aligned rigidly on the face.
        rotation_degrees: ``(heads,)``.
    """

    steps: int
    millimetres: dict[str, np.ndarray]
    rotation_degrees: np.ndarray


def compare_front_end(
    checkpoint: Path | None, steps: Sequence[int], heads: int = 96, seed: int = 0
) -> list[Row]:
    """Refines heads of the open model from the front end's normals, mask, landmarks and 468 points.

    Args:
        checkpoint: of the network; None for the one that ships.
        steps: numbers of steps to compare, on the same heads.
        heads: how many.
        seed: of the heads, a stream that no training draws from.
    """
    model = flame_jax.load_open_head()
    mesh = jax.tree.map(jnp.asarray, load_coarse_mesh())
    key = jax.random.fold_in(jax.random.key(seed), 0x46524F4E)
    saved = from_pretrained(checkpoint or DEFAULT_CHECKPOINT, model)
    size, scale = saved.inputs.size, saved.inputs.crop_scale
    indices = jnp.arange(heads, dtype=jnp.int32)
    seen = see_heads(key, indices, model, mesh, config=RENDERED, size=size, crop_scale=scale)
    truth, _ = flame_jax.decode(model, seen.params)
    rows = []
    for number in steps:
        reconstructor = Reconstructor(saved, model, refine=number)
        found = reconstructor.infer(
            seen.normals,
            seen.mask,
            seen.camera.focal,
            seen.camera.principal_point,
            seen.landmarks,
            seen.points[..., :2],
        )
        errors = vertex_errors(model, found.vertices, truth)
        turned = rotation_error_degrees(found.camera.rotation, seen.camera.rotation)
        rows.append(Row(number, {name: np.asarray(errors[name]) for name in _SHOWN}, np.asarray(turned)))
    return rows


def format_front_end_table(rows: Sequence[Row]) -> str:
    """Markdown: means, and for the face the standard error."""
    heads = len(rows[0].rotation_degrees)
    lines = [
        f"| {heads} heads through the free front end, mm | " + " | ".join(_SHOWN) + " | rotation, ° |",
        "|" + "---|" * (len(_SHOWN) + 2),
    ]
    for row in rows:
        face = row.millimetres["face"]
        cells = [f"{face.mean():.2f} ± {face.std(ddof=1) / heads**0.5:.2f}"]
        cells += [f"{row.millimetres[name].mean():.2f}" for name in _SHOWN[1:]]
        name = f"{row.steps} steps" if row.steps else "network"
        lines.append(f"| {name} | " + " | ".join([*cells, f"{row.rotation_degrees.mean():.2f}"]) + " |")
    return "\n".join(lines)
