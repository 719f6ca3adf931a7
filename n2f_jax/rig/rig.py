"""A person's rig, and how parameters of our decoder pose it.

glTF's skin is ``Σ_j w_j G_j B_j (v + Σ_k a_k d_k)`` with the joints' global transforms G, their inverses at rest B, and
weights a of morph targets d. FLAME's decoder has two things more, and each has its place: pose correctives are morph
targets whose weights are elements of ``R − I``; joints that follow the expression are translations of the joints'
nodes. Lids are displaced before skinning (``decode(…, eyelids="before")``), which differs only where neck or root turn.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
from jaxtyping import Float

from flame_jax import FlameParams, HeadModel, decode
from flame_jax.rotations import rotation_6d_to_matrix
from n2f_jax.fitting.arkit import ArkitUnits
from n2f_jax.rig.skeleton import Skeleton
from n2f_jax.rig.targets import (
    CAPTURED,
    LIDS,
    Targets,
    arkit_targets,
    captured_target,
    corrective_targets,
    expression_targets,
    signed_weights,
)

# Standard deviations of an expression coefficient at which its targets have weight 1, if none is larger.
LEAST_REACH = 3.0
_FRAMES = 256  # whose skin is in memory at once


@dataclasses.dataclass(frozen=True)
class Pose:
    """B poses of a rig.

    Attributes:
        rotations: ``(B, J, 3, 3)`` of the joints' nodes.
        translations: ``(B, J, 3)`` of the joints' nodes, metres.
        weights: ``(B, K)`` of the morph targets.
    """

    rotations: Float[np.ndarray, "B J 3 3"]
    translations: Float[np.ndarray, "B J 3"]
    weights: Float[np.ndarray, "B K"]


@dataclasses.dataclass(frozen=True)
class Rig:
    """A person's head without expression, with what moves it.

    Attributes:
        model: the head model.
        shape: ``(S,)`` the person's.
        vertices: ``(V, 3)`` at rest, metres, head frame.
        skeleton: joints and skinning weights.
        targets: K morph targets.
        units: ARKit's units on the model, or None where they are not among the targets.
        reach: the expression coefficient at which a target has weight 1.
    """

    model: HeadModel
    shape: Float[np.ndarray, " S"]
    vertices: Float[np.ndarray, "V 3"]
    skeleton: Skeleton
    targets: Targets
    units: ArkitUnits | None
    reach: float

    @classmethod
    def of(
        cls,
        model: HeadModel,
        shape: Float[np.ndarray, " S"],
        units: ArkitUnits | None,
        expression: Float[np.ndarray, "B E"] | None = None,
        captured: tuple[Float[np.ndarray, " E"], Float[np.ndarray, "2"]] | None = None,
    ) -> Rig:
        """A rig with targets of up to four kinds; pose correctives where the model has some.

        Args:
            model: the head model.
            shape: the person's coefficients.
            units: ARKit's units on it; None for no targets of ARKit's.
            expression: expressions to be posed, by the model's own directions and lids; None for no such targets.
            captured: expression and lids of a photograph as one target.

        Raises:
            ValueError: it would have no targets.
        """
        shape = np.asarray(shape, np.float64)
        reach = LEAST_REACH * model.expression_std
        if expression is not None:
            reach = max(reach, float(np.abs(expression).max(initial=0.0)))
        kinds = [
            arkit_targets(model, units, shape) if units is not None else None,
            captured_target(model, *captured) if captured is not None else None,
            expression_targets(model, reach) if expression is not None else None,
            corrective_targets(model),
        ]
        there = [kind for kind in kinds if kind is not None]
        if not there:
            raise ValueError("a rig needs morph targets")
        targets = there[0]
        for kind in there[1:]:
            targets = targets + kind
        rest = np.asarray(model.v_template, np.float64) + np.asarray(model.shapedirs, np.float64) @ shape
        return cls(model, shape, rest, Skeleton.of(model, shape), targets, units, reach)

    @property
    def has_expression(self) -> bool:
        """Whether the model's own directions are among the targets."""
        return f"{LIDS[0]}_plus" in self.targets.names

    def at_rest(self) -> Pose:
        """The bind pose."""
        joints, parents = self.skeleton.joints, self.skeleton.parents
        bones = np.stack([joints[j] - (joints[p] if p >= 0 else 0.0) for j, p in enumerate(parents)])
        turns = np.broadcast_to(np.eye(3), (1, len(parents), 3, 3))
        return Pose(turns, bones[None], np.zeros((1, len(self.targets.names))))

    def pose(
        self,
        params: FlameParams,
        motion: tuple[Float[np.ndarray, "B 3 3"], Float[np.ndarray, "B 3"]] | None = None,
        by_units: bool = False,
        captured: bool = False,
    ) -> Pose:
        """The pose of the person with these parameters, whose shape is not looked at.

        Args:
            params: (B, …).
            motion: rotation and translation of the whole head, ``R x_head + t``; at rest if None.
            by_units: expression, jaw, lids and gaze as weights of ARKit's units, the joints below the root at rest.
            captured: the expression by the target of that name, at weight 1.
        """
        rotations = np.stack(
            [
                np.asarray(rotation_6d_to_matrix(turn), np.float64)
                for turn in (params.neck, params.jaw, params.eyes[:, 0], params.eyes[:, 1])
            ],
            axis=1,
        )
        count = len(rotations)
        root, shift = (
            motion if motion is not None else (np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)))
        )
        rotations = np.concatenate([np.asarray(root, np.float64)[:, None], rotations], axis=1)
        weights = np.zeros((count, len(self.targets.names)))
        expression, lids = (np.asarray(x, np.float64) for x in (params.expression, params.eyelids))
        place = {name: number for number, name in enumerate(self.targets.names)}
        if by_units:
            if self.units is None:
                raise ValueError("the rig has no targets of ARKit's")
            found = np.concatenate(
                [
                    self.units.to_weights(jax.tree.map(lambda x, rows=rows: x[rows], params))[0]
                    for rows in np.array_split(np.arange(count), -(-count // _FRAMES))
                ]
            )
            weights[:, : found.shape[1]] = found
            rotations[:, 1:] = np.eye(3)
            expression = np.zeros_like(expression)
        elif captured:
            weights[:, place[CAPTURED]] = 1.0
        else:
            first = place["expression_000_plus"]
            own = signed_weights(np.concatenate([expression / self.reach, lids], axis=1))
            weights[:, first : first + own.shape[1]] = own
        for name, number in place.items():
            if name.startswith("corrective_") and name.endswith("_plus"):
                joint, element, _ = name.removeprefix("corrective_").rsplit("_", 2)
                i, k = int(element[0]), int(element[1])
                change = rotations[:, self.skeleton.names.index(joint), i, k] - (i == k)
                weights[:, number : number + 2] = signed_weights(change[:, None])
        return Pose(rotations, self._translations(rotations, np.asarray(shift), expression), weights)

    def _translations(
        self,
        rotations: Float[np.ndarray, "B J 3 3"],
        shift: Float[np.ndarray, "B 3"],
        expression: Float[np.ndarray, "B E"],
    ) -> Float[np.ndarray, "B J 3"]:
        """Of the nodes, such that each joint turns about its place with the expression, ``J'``, though bound at ``J``:
        with the joint's world rotation A and place P, its node lies at ``P + A (J − J')``."""
        rest = self.skeleton.joints
        joints = np.broadcast_to(rest, (len(rotations), *rest.shape))
        if self.model.joint_template is None:
            directions = np.asarray(self.model.exprdirs, np.float64)
            regressor = np.asarray(self.model.J_regressor, np.float64)
            joints = joints + np.einsum(
                "jce,be->bjc", np.einsum("jv,vce->jce", regressor, directions), expression
            )
        parents = self.skeleton.parents
        turns, places, nodes = [], [], []
        for j, p in enumerate(parents):
            if p < 0:
                turns.append(rotations[:, j])
                places.append(shift + np.einsum("bij,bj->bi", rotations[:, j], joints[:, j]))
            else:
                turns.append(turns[p] @ rotations[:, j])
                bone = joints[:, j] - joints[:, p]
                places.append(places[p] + np.einsum("bij,bj->bi", turns[p], bone))
            nodes.append(places[j] + np.einsum("bij,bj->bi", turns[j], rest[j] - joints[:, j]))
        local = [
            nodes[j] if p < 0 else np.einsum("bji,bj->bi", turns[p], nodes[j] - nodes[p])
            for j, p in enumerate(parents)
        ]
        return np.stack(local, axis=1)

    def skinned(self, pose: Pose) -> Float[np.ndarray, "B V 3"]:
        """Vertices of the poses as glTF says, float64."""
        parents, rest = self.skeleton.parents, self.skeleton.joints
        turns: list[np.ndarray] = []
        places: list[np.ndarray] = []
        for j, p in enumerate(parents):
            turn, place = pose.rotations[:, j], pose.translations[:, j]
            if p >= 0:
                place = places[p] + np.einsum("bij,bj->bi", turns[p], place)
                turn = turns[p] @ turn
            turns.append(turn)
            places.append(place)
        moved = self.vertices + np.einsum("bk,kvc->bvc", pose.weights, self.targets.offsets)
        result = np.zeros_like(moved)
        for j in range(len(parents)):
            share = np.where(self.skeleton.influences == j, self.skeleton.weights, 0.0).sum(axis=1)
            result += share[:, None] * (
                np.einsum("bij,bvj->bvi", turns[j], moved - rest[j]) + places[j][:, None]
            )
        return result

    def error_mm(
        self,
        params: FlameParams,
        pose: Pose,
        motion: tuple[Float[np.ndarray, "B 3 3"], Float[np.ndarray, "B 3"]] | None = None,
    ) -> tuple[float, float]:
        """Distances of the posed rig's vertices from the decoder's, mm: root mean square, and the largest."""
        rows = np.broadcast_to(np.asarray(self.shape, np.float32), (len(pose.weights), len(self.shape)))
        wanted, _ = jax.jit(decode, static_argnames="eyelids")(
            self.model, dataclasses.replace(params, shape=rows), eyelids="before"
        )
        wanted = np.asarray(wanted, np.float64)
        if motion is not None:
            wanted = np.einsum("bij,bvj->bvi", motion[0], wanted) + np.asarray(motion[1])[:, None]
        squared = ((self.skinned(pose) - wanted) ** 2).sum(axis=-1)
        return 1e3 * float(np.sqrt(squared.mean())), 1e3 * float(np.sqrt(squared.max()))
