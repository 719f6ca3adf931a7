"""Files of GNM Head's schema, made up: the real one is neither shipped nor needed by the tests."""

import numpy as np

JOINTS = ("neck", "head", "left_eye", "right_eye")
REGIONS = ("forehead_region", "nose_region", "chin_region", "left_orbital_region", "right_orbital_region")
GROUPS = (*REGIONS, "ears", "upper_lip", "lower_lip", "left_eye", "right_eye", "upper_teeth", "mouth_sock")


def gnm_arrays(seed=0, vertices=60, triangles=90, identity=7, expression=5):
    """Every array of the schema at random, every part switched on; metres."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.01, 1.0, (4, vertices))
    regressor = rng.uniform(0.0, 1.0, (4, vertices))
    corners = rng.permuted(np.tile(np.arange(vertices), (triangles, 1)), axis=1)[:, :3]
    return {
        "version": np.array("3.0"),
        "variant": np.array("head"),
        "template_vertex_positions": rng.normal((0.0, 0.27, 0.1), 0.1, (vertices, 3)).astype(np.float32),
        "template_joint_positions": np.array(
            [[0, 0.12, 0.02], [0, 0.19, 0.05], [0.032, 0.28, 0.11], [-0.032, 0.28, 0.11]], np.float32
        ),
        "vertex_identity_basis": rng.normal(0, 0.01, (identity, vertices, 3)).astype(np.float32),
        "joint_identity_basis": rng.normal(0, 0.01, (identity, 4, 3)).astype(np.float32),
        "expression_basis": rng.normal(0, 0.01, (expression, vertices, 3)).astype(np.float32),
        "identity_names": np.array([f"head_{k:03}" for k in range(identity)]),
        "joint_names": np.array(JOINTS),
        "expression_names": np.array([f"lower_face_region_{k:03}" for k in range(expression)]),
        "joint_parent_indices": np.array([0, 0, 1, 1], np.int32),
        "skinning_weights": (weights / weights.sum(0)).astype(np.float32),
        "quads": np.zeros((triangles // 2, 4), np.int32),
        "triangles": corners.astype(np.int32),
        "quad_uvs": np.zeros((triangles // 2, 4, 2), np.float32),
        "triangle_uvs": rng.uniform(size=(triangles, 3, 2)).astype(np.float32),
        "mesh_component_names": np.array(["skin", "left_eye", "right_eye"]),
        "mirror_indices": np.arange(vertices, dtype=np.int32),
        "joint_regressor": (regressor / regressor.sum(1, keepdims=True)).astype(np.float32),
        "pose_correctives_regressor": rng.normal(0, 0.005, (36, 3 * vertices)).astype(np.float32),
        "bone_aligned_template_joint_orientations": np.tile(np.eye(3, dtype=np.float32), (4, 1, 1)),
        "vertex_groups": rng.uniform(0, 1, (len(GROUPS), vertices)).astype(np.float32),
        "vertex_group_names": np.array(GROUPS),
    }


def landmark_text(triangles, seed=0):
    """``head_sparse_68.txt``: three pairs of vertex and weight a line, three digits each."""
    rng = np.random.default_rng(seed)
    lines = []
    for corners in triangles[rng.integers(0, len(triangles), 68)]:
        shares = rng.dirichlet(np.ones(3))
        lines.append(
            " ".join(f"{v} {share:.3f}" for v, share in zip(rng.permuted(corners), shares, strict=True))
        )
    return "\n".join(lines) + "\n"


def write_gnm(folder, arrays=None, landmarks=True, **sizes):
    """``gnm_head.npz`` and, with ``landmarks``, ``head_sparse_68.txt`` in a folder; its path."""
    arrays = gnm_arrays(**sizes) if arrays is None else arrays
    path = folder / "gnm_head.npz"
    np.savez_compressed(path, **arrays)
    if landmarks:
        (folder / "head_sparse_68.txt").write_text(landmark_text(arrays["triangles"]), encoding="utf-8")
    return path
