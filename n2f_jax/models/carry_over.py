"""A network's last layer for a head model whose coefficients are others but span the same heads."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from flame_jax import HeadModel
from n2f_jax.models.n2fnet import N2FNet

# What is left between the two models' heads, metres: half precision of the stored directions, and no more.
TOLERANCE = 5e-5


@dataclasses.dataclass(frozen=True)
class Change:
    """Coefficients of one model to those of another: ``new = offset + matrix @ old``; shape, then expression.

    Attributes:
        offset: ``(K,)``.
        matrix: ``(K, K)``.
        residual: largest distance between a vertex of the two models' heads, metres, at coefficients of one σ each;
            of what can be seen (the wall of the mouth's cavity does not count).
    """

    offset: Float[np.ndarray, " K"]
    matrix: Float[np.ndarray, "K K"]
    residual: float


def change_of_coefficients(old: HeadModel, new: HeadModel) -> Change:
    """The linear map by which both models decode to the same heads.

    Raises:
        ValueError: the models differ in more than mean and directions, or do not span the same heads.
    """
    fixed = ("faces", "eyelids", "weights", "J_regressor")
    differing = [
        name
        for name in fixed
        if not np.array_equal(np.asarray(getattr(old, name)), np.asarray(getattr(new, name)))
    ]
    if differing or (old.num_shape, old.num_expression) != (new.num_shape, new.num_expression):
        raise ValueError(
            f"the head models differ in {', '.join(differing) or 'their numbers of coefficients'}"
        )
    seen = np.setdiff1d(np.arange(old.num_vertices), np.asarray(new.masks.get("mouth_cavity", ())))
    flat = lambda x: np.asarray(x, np.float64)[seen].reshape(3 * len(seen), -1)  # noqa: E731
    size = old.num_shape + old.num_expression
    matrix, offset = np.zeros((size, size)), np.zeros(size)
    residual = 0.0
    first = 0
    for ours, theirs in ((new.shapedirs, old.shapedirs), (new.exprdirs, old.exprdirs)):
        basis, given = flat(ours), flat(theirs)
        part = slice(first, first + basis.shape[1])
        shift = flat(old.v_template) - flat(new.v_template) if first == 0 else np.zeros((len(basis), 1))
        solved, *_ = np.linalg.lstsq(basis, np.concatenate([given, shift], axis=1), rcond=None)
        matrix[part, part], offset[part] = solved[:, :-1], solved[:, -1]
        left = np.concatenate([given, shift], axis=1) - basis @ solved
        residual += float(np.sqrt((left**2).sum(axis=1).max()))
        first += basis.shape[1]
    if residual > TOLERANCE:
        raise ValueError(
            f"the head models do not span the same heads: {1000 * residual:.2f} mm are left of some vertex"
        )
    return Change(offset, matrix, residual)


def carry_over(network: N2FNet, change: Change) -> None:
    """Changes a network's last layer in place: it then answers in the new model's coefficients."""
    layer = network.flame.output
    assert layer.bias is not None
    size = len(change.offset)
    kernel, bias = np.array(layer.kernel[...], np.float64), np.array(layer.bias[...], np.float64)
    mean = np.asarray(network.flame.mean, np.float64)
    kernel[:, :size] = kernel[:, :size] @ change.matrix.T
    whole = bias[:size] + mean[:size]
    bias[:size] = change.offset + change.matrix @ whole - mean[:size]
    layer.kernel = nnx.Param(jnp.asarray(kernel, jnp.float32))
    layer.bias = nnx.Param(jnp.asarray(bias, jnp.float32))
