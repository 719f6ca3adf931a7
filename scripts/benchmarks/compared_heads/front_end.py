"""Sampled heads through the free front end: its normals, mask, landmarks and 468 points, with its errors."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import flame_jax
from flame_jax import HeadModel
from n2f_jax.benchmark.methods import Crops, Prediction
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.metrics.head_errors import rotation_error_degrees, vertex_errors
from n2f_jax.models.pretrained import InputSpec
from n2f_jax.preprocessing.open_sets import RENDERED, observe_heads

REGIONS = ("face", "eyes", "nose", "mouth", "left_ear", "right_ear")
COLUMNS = {f"{name.replace('_', ' ')}, mm": f"{name}_mm" for name in REGIONS} | {
    "rotation, °": "rotation_deg"
}


class FrontEndHeads:
    """Heads of a stream that no training draws from.

    Args:
        model: the open head, in which the front end's points are embedded.
        inputs: of the network; the maps have its size and crop.
        count: how many.
        seed: of the heads.
    """

    def __init__(self, model: HeadModel, inputs: InputSpec, count: int, seed: int = 0):
        self._model = model
        mesh = jax.tree.map(jnp.asarray, load_coarse_mesh())
        key = jax.random.fold_in(jax.random.key(seed), 0x46524F4E)
        indices = jnp.arange(count, dtype=jnp.int32)
        self._heads = observe_heads(
            key, indices, model, mesh, config=RENDERED, size=inputs.size, crop_scale=inputs.crop_scale
        )

    def __len__(self) -> int:
        return len(self._heads.mask)

    def _head(self, index: int):
        return jax.tree.map(lambda x: x[index : index + 1], self._heads)

    def crops(self, index: int) -> Crops:
        head = self._head(index)
        return Crops(
            normals=head.normals,
            mask=head.mask,
            landmarks=head.landmarks,
            focal=head.camera.focal,
            principal_point=head.camera.principal_point,
            points=head.points[..., :2],
        )

    def figures(self, index: int, prediction: Prediction) -> dict[str, float]:
        """``COLUMNS``."""
        head = self._head(index)
        errors = _errors(self._model, head.params, head.camera, *prediction)
        return {name: float(value[0]) for name, value in jax.device_get(errors).items()}


@jax.jit
def _errors(model, true_params, true_camera, params, camera):
    (truth, _), (predicted, _) = (flame_jax.decode(model, one) for one in (true_params, params))
    errors = vertex_errors(model, predicted, truth)
    turned = rotation_error_degrees(camera.rotation, true_camera.rotation)
    return {f"{name}_mm": errors[name] for name in REGIONS} | {"rotation_deg": turned}
