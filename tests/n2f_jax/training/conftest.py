"""A head small enough to train on in seconds: an ellipsoid with FLAME's arrays, and the small run around it."""

import numpy as np
import pytest

import flame_jax
from n2f_jax.models.parameters import flatten
from n2f_jax.training import setup
from n2f_jax.training.optimizers import assign_groups
from tests.n2f_jax.training.config_file import read_config

NUM_SHAPE, NUM_EXPRESSION = 6, 4


def _ellipsoid(rows=13, columns=20):
    """Vertices (V, 3) and outward triangles of a head-sized ellipsoid, the face towards +z."""
    polar = np.linspace(0.06, np.pi - 0.06, rows)
    around = np.arange(columns) * (2 * np.pi / columns)
    theta, phi = np.meshgrid(polar, around, indexing="ij")
    points = np.stack(
        [0.075 * np.sin(theta) * np.sin(phi), 0.11 * np.cos(theta), 0.09 * np.sin(theta) * np.cos(phi)],
        axis=-1,
    )
    index = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(index, -1, axis=1)
    quads = np.stack([index[:-1], index[1:], right[1:], right[:-1]], axis=-1).reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return points.reshape(-1, 3), faces


def toy_head_arrays():
    """FLAME's arrays of the ellipsoid: smooth random directions, a jaw, 68 landmarks on the front."""
    rng = np.random.default_rng(3)
    vertices, faces = _ellipsoid()
    count = len(vertices)

    def directions(number, scale):
        frequency = rng.normal(size=(number, 3)) * 20.0
        phase = rng.uniform(0, 2 * np.pi, size=number)
        waves = np.sin(vertices @ frequency.T + phase)  # (V, number)
        return scale * waves[:, None, :] * rng.normal(size=(1, 3, number))

    front = np.flatnonzero(vertices[:, 2] > 0.02)
    triangles = np.flatnonzero(np.isin(faces, front).all(axis=1))
    chosen = triangles[np.linspace(0, len(triangles) - 1, 68).round().astype(int)]
    weights = np.zeros((count, 5))
    low = (vertices[:, 1] < -0.03) & (vertices[:, 2] > 0.0)
    weights[:, 1], weights[low, 1], weights[low, 2] = 1.0, 0.3, 0.7
    regressor = np.zeros((5, count))
    regressor[:, :] = 1.0 / count
    lid = np.zeros((count, 3))
    lid[front[: len(front) // 4], 1] = -0.004
    third = np.full((68, 3), 1 / 3)
    return {
        "v_template": vertices.astype(np.float32),
        "shapedirs": np.concatenate(
            [directions(NUM_SHAPE, 0.004), directions(NUM_EXPRESSION, 0.002)], axis=-1
        ),
        "num_shape": np.asarray(NUM_SHAPE),
        "J_regressor": regressor,
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "weights": weights,
        "f": faces.astype(np.int32),
        "l_eyelid": lid,
        "r_eyelid": lid,
        "full_lmk_faces_idx": chosen,
        "full_lmk_bary_coords": third,
        "dynamic_lmk_faces_idx": np.broadcast_to(chosen[:17], (3, 17)),
        "dynamic_lmk_bary_coords": np.broadcast_to(third[:17], (3, 17, 3)),
        "mask_face": front.astype(np.int32),
        "mask_nose": front[:10].astype(np.int32),
        "name": "toy",
    }


@pytest.fixture(scope="session")
def toy_head_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "toy.npz"
    np.savez(path, **toy_head_arrays())
    return path


@pytest.fixture(scope="session")
def toy_head(toy_head_path):
    return flame_jax.load_head_model(toy_head_path)


# What makes either stage's small config a matter of seconds; the same as overrides on a command line.
SMALL_RUN = {
    "model.input_size": 32,
    "model.num_shape": NUM_SHAPE,
    "model.num_expression": NUM_EXPRESSION,
    "model.head_num_heads": 2,
    "model.backbone.width": 32,
    "model.backbone.depth": 1,
    "model.backbone.num_heads": 2,
    "model.backbone.mlp_width": 64,
    "model.backbone.patch_size": 8,
    "data.front_end_share": 0.0,
    "batch_size": 4,
    "total_steps": 12,
    "stage_share": 1.0,
    "optimizer.warmup_steps": 2,
    "log_every": 1,
    "validation.every": 4,
    "validation.num_heads": 4,
    "validation.batch_size": 4,
    "checkpoint.every": 3,
    "save_dtype": "float32",
}


def make_objective(config):
    """The objective of a config."""
    return setup.objective(config)


@pytest.fixture(scope="session")
def small_run(request, toy_head_path):
    """``small_run(stage, **changes)``: the small variant of a stage, shrunk to the toy head."""

    def make(stage, changes=None):
        config = read_config(request.config.rootpath / "configs" / f"stage{stage}.py", "small")
        config.head_model = str(toy_head_path)
        config.update_from_flattened_dict(SMALL_RUN | (changes or {}))
        return config

    return make


@pytest.fixture(scope="session")
def initial(small_run, toy_head):
    """Config, parameters and groups of stage 1's small run, to read and not to change."""
    config = small_run(1)
    params = setup.initial_params(config, toy_head)
    groups = assign_groups([tuple(row) for row in config.optimizer.groups], list(flatten(params)))
    return config, params, groups


@pytest.fixture
def initialised(initial, small_run):
    """The same, with a config of its own."""
    return small_run(1), *initial[1:]
