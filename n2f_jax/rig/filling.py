"""Colours for what no photograph shows: the mirror image, matched in light, and beyond it what lies around."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import factorized

from n2f_jax.rig.places import Places
from n2f_jax.rig.projection import Seen

_KNOWN = 0.5  # of a weight
# Two pictures of one place may differ by so much in light (log): what differs more is not the same thing.
_MOST_CHANGE = 0.7
_TO_MEAN = 1e-5  # pull of parts that nothing known touches
_TO_USUAL = 0.03  # and of others to their part's usual colour


def spread(
    faces: Int[np.ndarray, "F 3"],
    positions: Float[np.ndarray, "V 3"],
    known: Bool[np.ndarray, " V"],
    values: Float[np.ndarray, "V C"],
    rest: Float[np.ndarray, "#V C"] | None = None,
    pull: Float[np.ndarray, " V"] | float = _TO_MEAN,
) -> Float[np.ndarray, "V C"]:
    """Harmonic continuation over a mesh: known values stay, every other one is the mean of its neighbours', weighted by
    one over their distance. Zero everywhere if nothing is known.

    Args:
        faces: that carry values.
        positions: of the vertices.
        known: where ``values`` hold.
        values: C numbers a vertex.
        rest: what unknown values tend to, of all vertices or of each; None for the known ones' mean.
        pull: how strongly, as a share of what the neighbours weigh.
    """
    if not known.any():
        return np.zeros_like(values)
    count = len(positions)
    a = faces[:, [0, 1, 2]].reshape(-1)
    b = faces[:, [1, 2, 0]].reshape(-1)
    near = 1.0 / np.maximum(np.linalg.norm(positions[a] - positions[b], axis=1), 1e-5)
    graph = coo_matrix((near, (a, b)), shape=(count, count)).tocsr()
    graph = graph.maximum(graph.T)
    degree = np.asarray(graph.sum(axis=1)).ravel()
    mean = np.broadcast_to(values[known].mean(axis=0) if rest is None else rest, values.shape)
    result = np.where(known[:, None], values, mean).astype(np.float64)
    free = np.flatnonzero(~known & (degree > 0))
    if len(free):
        own = np.broadcast_to(pull, count)[free] * degree[free]
        system = diags(degree[free] + own) - graph[free][:, free]
        right = graph[free][:, np.flatnonzero(known)] @ result[known] + own[:, None] * mean[free]
        solve = factorized(system.tocsc())
        result[free] = np.stack([solve(column) for column in right.T], axis=1)
    return result.astype(values.dtype)


@dataclasses.dataclass(frozen=True)
class Canvas:
    """The surface that is painted.

    Attributes:
        faces: ``(F, 3)`` the skin's triangles.
        positions: ``(V, 3)`` of the head at rest.
        places: the texture's N points.
        mirrored_points: ``(N,)`` number of each point's mirror image.
        mirrored_vertices: ``(V,)``.
        is_face: ``(V,)`` whose colour is the usual one of all that is no scalp.
        is_scalp: ``(V,)`` whose colour is the usual one of the scalp.
    """

    faces: Int[np.ndarray, "F 3"]
    positions: Float[np.ndarray, "V 3"]
    places: Places
    mirrored_points: Int[np.ndarray, " N"]
    mirrored_vertices: Int[np.ndarray, " V"]
    is_face: Bool[np.ndarray, " V"]
    is_scalp: Bool[np.ndarray, " V"]

    def mirrored(self, seen: Seen) -> Seen:
        """The same picture seen in a mirror."""
        return Seen(
            seen.points[self.mirrored_points],
            seen.points_weight[self.mirrored_points],
            seen.vertices[self.mirrored_vertices],
            seen.vertices_weight[self.mirrored_vertices],
        )

    def laid_under(self, above: Seen, below: Seen) -> Seen:
        """A picture where another shows nothing. Where both show the same place, their difference is light and
        exposure: it is carried on over the surface and taken off, so that no seam is left."""
        both = np.minimum(above.vertices_weight, below.vertices_weight) > _KNOWN
        change = np.clip(above.vertices - below.vertices, -_MOST_CHANGE, _MOST_CHANGE)
        change = spread(self.faces, self.positions, both, change)
        share = below.points_weight * self.places.on(_inner(below.vertices_weight, self.faces)[:, None])[:, 0]
        return Seen(
            _over(above.points, above.points_weight, below.points + self.places.on(change), share),
            above.points_weight + (1.0 - above.points_weight) * share,
            _over(above.vertices, above.vertices_weight, below.vertices + change, below.vertices_weight),
            above.vertices_weight + (1.0 - above.vertices_weight) * below.vertices_weight,
        )

    def completed(self, seen: Seen) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "V 3"]]:
        """Colours (log) of all points and vertices: what is seen, then the surface's around."""
        known = seen.vertices_weight > _KNOWN
        # Neck and ears are skin, the scalp is hair, or skin too: neither reaches far into the other.
        usual = np.zeros((len(known), 3), np.float32)
        for part in (self.is_face, self.is_scalp):
            there = known & part
            colors = seen.vertices[there if there.any() else known]
            usual[self.is_scalp == (part is self.is_scalp)] = (
                np.median(colors, axis=0) if len(colors) else 0.0
            )
        around = spread(self.faces, self.positions, known, seen.vertices, usual, _TO_USUAL)
        return (
            _mixed(self.places.on(around), seen.points, seen.points_weight),
            _mixed(around, seen.vertices, seen.vertices_weight),
        )


def _inner(weight: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The least weight around each vertex: what is hidden ends sharply, and should not in the picture."""
    least = np.array(weight)
    np.minimum.at(least, faces, weight[faces].min(axis=1, keepdims=True))
    return least


def _over(above: np.ndarray, share: np.ndarray, below: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Colours of a picture laid over another, as far as either shows something: weighted means."""
    under = (1.0 - share) * under
    total = np.maximum(share + under, 1e-6)
    return (share[:, None] * above + under[:, None] * below) / total[:, None]


def _mixed(below: np.ndarray, above: np.ndarray, share: np.ndarray) -> np.ndarray:
    return below + share[:, None] * (above - below)
