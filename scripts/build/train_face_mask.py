"""Trains the network that reads the face mask from normals, ``n2f_jax/models/assets/face_mask.safetensors``.

    python scripts/build/train_face_mask.py [--steps N] [--start FILE]

Heads of the open head model, rendered on the way: whole heads alone, before a background, or wrapped in something that
is not face; hair, bars, holes and scarves before them have normals of their own (``data.degrade_unmasked``). Normals
err as a network's do, and are turned by up to 10 degrees: head models' frames differ by 7. Every 500 steps the file is
written; with ``--start`` it goes on from one. What ships had 4,000 steps, then 2,200 with ``--rate 1e-3``, on heads
as wide as people and crops moved by three fifths of this, then 800 with ``--rate 6e-4``: two hours beside other work.
"""

import argparse
import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray
from safetensors.numpy import save_file
from tqdm import tqdm

import flame_jax
from flame_jax import HeadModel
from flame_jax.rotations import axis_angle_to_matrix
from n2f_jax.data.degradation_presets import ESTIMATED
from n2f_jax.data.sampler import SyntheticConfig, held_out_key, make_batch
from n2f_jax.models.face_mask import ASSET, SIZE, FaceMaskNetwork, read_face_mask
from n2f_jax.models.parameters import flatten, functional
from n2f_jax.render import HeadTopology
from n2f_jax.runtime.atomic_files import atomic_path

SETTINGS = ESTIMATED | {
    "mask_erosion": 0.0,
    "mask_dilation": 0.0,
    "normal_noise_deg": 6.0,
    "errors_vary": True,
    "occluder_share": 0.35,
    "bar_share": 0.25,
    "hair_share": 0.45,
    "lower_face_share": 0.15,
    "crop_centre_jitter": 0.05,
    "crop_scale_jitter": 0.08,
}
WIDER = 1.4  # than people: faces that no head model knows are to be found too
LARGEST_TURN = math.radians(10.0)
EVERY = 500  # steps


def draw(
    key: PRNGKeyArray, model: HeadModel, topology: HeadTopology, size: int
) -> tuple[Float[Array, "B S S 3"], Float[Array, "B S S"]]:
    """Normals as nobody segmented them, and their masks."""
    wider = {"beta_std": WIDER * model.shape_std, "psi_std": WIDER * model.expression_std}
    config = SyntheticConfig(image_size=SIZE, **SETTINGS, **wider)
    unsegmented = dataclasses.replace(config, unmasked_share=1.0)
    head_key, turn_key = jax.random.split(key)
    # The same keys: the same heads, and the same things before them.
    normals = make_batch(head_key, model, topology, unsegmented, size)["normals"]
    mask = make_batch(head_key, model, topology, config, size)["mask"]
    turn = jax.random.uniform(turn_key, (size, 3), minval=-1.0, maxval=1.0) * LARGEST_TURN / math.sqrt(3.0)
    return jnp.einsum("bij,bhwj->bhwi", axis_angle_to_matrix(turn), normals), mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="weights to start from (default: none)")
    parser.add_argument("--out", type=Path, default=ASSET)
    options = parser.parse_args()
    model = flame_jax.load_open_head()
    topology = HeadTopology.from_model(model)
    network = FaceMaskNetwork(rngs=nnx.Rngs(options.seed))
    if options.start:
        network = read_face_mask(options.start)
    forward, params = functional(network)
    schedule = optax.warmup_cosine_decay_schedule(0.0, options.rate, options.steps // 20, options.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-4))
    state = optimizer.init(params)

    def loss_of(params: Any, normals: Array, mask: Array) -> Array:
        return optax.sigmoid_binary_cross_entropy(forward(params, normals), mask).mean()

    @jax.jit
    def step(params: Any, state: Any, key: PRNGKeyArray, model: HeadModel, topology: HeadTopology) -> Any:
        normals, mask = draw(key, model, topology, options.batch)
        loss, gradient = jax.value_and_grad(loss_of)(params, normals, mask)
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state, loss

    @functools.partial(jax.jit, static_argnames="size")
    def overlap(params: Any, key: PRNGKeyArray, model: HeadModel, topology: HeadTopology, size: int) -> Array:
        normals, mask = draw(key, model, topology, size)
        found = forward(params, normals) > 0.0
        both, either = (found & (mask > 0.5)).sum((1, 2)), (found | (mask > 0.5)).sum((1, 2))
        return both / jnp.maximum(either, 1)

    key, losses = jax.random.key(options.seed + (1 if options.start else 0)), []
    bar = tqdm(range(1, options.steps + 1), unit="batch")
    for number in bar:
        params, state, loss = step(params, state, jax.random.fold_in(key, number), model, topology)
        losses.append(loss)
        if number % 50 == 0:
            bar.set_postfix(loss=f"{float(np.mean(jax.device_get(losses[-50:]))):.4f}")
        if number % EVERY == 0 or number == options.steps:
            found = np.concatenate(
                [overlap(params, held_out_key(1, i), model, topology, 64) for i in range(4)]
            )
            lately = float(np.mean(jax.device_get(losses[-EVERY:])))
            tqdm.write(
                f"step {number}: loss {lately:.4f}, overlap with the true masks of {len(found)} held-out heads "
                f"{found.mean():.4f}, the worst twentieth {np.quantile(found, 0.05):.4f}"
            )
            write(options.out, params)
    print(f"wrote {options.out}, {options.out.stat().st_size / 1024:.0f} KB")


def write(path: Path, params: Any) -> None:
    """Kernels in half precision, which changes no mask."""
    arrays = {
        name: np.asarray(value, np.float16 if value.ndim > 1 else np.float32)
        for name, value in flatten(params).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata={"made by": "scripts/build/train_face_mask.py"})


if __name__ == "__main__":
    main()
