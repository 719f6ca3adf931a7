"""Keeps neutral lips closed and lays the tongue down."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from open_head.topology import HeadTopology, edge_ring

# The ring of quad edges where the lips touch: upper midline vertex and its left neighbour in the base mesh.
LIP_RING_EDGE = (474, 7229)
# Rings of quads around the line of contact over which the correction fades out.
_FADE_RINGS = 7.0
# MakeHuman's tongue fills the upper mouth; lower and further back it rests behind the lower teeth.
TONGUE_SHIFT = np.array([0.0, -0.010, -0.003])


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
