"""The rotation, translation and scale that bring corresponding points together by least squares (Procrustes)."""

from __future__ import annotations

import dataclasses
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class AlignmentError(ValueError):
    """Points or surfaces that do not determine an alignment; the message says why."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Similarity:
    """``x ↦ s·R·x + t``. A pytree, of JAX or of NumPy arrays; all fields share the same leading batch axes.

    Attributes:
        scale: ``(...,)`` s > 0.
        rotation: ``(..., 3, 3)`` R, never a reflection.
        translation: ``(..., 3)`` t, in the unit of the frame that points are moved to.
    """

    scale: float | Float[Array | np.ndarray, "..."]
    rotation: Float[Array | np.ndarray, "... 3 3"]
    translation: Float[Array | np.ndarray, "... 3"]

    def apply(self, points: Float[Array | np.ndarray, "... N 3"]) -> Float[Array | np.ndarray, "... N 3"]:
        """``s·R·x + t`` of every point."""
        xp = _namespace(points, self.rotation)
        # In full precision on accelerators too, where the default for matrix products may be less.
        with jax.default_matmul_precision("highest"):
            turned = xp.matmul(self._scale(xp) * points, xp.swapaxes(self.rotation, -1, -2))
        return turned + self.translation[..., None, :]

    def inverse(self, points: Float[Array | np.ndarray, "... N 3"]) -> Float[Array | np.ndarray, "... N 3"]:
        """``Rᵀ·(x − t) / s`` of every point: back to where ``apply`` found it."""
        xp = _namespace(points, self.rotation)
        with jax.default_matmul_precision("highest"):
            return xp.matmul(points - self.translation[..., None, :], self.rotation) / self._scale(xp)

    def _scale(self, xp: ModuleType) -> Float[Array | np.ndarray, "... 1 1"]:
        return xp.asarray(self.scale)[..., None, None]


def procrustes(
    source: Float[Array | np.ndarray, "... N 3"],
    target: Float[Array | np.ndarray, "... N 3"],
    weights: Float[Array | np.ndarray, "... N"] | None = None,
    *,
    scaling: bool = False,
) -> Similarity:
    """The motion that minimises ``Σ w ‖s·R·source + t − target‖²`` (Kabsch 1976; with the scale, Umeyama 1991).

    Works on JAX arrays, also inside ``jit``, and on NumPy arrays, in their own precision; the result holds the same
    kind. Nothing is checked: see ``procrustes_of_landmarks``.

    Args:
        source: any leading batch axes.
        target: of the same shape.
        weights: not negative, not all zero; None for equal ones.
        scaling: False holds s at 1.
    """
    xp = _namespace(source, target)
    if weights is not None:
        weights = (weights / weights.sum(axis=-1, keepdims=True))[..., None]
    source_mean, target_mean = (
        x.mean(axis=-2, keepdims=True) if weights is None else (weights * x).sum(axis=-2, keepdims=True)
        for x in (source, target)
    )
    source, target = source - source_mean, target - target_mean
    weighted = target if weights is None else weights * target
    with jax.default_matmul_precision("highest"):
        u, singular, vt = xp.linalg.svd(xp.matmul(xp.swapaxes(weighted, -1, -2), source))
        flip = xp.ones_like(singular)
        sign = xp.sign(xp.linalg.det(xp.matmul(u, vt)))
        flip = xp.concatenate([flip[..., :2], sign[..., None]], axis=-1)
        rotation = xp.matmul(u * flip[..., None, :], vt)
        if scaling:
            spread = source**2 if weights is None else weights * source**2
            scale = (singular * flip).sum(axis=-1) / spread.sum(axis=(-2, -1))
        else:
            scale = xp.ones_like(sign)
        moved = xp.matmul(source_mean, xp.swapaxes(rotation, -1, -2))[..., 0, :]
    return Similarity(scale, rotation, target_mean[..., 0, :] - scale[..., None] * moved)


def procrustes_of_landmarks(
    source: Float[np.ndarray, "N 3"], target: Float[np.ndarray, "N 3"], *, scaling: bool
) -> Similarity:
    """``procrustes`` of one set of measured points in float64, refused where it would mean nothing.

    NoW's code allows a reflection where it fits better; on the landmarks of a face that happens only if they are
    in the wrong order, and a mirrored head is nobody's reconstruction, so here it is an error.

    Args:
        source: N ≥ 3.
        target: of the same shape.
        scaling: False holds s at 1.

    Raises:
        AlignmentError: shapes differ, values are not finite, points lie on one line, or only a reflection fits.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or len(source) < 3:
        raise AlignmentError(f"corresponding points are needed, not {source.shape} and {target.shape}")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise AlignmentError("landmarks are not finite")
    for name, points in (("moved", source), ("fixed", target)):
        spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
        if spread[1] <= 1e-6 * max(spread[0], 1e-300):
            raise AlignmentError(f"the {name} landmarks lie on one line or in one point")
    found = procrustes(source, target, scaling=scaling)
    mirror = np.array([-1.0, 1.0, 1.0])
    # Landmarks in a plane fit a mirror image as well as a rotation; a face's base of the nose is out of the plane.
    turned, mirrored = (
        ((procrustes(x, target, scaling=True).apply(x) - target) ** 2).sum()
        for x in (source, mirror * source)
    )
    spread = ((target - target.mean(axis=0)) ** 2).sum()
    if turned > max(0.01 * spread, 4.0 * mirrored):
        raise AlignmentError("landmarks fit only mirrored: left and right are swapped, or an axis is")
    return found


def _namespace(*arrays: Array | np.ndarray) -> ModuleType:
    """``jax.numpy`` if one of the arrays is JAX's, else ``numpy``."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np
