"""Trains the check of found faces: arrays from samples, the network in JAX, its calibration."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax

from face_check.samples import Sample
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.frontends.face_confidence import (
    CHANNELS,
    LAYERS,
    MEASURES,
    OUTPUTS,
    REGIONS,
    SIZE,
    measures,
    unfold,
)

LIMIT, JAW_LIMIT = 0.12, 0.25  # eye distances
_A_FACE = 1.5  # worse is no face of its own
_WIDTHS = (16, 32, 48, 48)
_KERNELS = (5, 3, 3, 3)
_HIDDEN = 48
_KEEP = 0.6  # of the hidden numbers, while it learns
_BATCH = 64
_RATE, _DECAY = 2e-3, 0.05
_OF_SECOND = slice(MEASURES.index("version gap"), len(MEASURES))
_EYES = [list(REGIONS).index("right_eye"), list(REGIONS).index("left_eye")]
_WITHOUT_SECOND, _WITHOUT_MEASURES = 0.12, 0.12
# Of faces whose points are right, so many are shown once more with points moved.
_MOVED = 0.2


@dataclasses.dataclass
class Table:
    """Samples as arrays.

    Attributes:
        flat: ``(n, S, S, 5)`` float16.
        measured: ``(n, M)`` with NaN.
        targets: ``(n, 8)``.
        real: ``(n,)`` False where points were moved by hand.
        group: ``(n,)``.
        samples: what each is of.
    """

    flat: np.ndarray
    measured: np.ndarray
    targets: np.ndarray
    real: np.ndarray
    group: np.ndarray
    samples: list[Sample]

    def __getitem__(self, chosen: np.ndarray) -> Table:
        picked = np.arange(len(self.group))[chosen]
        arrays = (x[picked] for x in (self.flat, self.measured, self.targets, self.real, self.group))
        return Table(*arrays, [self.samples[i] for i in picked])


def targets(errors: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What the check should say of ``(68,)`` errors in eye distances."""
    limits = np.where(np.arange(68) < 17, JAW_LIMIT, LIMIT)
    right = seen & (errors < limits)
    regions = [right[list(indices)].mean() for indices in REGIONS.values()]
    inner = errors[17:].mean()
    return np.array([*regions, inner < LIMIT, inner < _A_FACE])


def table(samples: Sequence[Sample], rng: np.random.Generator | None = None) -> Table:
    """Found samples as arrays; with ``rng`` also some whose points are moved."""
    rows = []
    for sample in samples:
        if not sample.found:
            continue
        crop = cv2.imdecode(sample.crop, cv2.IMREAD_COLOR)
        face, size = sample.face, sample.image_size
        measured = measures(face, crop, size)
        points = face.square.from_image(face.points)[:, :2]
        flat = unfold(crop, points, face.square, size)
        rows.append((flat, measured, targets(sample.errors[0], sample.seen), True, sample))
        if rng is not None and sample.inner_error < 0.04 and rng.random() < _MOVED:
            moved = _moved(points, rng)
            ibug = load_coarse_mesh().ibug68
            unit = np.linalg.norm(face.points[33].astype(float) - face.points[263]) / face.square.side
            errors = np.linalg.norm((moved - points)[ibug], axis=1) / unit
            flat = unfold(crop, moved, face.square, size)
            rows.append((flat, measured, targets(errors, sample.seen), False, sample))
    flat, measured, goals, real, kept = zip(*rows, strict=True)
    return Table(
        np.stack(flat).astype(np.float16),
        np.stack(measured),
        np.stack(goals).astype(np.float32),
        np.array(real),
        np.array([sample.group for sample in kept]),
        list(kept),
    )


def _moved(points, rng):
    """Points turned, scaled and shifted together."""
    centre = points.mean(axis=0)
    angle = np.pi + rng.normal(0, 0.2) if rng.random() < 0.2 else rng.normal(0, 0.2)
    cos, sin = np.cos(angle), np.sin(angle)
    scale = np.exp(rng.normal(0, 0.12, 2) * rng.choice([0, 1, 2]))
    shift = rng.normal(0, 0.04, 2) * rng.choice([0, 1, 2])
    return centre + shift + (points - centre) * scale @ np.array([[cos, sin], [-sin, cos]])


def start(key: jax.Array) -> dict[str, jax.Array]:
    """Random weights under the names that ``FaceConfidence`` reads."""
    weights, channels, side = {}, CHANNELS, SIZE
    keys = jax.random.split(key, LAYERS + 2)
    for layer, (width, kernel) in enumerate(zip(_WIDTHS, _KERNELS, strict=True)):
        shape = (kernel, kernel, channels, width)
        weights[f"kernel{layer}"] = (
            jax.random.normal(keys[layer], shape) * (2 / (kernel**2 * channels)) ** 0.5
        )
        weights[f"bias{layer}"] = jnp.zeros(width)
        channels, side = width, -(-side // 2)
    count = side**2 * channels + len(MEASURES)
    weights["hidden_kernel"] = jax.random.normal(keys[-2], (count, _HIDDEN)) * (1 / count) ** 0.5
    weights["hidden_bias"] = jnp.zeros(_HIDDEN)
    weights["out_kernel"] = jax.random.normal(keys[-1], (_HIDDEN, len(OUTPUTS))) * 0.1
    weights["out_bias"] = jnp.zeros(len(OUTPUTS))
    return weights


def logits(
    weights: dict[str, jax.Array], flat: jax.Array, z: jax.Array, keep: jax.Array | None = None
) -> jax.Array:
    """``(n, 8)`` from ``(n, S, S, 5)`` and standardised measures ``(n, M)``; ``keep`` masks hidden numbers."""
    x = flat
    for layer in range(LAYERS):
        half = weights[f"kernel{layer}"].shape[0] // 2
        x = jax.lax.conv_general_dilated(
            x,
            weights[f"kernel{layer}"],
            (2, 2),
            [(half, half)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = jax.nn.relu(x + weights[f"bias{layer}"][None, None, None])
    x = jnp.concatenate([x.reshape(len(x), -1), z], axis=1)
    x = jax.nn.relu(x @ weights["hidden_kernel"] + weights["hidden_bias"][None])
    if keep is not None:
        x = x * keep
    return x @ weights["out_kernel"] + weights["out_bias"][None]


def standard(measured: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    return np.nan_to_num(((measured - mean) / deviation).clip(-4, 4), nan=0.0).astype(np.float32)


def train(data: Table, epochs: int, seed: int) -> dict[str, np.ndarray]:
    """Weights, with ``mean`` and ``deviation`` of the measures, not yet calibrated. The same for the same numbers."""
    rng = np.random.default_rng(seed)
    mean, deviation = np.nanmean(data.measured, axis=0), np.nanstd(data.measured, axis=0) + 1e-3
    z = standard(data.measured, mean, deviation)
    weights = start(jax.random.key(seed))
    steps = epochs * (len(z) // _BATCH)
    schedule = optax.warmup_cosine_decay_schedule(0.0, _RATE, steps // 20, steps)
    optimiser = optax.adamw(schedule, weight_decay=_DECAY)
    state = optimiser.init(weights)
    # What is to be found out first of all counts most.
    importance = jnp.array([*[0.3] * len(REGIONS), 2.0, 0.7])

    @jax.jit
    def step(weights, state, flat, z, goals, keep):
        def loss(weights):
            losses = optax.sigmoid_binary_cross_entropy(logits(weights, flat, z, keep), goals)
            return (losses.mean(axis=0) * importance).sum()

        value, gradient = jax.value_and_grad(loss)(weights)
        updates, state = optimiser.update(gradient, state, weights)
        return optax.apply_updates(weights, updates), state, value

    for _ in range(epochs):
        order = rng.permutation(len(z))
        for first in range(0, len(order) - _BATCH + 1, _BATCH):
            chosen = order[first : first + _BATCH]
            batch = _varied(data.flat[chosen].astype(np.float32), z[chosen], data.targets[chosen], rng)
            keep = ((rng.random((_BATCH, _HIDDEN)) < _KEEP) / _KEEP).astype(np.float32)
            weights, state, _ = step(weights, state, *batch, keep)
    out = {key: np.asarray(value) for key, value in weights.items()}
    return {**out, "mean": mean.astype(np.float32), "deviation": deviation.astype(np.float32)}


def _varied(flat, z, goals, rng):
    """Mirrored, with other colours and light, and without the second network, at random."""
    flat, z, goals = flat.copy(), z.copy(), goals.copy()
    mirrored = rng.random(len(flat)) < 0.5
    flat[mirrored] = flat[mirrored, :, ::-1]
    first = _OF_SECOND.start + 1
    for array, columns in ((goals, _EYES), (z, [first + i for i in _EYES])):
        array[np.ix_(mirrored, columns)] = array[np.ix_(mirrored, columns[::-1])]
    count = (len(flat), 1, 1, 1)
    flat[..., 0:1] = flat[..., 0:1] * rng.uniform(0.75, 1.3, count) + rng.normal(0, 0.1, count)
    flat[..., 1:3] *= rng.uniform(0, 1.3, count) * (rng.random(count) > 0.2)
    flat[..., :1] += rng.normal(0, 0.08, flat[..., :1].shape) * rng.random(count)
    z[rng.random(len(flat)) < _WITHOUT_SECOND, _OF_SECOND] = 0
    z[rng.random(len(flat)) < _WITHOUT_MEASURES] = 0
    z += rng.normal(0, 0.1, z.shape)
    return flat.astype(np.float32), z.astype(np.float32), goals


def raw_logits(weights: dict[str, np.ndarray], data: Table) -> np.ndarray:
    """``(n, 8)`` before calibration."""
    z = standard(data.measured, weights["mean"], weights["deviation"])
    run = jax.jit(logits)
    arrays = {key: value for key, value in weights.items() if key not in ("mean", "deviation")}
    parts = []
    for first in range(0, len(z), 256):
        flat, part = data.flat[first : first + 256].astype(np.float32), z[first : first + 256]
        short = 256 - len(part)
        padded = np.pad(flat, ((0, short), (0, 0), (0, 0), (0, 0))), np.pad(part, ((0, short), (0, 0)))
        parts.append(np.asarray(run(arrays, *padded))[: len(part)])
    return np.concatenate(parts)


def calibrate(values: np.ndarray, goals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and offset of each output under which the logits' probabilities are those seen (Platt 1999)."""
    slopes, offsets = [], []
    for x, y in zip(values.T.astype(float), goals.T.astype(float), strict=True):
        a, b = 1.0, 0.0
        for _ in range(50):
            p = 1 / (1 + np.exp(-(a * x + b)))
            weight = p * (1 - p) + 1e-6
            design = np.stack([x, np.ones_like(x)], axis=1)
            change = np.linalg.solve(
                (design * weight[:, None]).T @ design + 1e-3 * np.eye(2), design.T @ (y - p)
            )
            a, b = np.array([a, b]) + np.clip(change, -0.5, 0.5)
        slopes.append(a)
        offsets.append(b)
    return np.array(slopes, np.float32), np.array(offsets, np.float32)


def area(scores: np.ndarray, bad: np.ndarray) -> float:
    """Area under the curve of finding ``bad`` by low scores; NaN without both kinds."""
    if bad.all() or not bad.any():
        return float("nan")
    order = np.argsort(np.argsort(-scores, kind="stable"), kind="stable")
    count = int(bad.sum())
    return float((order[bad].sum() - count * (count - 1) / 2) / (count * (len(bad) - count)))
