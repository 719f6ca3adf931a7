"""A random head model in FLAME's format, for tests that need no real one."""

import numpy as np


def random_arrays(seed=0, num_vertices=60, num_faces=90, num_shape=7, num_expression=5):
    """FLAME-named arrays of a model without meaning but with every part switched on."""
    rng = np.random.default_rng(seed)

    def rows_summing_to_one(*shape):
        x = rng.uniform(0.01, 1.0, shape)
        return x / x.sum(-1, keepdims=True)

    return {
        "v_template": rng.normal(0, 0.1, (num_vertices, 3)),
        "shapedirs": rng.normal(0, 0.01, (num_vertices, 3, num_shape + num_expression)),
        "num_shape": np.array(num_shape),
        "posedirs": rng.normal(0, 0.01, (num_vertices, 3, 36)),
        "J_regressor": rows_summing_to_one(5, num_vertices),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "weights": rows_summing_to_one(num_vertices, 5),
        "f": rng.permuted(np.tile(np.arange(num_vertices), (num_faces, 1)), axis=1)[:, :3],
        "l_eyelid": rng.normal(0, 0.01, (num_vertices, 3)),
        "r_eyelid": rng.normal(0, 0.01, (num_vertices, 3)),
        "full_lmk_faces_idx": rng.integers(0, num_faces, 68),
        "full_lmk_bary_coords": rows_summing_to_one(68, 3),
        "dynamic_lmk_faces_idx": rng.integers(0, num_faces, (79, 17)),
        "dynamic_lmk_bary_coords": rows_summing_to_one(79, 17, 3),
        "mask_face": np.arange(10),
    }
