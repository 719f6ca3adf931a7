"""Decoder, renderer and a training step on the default device against the same code on the CPU.

Where the default device is the CPU they compare it with itself, which keeps this module from rotting;
``scripts/on_gpu.sh`` runs it on a GPU, with ``JAX_PLATFORMS=cuda,cpu``.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from n2f_jax.data.sampler import SyntheticConfig, make_batch
from n2f_jax.render import HeadTopology, render_head
from n2f_jax.training import setup
from n2f_jax.training.optimizers import build_optimizer
from n2f_jax.training.step import initial_state, make_train_step, step_key
from tests.n2f_jax.training.conftest import initial, small_run, toy_head, toy_head_path  # noqa: F401

pytestmark = pytest.mark.medium

SIZE = 128
# Metres. A GPU takes float32 products in TF32, whose factors have 11 bits: 2⁻¹¹ of displacements of a few centimetres.
DECODED_TF32, DECODED_FLOAT32 = 1e-4, 2e-6
# Fused multiply-adds move a corner by a sub-pixel now and then: so many pixels may show another triangle.
OTHER_PIXELS = 2e-3
# Relative, of losses and gradient norms; the batch's own maps differ at such pixels too.
TRAINED_TF32 = 2e-2


def on_cpu(tree):
    """The same arrays, placed on the CPU, and so whatever is computed of them."""
    return jax.device_put(tree, jax.devices("cpu")[0])


@pytest.fixture(scope="module")
def drawn(open_head):
    """Four heads and their cameras as the sampler draws them, drawn on the CPU and shared by both sides."""
    model = on_cpu(open_head)
    topology = on_cpu(HeadTopology.from_model(open_head))

    @jax.jit
    def draw(key, model, topology):
        batch = make_batch(key, model, topology, SyntheticConfig(image_size=SIZE), 4)
        return batch["params"], batch["camera"]

    return jax.device_get(draw(on_cpu(jax.random.key(3)), model, topology))


@pytest.mark.parametrize("precision, bound", [("highest", DECODED_FLOAT32), (None, DECODED_TF32)])
def test_decoded_heads(open_head, drawn, precision, bound):
    params, _ = drawn
    with jax.default_matmul_precision("highest"):
        expected, _ = jax.jit(flame_jax.decode)(*on_cpu((open_head, params)))
    with jax.default_matmul_precision(precision):
        ours, _ = jax.jit(flame_jax.decode)(open_head, params)
    error = np.abs(np.asarray(ours) - np.asarray(expected)).max()
    print(f"decoder, precision {precision}: largest difference {error:.1e} m")
    assert error < bound


def test_drawn_maps(open_head, drawn):
    """Of the same vertices: the same mask, and the same normals up to a thousandth."""
    params, camera = drawn
    topology = HeadTopology.from_model(open_head)
    vertices, _ = jax.device_get(jax.jit(flame_jax.decode)(*on_cpu((open_head, params))))

    @jax.jit
    def draw(topology, vertices, camera):
        maps = render_head(topology, vertices, camera, SIZE)
        return maps.normals, maps.mask

    ours, expected = (
        jax.device_get(draw(*arguments))
        for arguments in ((topology, vertices, camera), on_cpu((topology, vertices, camera)))
    )
    other = np.abs(ours[1] - expected[1]) > 0.5
    off = np.abs(ours[0] - expected[0]).max(axis=-1)
    print(
        f"renderer: mask differs at {100 * other.mean():.4f} %, normals at {100 * (off > 1e-3).mean():.4f} %"
    )
    assert expected[1].mean() > 0.1
    assert other.mean() < OTHER_PIXELS
    assert (off > 1e-3).mean() < OTHER_PIXELS


@pytest.mark.slow  # on a CPU it says nothing that other tests do not
def test_training_step(initial, toy_head):  # noqa: F811
    config, params, groups = initial
    objective = setup.objective(config)
    optimizer, _ = build_optimizer(config.optimizer, groups, setup.num_steps(config))
    assets = setup.build_assets(config, toy_head)
    reference = on_cpu((jax.device_get(params), jax.device_get(assets)))

    @jax.jit
    def loss_of(params, assets):
        batch = objective.batch(step_key(0, 0), assets)
        return objective.loss(objective.predict(params, batch, assets), batch, assets)[0]

    expected = float(loss_of(*reference))
    step = make_train_step(objective, optimizer, groups, seed=0)
    state, metrics = step(initial_state(params, optimizer, groups), assets)
    first = float(metrics["loss"])
    print(f"training step: loss {first:.6f}, on the CPU {expected:.6f}")
    assert first == pytest.approx(expected, rel=TRAINED_TF32)
    for _ in range(10):
        state, metrics = step(state, assets)
    assert int(state["stopped_at"]) == -1 and np.isfinite(float(metrics["loss"]))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state["params"]))
