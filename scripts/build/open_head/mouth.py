"""Keeps neutral lips closed and the mouth's inner wall behind the lips, and lays the tongue down."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from open_head.topology import HeadTopology, edge_ring

# The ring of quad edges where the lips touch: upper midline vertex and its left neighbour in the base mesh.
LIP_RING_EDGE = (474, 7229)
# Rings of quads around the line of contact over which the correction fades out.
_FADE_RINGS = 7.0
# MakeHuman's tongue fills the upper mouth; lower and further back it rests behind the lower teeth.
TONGUE_SHIFT = np.array([0.0, -0.010, -0.003])

# The mouth's inner wall follows the outer skin in front of it: wholly up to the first distance (metres), from there
# less, beyond the second not at all; so many quads from the lips' inner edge on, where it starts.
_WALL_NEAR, _WALL_FAR, _WALL_RINGS = 0.012, 0.03, (1.0, 4.0)
# Of the Gaussian weights over the outer skin, metres.
_WALL_SIGMA = 0.006


def lip_pairs(
    topology: HeadTopology, base_quads: Int[np.ndarray, "Q 4"], vertices: Float[np.ndarray, "V 3"]
) -> tuple[Int[np.ndarray, "V"], Int[np.ndarray, "V"], Float[np.ndarray, "V"]]:
    """What ties each vertex to the line where the lips touch.

    Returns:
        For each vertex: the vertex of the contact ring it belongs to, that one's counterpart on the other
        lip, and how much it follows them (0 away from the mouth).
    """
    ring = np.searchsorted(topology.source[topology.parts["skin"]], edge_ring(base_quads, *LIP_RING_EDGE))
    # The ring starts at the upper midline and runs to the left corner, below, and back: the k-th vertex
    # before and the k-th after the corner face each other.
    corner = int(np.argmax(vertices[ring, 0]))
    opposite = ring[(2 * corner - np.arange(len(ring))) % len(ring)]
    number = len(topology.source)
    graph = sp.coo_matrix((np.ones(len(topology.edges)), topology.edges.T), shape=(number, number)).tocsr()
    distance, _, nearest = sp.csgraph.dijkstra(
        graph,
        directed=False,
        indices=ring,
        unweighted=True,
        min_only=True,
        return_predecessors=True,
        limit=10,
    )
    counterpart = np.arange(number)
    counterpart[ring] = opposite
    near = np.isfinite(distance)
    nearest = np.where(near, nearest, np.arange(number))
    follow = np.where(
        near, 0.5 + 0.5 * np.cos(np.pi * np.clip((distance - 1.0) / _FADE_RINGS, 0.0, 1.0)), 0.0
    )
    return nearest, counterpart[nearest], follow


def close_lips(
    displacement: Float[np.ndarray, "... V 3"],
    pairs: tuple[Int[np.ndarray, "V"], Int[np.ndarray, "V"], Float[np.ndarray, "V"]],
) -> Float[np.ndarray, "... V 3"]:
    """Takes out of displacements what would part the lips or push them through each other.

    Linear: facing vertices of the line of contact move by their mean, the rest of the lips follows with a
    smooth fade.
    """
    nearest, counterpart, follow = pairs
    excess = (displacement[..., nearest, :] - displacement[..., counterpart, :]) / 2
    return displacement - follow[:, None] * excess


def wall_weights(
    topology: HeadTopology, vertices: Float[np.ndarray, "V 3"]
) -> tuple[Int[np.ndarray, "W"], Int[np.ndarray, "S"], Float[np.ndarray, "W S"]]:
    """How the mouth's inner wall follows the outer skin in front of it.

    Returns:
        The wall's vertices, those of the outer skin, and the weights of the latter's displacements for each of the
        former; what a row lacks to one, the vertex's own displacement has.
    """
    parts = topology.parts
    wall = parts["mouth_cavity"]
    outer = np.setdiff1d(parts["skin"], np.concatenate([wall, parts["left_socket"], parts["right_socket"]]))
    number = len(topology.source)
    graph = sp.coo_matrix((np.ones(len(topology.edges)), topology.edges.T), shape=(number, number)).tocsr()
    rings = sp.csgraph.dijkstra(graph, directed=False, indices=outer, unweighted=True, min_only=True)[wall]
    distance, _ = cKDTree(vertices[outer]).query(vertices[wall])
    share = np.clip((_WALL_FAR - distance) / (_WALL_FAR - _WALL_NEAR), 0.0, 1.0)
    share *= np.clip((rings - _WALL_RINGS[0]) / (_WALL_RINGS[1] - _WALL_RINGS[0]), 0.0, 1.0)
    apart = ((vertices[wall][:, None] - vertices[outer]) ** 2).sum(axis=-1)
    nearest = apart.min(axis=1, keepdims=True)
    weights = np.exp((nearest - apart) / (2 * _WALL_SIGMA**2))
    return wall, outer, share[:, None] * weights / weights.sum(axis=1, keepdims=True)


def hold_wall(
    displacement: Float[np.ndarray, "N V 3"],
    weights: tuple[Int[np.ndarray, "W"], Int[np.ndarray, "S"], Float[np.ndarray, "W S"]],
) -> Float[np.ndarray, "N V 3"]:
    """Moves the mouth's inner wall with the skin in front of it, so that it does not come through. Linear.

    What nobody sees follows from nothing in scans: left free, it stood before the upper lip in a tenth of the heads.
    """
    wall, outer, rows = weights
    followed = np.einsum("ws,nsc->nwc", rows, displacement[:, outer], optimize=True)
    own = 1.0 - rows.sum(axis=1)[:, None]
    held = displacement.copy()
    held[:, wall] = own * displacement[:, wall] + followed
    return held
