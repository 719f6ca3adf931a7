"""Measures what a network's answers are worth, on heads of the sampler: ``models.calibration``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from tqdm import tqdm

from n2f_jax.data.assets import Assets
from n2f_jax.data.degradation_presets import ESTIMATED, FRONT_END_MEASURED
from n2f_jax.data.sampler import SyntheticConfig, make_batch, network_inputs
from n2f_jax.models.calibration import Calibration, calibrate, to_unknowns
from n2f_jax.models.correction import Scene
from n2f_jax.models.n2fnet import camera_to_output
from n2f_jax.models.pretrained import Pretrained

_STREAM = 0x43414C49
_COMMON = {"crop_centre_jitter": 0.03, "crop_scale_jitter": 0.05, "closed_eyes_share": 0.1}
# Half of the normal maps are clean, half as a network errs.
_NORMALS: tuple[Mapping[str, Any], ...] = ({**_COMMON, "eight_bit": True}, {**_COMMON, **ESTIMATED})
# Kind of input → settings of the sampler that make it.
SETTINGS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "normals": _NORMALS,
    "normals_points": tuple({**one, "point_share": 1.0, **FRONT_END_MEASURED["v2"]} for one in _NORMALS),
    **{
        f"face_mesh_{version}": ({**_COMMON, "front_end_share": 1.0, "point_share": 1.0, **settings},)
        for version, settings in FRONT_END_MEASURED.items()
    },
}


@dataclasses.dataclass(frozen=True)
class Answers:
    """N heads with what a network made of them.

    Attributes:
        features, camera_features: ``(N, W)`` what the last layers of the FLAME and the camera module are given.
        answers: ``(N, U)`` of the network, corrected where it has a correction, as unknowns
            (``calibration.to_unknowns``).
        truths: ``(N, U)``.
        targets: ``(N, O)`` what the FLAME module's output should be.
        camera_targets: ``(N, 9)`` 6D of ``R_φ`` and (u, v, s).
    """

    features: Float[np.ndarray, "N W"]
    camera_features: Float[np.ndarray, "N W"]
    answers: Float[np.ndarray, "N U"]
    truths: Float[np.ndarray, "N U"]
    targets: Float[np.ndarray, "N O"]
    camera_targets: Float[np.ndarray, "N C"]


def collect_answers(
    saved: Pretrained, assets: Assets, kind: str, heads: int, *, batch_size: int = 64, seed: int = 0
) -> Answers:
    """A network's answers to heads of the sampler.

    Args:
        saved: the network; its input description says what the crops are.
        assets: head model, what drawing needs, and where a correction looks.
        kind: of ``SETTINGS``.
        heads: rounded up to whole batches of each setting.
        batch_size: heads drawn at once.
        seed: of the heads.
    """
    graph, state = nnx.split(saved.network)
    inputs = saved.inputs

    def make(config: SyntheticConfig) -> Callable[[Assets, Any, Array], dict[str, Array]]:
        @jax.jit
        def one(assets: Assets, state: Any, index: Array) -> dict[str, Array]:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _STREAM), index)
            batch = make_batch(
                key, assets.model, assets.topology, config, batch_size, coarse_mesh=assets.coarse_mesh
            )
            network = nnx.merge(graph, state)
            shown = network_inputs(batch, config)
            tokens = network.tokens(*shown)
            params, camera = batch["params"], batch["camera"]
            scene = Scene.of_crops(assets.places, camera.focal, camera.principal_point, batch.get("points"))
            wanted = camera_to_output(camera, config.image_size, saved.config.camera_parameterization)
            return {
                "features": network.flame.features(tokens),
                "camera_features": network.camera.features(tokens),
                "answers": to_unknowns(network(*shown, scene).flame_params()),
                "truths": to_unknowns(params),
                "targets": jnp.concatenate([params.shape, params.expression, params.jaw, params.eyelids], -1),
                "camera_targets": jnp.concatenate(wanted, axis=-1),
            }

        return one

    parts = []
    for number, settings in enumerate(SETTINGS[kind]):
        config = SyntheticConfig(image_size=inputs.size, crop_scale=inputs.crop_scale, **settings)
        one = make(config)
        batches = -(-heads // (len(SETTINGS[kind]) * batch_size))
        for index in tqdm(range(batches), desc=f"{kind} {number + 1}/{len(SETTINGS[kind])}", unit="batch"):
            parts.append(jax.device_get(one(assets, state, jnp.asarray(2 * index + number))))
    return Answers(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def calibrations(
    saved: Pretrained, assets: Assets, heads: int, *, batch_size: int = 64, seed: int = 2
) -> dict[str, Calibration]:
    """What a network's answers are worth for every kind of input that the assets can draw.

    Args:
        saved, assets, batch_size, seed: as for ``collect_answers``; without a face mesh in ``assets`` normals alone.
        heads: of each kind, at least twice the unknowns.

    Raises:
        ValueError: too few heads.
    """
    found = {}
    for kind in SETTINGS if assets.coarse_mesh is not None else ("normals",):
        answers = collect_answers(saved, assets, kind, heads, batch_size=batch_size, seed=seed)
        found[kind] = calibrate(answers.answers, answers.truths)
    return found


def refit_last_layer(
    features: Float[np.ndarray, "N W"],
    targets: Float[np.ndarray, "N O"],
    mean: tuple[float, ...],
    ridge: float = 1e-3,
) -> tuple[Float[np.ndarray, "W O"], Float[np.ndarray, " O"]]:
    """Kernel and bias of a regression module's last layer by least squares, the rest of the network as it is.

    Args:
        features: what the layer is given.
        targets: what the module should answer.
        mean: the module's, which its last layer's output is added to.
        ridge: as a share of each feature's variance.
    """
    features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    centre, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    x = (features - centre) / scale
    average = targets.mean(axis=0)
    kernel = np.linalg.solve(x.T @ x + ridge * len(x) * np.eye(x.shape[1]), x.T @ (targets - average))
    kernel /= scale[:, None]
    return kernel, average - centre @ kernel - np.asarray(mean)
