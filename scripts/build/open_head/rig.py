"""Skinning weights and joints: MakeHuman's facial bones gathered into FLAME's five joints."""

from __future__ import annotations

import numpy as np
import scipy.optimize
import scipy.sparse as sp
from jaxtyping import Float, Int

from open_head.topology import HeadTopology

ROOT, NECK, JAW, LEFT_EYE, RIGHT_EYE = range(5)
PARENTS = np.array([-1, ROOT, NECK, NECK, NECK])
# Rings of the quad mesh over which the neck joint takes over from the root, counted from the hem.
NECK_BLEND_RINGS = 6


def skinning_weights(
    topology: HeadTopology, bone_weights: dict[str, Float[np.ndarray, "N"]], bone_parents: dict[str, str]
) -> Float[np.ndarray, "V 5"]:
    """``(V, 5)`` weights over root, neck, jaw, left eye, right eye; rows sum to one, mirror symmetric.

    The jaw takes the weight of the jaw bone and of every bone below it; eyeballs, tongue and lower teeth are
    rigid; the neck joint carries the rest of the head and fades into the root towards the hem.
    """
    subtree = {"jaw"}
    while True:
        grown = subtree | {bone for bone, parent in bone_parents.items() if parent in subtree}
        if grown == subtree:
            break
        subtree = grown
    jaw = sum(bone_weights[bone] for bone in subtree if bone in bone_weights)[topology.source]
    parts = topology.parts
    jaw[parts["tongue"]] = jaw[parts["lower_teeth"]] = 1.0
    jaw[parts["upper_teeth"]] = 0.0
    fade = np.clip(ring_distance(topology) / NECK_BLEND_RINGS, 0.0, 1.0)
    root = (1.0 - fade * fade * (3.0 - 2.0 * fade)) * (1.0 - jaw)
    weights = np.zeros((len(jaw), 5))
    weights[:, ROOT], weights[:, JAW] = root, jaw
    weights[:, NECK] = 1.0 - root - jaw
    weights[parts["left_eyeball"]] = np.eye(5)[LEFT_EYE]
    weights[parts["right_eyeball"]] = np.eye(5)[RIGHT_EYE]
    weights = (weights + weights[topology.mirror][:, [ROOT, NECK, JAW, RIGHT_EYE, LEFT_EYE]]) / 2
    return weights / weights.sum(axis=1, keepdims=True)


def ring_distance(topology: HeadTopology) -> Float[np.ndarray, "V"]:
    """Number of quad edges from the hem of the neck; infinite on parts that are not connected to it."""
    number = len(topology.source)
    graph = sp.coo_matrix((np.ones(len(topology.edges)), topology.edges.T), shape=(number, number)).tocsr()
    distances = sp.csgraph.dijkstra(
        graph, directed=False, indices=topology.neck_ring, unweighted=True, min_only=True
    )
    return np.asarray(distances)


def joint_regressor(
    heads: Float[np.ndarray, "H V 3"],
    jaw_joint: Float[np.ndarray, "H 3"],
    neck_joint: Float[np.ndarray, "H 3"],
    topology: HeadTopology,
    candidates: Int[np.ndarray, "n"],
) -> Float[np.ndarray, "5 V"]:
    """Sparse convex combinations of vertices that follow the joints over many heads.

    The root is the middle of the hem, an eye joint the middle of its eyeball; jaw and neck are fitted by
    non-negative least squares to MakeHuman's joints over ``heads``.
    """
    regressor = np.zeros((5, heads.shape[1]))
    regressor[ROOT, topology.neck_ring] = 1.0 / len(topology.neck_ring)
    for joint, part in ((LEFT_EYE, "left_eyeball"), (RIGHT_EYE, "right_eyeball")):
        regressor[joint, topology.parts[part]] = 1.0 / len(topology.parts[part])
    flip = np.array([-1.0, 1.0, 1.0])
    symmetric = (heads[:, candidates] + heads[:, topology.mirror[candidates]] * flip) / 2
    for joint, target in ((JAW, jaw_joint), (NECK, neck_joint)):
        # x is zero by symmetry and carries nothing; the last row asks the weights to sum to one.
        rows = np.concatenate([symmetric[..., 1].T, symmetric[..., 2].T], axis=1).T
        right = np.concatenate([target[:, 1], target[:, 2]])
        heavy = 100.0
        weights, _ = scipy.optimize.nnls(
            np.concatenate([rows, np.full((1, len(candidates)), heavy)]), np.append(right, heavy)
        )
        weights /= weights.sum()
        np.add.at(regressor[joint], candidates, weights / 2)
        np.add.at(regressor[joint], topology.mirror[candidates], weights / 2)
    return regressor
