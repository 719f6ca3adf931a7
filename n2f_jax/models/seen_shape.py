"""Shapes by what a landmark network made of the picture, before it said where points are.

A face's points say little of its shape, and err as pictures do; the network that finds them sees light and shade too.
Its last numbers that are apart by place, of the face's crop and of the mirrored one, are regressed onto the shapes of
people who are known.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from n2f_jax.models.held_out import displacement, folds_of_people

# D, of the landmark network's activations (``frontends.face_networks.ACTIVATIONS``).
NUM_ACTIVATIONS = 2048
PENALTIES = np.geomspace(0.01, 3.0, 12)
# Of what is told otherwise, beside the activations; of 0, 0.3 and 1 the best for people who are held out.
_WEIGHT = 0.3
# Activations count up to so many deviations: pictures may be unlike those that the map was measured on.
_MOST = 5.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SeenShape:
    """Linear in what is told of a shape otherwise and in the activations of crop and mirrored crop. A pytree.

    Attributes:
        offset: ``(S,)``.
        matrix: ``(S, I)`` of what is told otherwise.
        centre, scale: ``(D,)`` of activations.
        few: ``(D, K)`` activations to few numbers.
        shapes: ``(2, K, S)`` those of the crop, and of the mirrored one, to shapes.
    """

    offset: Float[Array, " S"]
    matrix: Float[Array, "S I"]
    centre: Float[Array, " D"]
    scale: Float[Array, " D"]
    few: Float[Array, "D K"]
    shapes: Float[Array, "2 K S"]

    def __call__(
        self,
        told: Float[Array, "*B I"],
        activations: Float[Array, "*B 2 D"],
        without: Float[Array, "*B S"],
    ) -> Float[Array, "*B S"]:
        """Shapes; by one crop where only one's activations are finite, ``without`` where neither's are."""
        known = jnp.isfinite(activations).all(axis=-1, keepdims=True)
        axes = tuple(range(activations.ndim - 1))
        centre, scale = jnp.expand_dims(self.centre, axes), jnp.expand_dims(self.scale, axes)
        units = jnp.clip((jnp.where(known, activations, centre) - centre) / scale, -_MOST, _MOST)
        count = known.astype(self.scale.dtype).sum(axis=(-2, -1))[..., None]
        seen = jnp.einsum("...mk,mks->...s", units @ self.few, self.shapes)
        seen = seen * (2.0 / jnp.maximum(count, 1.0))
        found = told @ self.matrix.T + seen + jnp.broadcast_to(self.offset, without.shape)
        return jnp.where(count > 0.0, found, without)

    def after(self, offset: Float[Array, " I"], matrix: Float[Array, "I J"]) -> SeenShape:
        """The same by what ``offset + matrix @ x`` makes ``told``."""
        return dataclasses.replace(
            self, offset=self.offset + self.matrix @ offset, matrix=self.matrix @ matrix
        )

    def then(self, matrix: Float[Array, "S S"]) -> SeenShape:
        """The same shapes, mapped."""
        return dataclasses.replace(
            self,
            offset=matrix @ self.offset,
            matrix=matrix @ self.matrix,
            shapes=self.shapes @ matrix.T,
        )


def fit_seen_shape(
    told: Float[np.ndarray, "N S"],
    activations: Float[np.ndarray, "N 2 D"],
    shapes: Float[np.ndarray, "N S"],
    people: Int[np.ndarray, " N"],
    gram: Float[np.ndarray, "S S"],
    mirror: Float[np.ndarray, "S S"],
    *,
    numbers: int = 32,
    share: float = 1.0,
    penalties: Float[np.ndarray, " P"] = PENALTIES,
) -> tuple[SeenShape, dict[str, float]]:
    """Ridge regression on pictures of known people; each counts twice, as it is and mirrored.

    Args:
        told: what is expected of their shapes otherwise.
        activations: of the pictures; all finite.
        shapes: the truth.
        people: who is seen.
        gram: of the places that are to be right, by coefficients of shape: a shape's size is ``x @ gram @ x``.
        mirror: coefficients to those of the mirrored head.
        numbers: K.
        share: of the way from ``told``.
        penalties: of which the best is taken by five-fold cross-validation over people.

    Returns:
        The map and figures: ``penalty``; errors of people who were held out, as shares of the spread of
        the true shapes: ``before`` as told, ``after`` all of the way.

    Raises:
        ValueError: fewer than ten people.
    """
    told, shapes, gram = (np.asarray(x, np.float64) for x in (told, shapes, gram))
    fold = np.tile(folds_of_people(people), 2)
    given = np.concatenate([activations[:, 0], activations[:, 1]]).astype(np.float64)
    centre, scale = given.mean(axis=0), given.std(axis=0) + 1e-3 * given.std()
    units = np.clip((given - centre) / scale, -_MOST, _MOST) / np.sqrt(given.shape[1])
    both = np.concatenate([told, told @ mirror.T])
    truth = np.concatenate([shapes, shapes @ mirror.T])
    middle, root = both.mean(axis=0), _root(gram)
    size = displacement(both - middle, gram)
    of_told = (both - middle) @ root / size
    kernel = units @ units.T + _WEIGHT * of_told @ of_told.T
    errors = {
        float(penalty): displacement(shapes - 0.5 * (first + second @ mirror.T), gram)
        for penalty, first, second in zip(
            penalties, *np.split(_held_out(kernel, truth, fold, penalties), 2, axis=1), strict=True
        )
    }
    penalty = min(errors, key=lambda one: errors[one])
    mean = truth.mean(axis=0)
    dual = np.linalg.solve(kernel + penalty * np.eye(len(truth)), truth - mean)
    # The largest parts of the map, by the places that are to be right.
    few, sizes, out = np.linalg.svd(units.T @ dual @ root, full_matrices=False)
    few = few[:, :numbers] * sizes[:numbers] / np.sqrt(given.shape[1])
    out = out[:numbers] @ np.linalg.inv(root)
    by_told = _WEIGHT / size * (root @ of_told.T @ dual).T
    constant = mean - by_told @ middle
    matrix = 0.5 * share * (by_told + mirror @ by_told @ mirror) + (1.0 - share) * np.eye(len(root))
    found = (
        0.5 * share * (constant + mirror @ constant),
        matrix,
        centre,
        scale,
        few,
        0.5 * share * np.stack([out, out @ mirror.T]),
    )
    whole = displacement(shapes, gram)
    figures = {
        "penalty": penalty,
        "before": displacement(shapes - told, gram) / whole,
        "after": errors[penalty] / whole,
    }
    return SeenShape(*(jnp.asarray(x, jnp.float32) for x in found)), figures


def _held_out(
    kernel: Float[np.ndarray, "M M"],
    truth: Float[np.ndarray, "M S"],
    fold: Int[np.ndarray, " M"],
    penalties: Float[np.ndarray, " P"],
) -> Float[np.ndarray, "P M S"]:
    """What kernel ridge regression says of each fold by the others, with each penalty."""
    found = np.empty((len(penalties), *truth.shape))
    for number in range(fold.max() + 1):
        of = fold == number
        mean = truth[~of].mean(axis=0)
        values, vectors = np.linalg.eigh(kernel[np.ix_(~of, ~of)])
        turned, across = vectors.T @ (truth[~of] - mean), kernel[np.ix_(of, ~of)] @ vectors
        for row, penalty in enumerate(penalties):
            found[row, of] = mean + across @ (turned / (np.maximum(values, 0.0) + penalty)[:, None])
    return found


def _root(gram: Float[np.ndarray, "S S"]) -> Float[np.ndarray, "S S"]:
    """Symmetric, and never singular: directions that move nothing count a millionth."""
    values, vectors = np.linalg.eigh(gram)
    return (vectors * np.sqrt(np.maximum(values, 1e-6 * values.max()))) @ vectors.T
