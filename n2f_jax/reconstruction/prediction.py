"""The compiled stage: crops → network and its correction → camera on the landmarks → Gauss–Newton → decoded heads."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

import flame_jax
from flame_jax import FlameParams, HeadModel
from n2f_jax.fitting.eyes import with_eyes
from n2f_jax.fitting.gauss_newton import fit_images, gauss_newton_steps
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.head_transfer import HeadTransfer
from n2f_jax.fitting.observations import Anchors, Observation
from n2f_jax.fitting.prior import AnswerModel, HeadPrior
from n2f_jax.geometry.camera import Camera, yaw_seen
from n2f_jax.geometry.pose import align_camera
from n2f_jax.models.correction import Scene
from n2f_jax.models.n2fnet import camera_from_output

NUM_INNER = 51  # landmarks 17 … 67: they are places on the skin, the contour is not


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PredictedHeads:
    """Predicted heads of a batch of B crops. A pytree.

    Attributes:
        params: FLAME parameters.
        camera: of the crop; rotation and translation are also those of the original image.
        vertices: ``(B, V, 3)`` head frame, metres.
        landmarks: ``(B, 68, 3)`` head frame, with the contour that the camera sees.
    """

    params: FlameParams
    camera: Camera
    vertices: Float[Array, "B V 3"]
    landmarks: Float[Array, "B 68 3"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeadStage:
    """What leads from crops to heads. A pytree: pass it through ``jax.jit`` as an argument.

    Attributes:
        state: the network's (``nnx.split``).
        own_model: its head model.
        places: where its correction looks on that, or None.
        answers: what its answers say.
        embedding: the face mesh's points on its head model, or None.
        transfer: to another head model, or None.
        model: the one that heads are of.
        fit: of ``model``; None without refinement.
        maps_rotation: ``(3, 3)`` from the frame that the front end's normals are in to that of ``own_model``
            (``face_mesh.map_frames``); None where they are one.
        normals_rotation: ``(3, 3)`` from the frame of ``own_model`` to that of ``model``; None where they are one.
        graph: the network's.
        size: side of the crops in pixels.
        alignment: ``'network'`` or ``'landmarks'``.
        refine: steps at most.
        of_face_mesh: the maps are the face mesh's.
    """

    state: Any
    own_model: HeadModel
    places: Any
    answers: AnswerModel
    embedding: Any
    transfer: HeadTransfer | None
    model: HeadModel
    fit: tuple[HeadTables, Anchors] | None
    maps_rotation: Float[Array, "3 3"] | None
    normals_rotation: Float[Array, "3 3"] | None
    graph: Any = dataclasses.field(metadata={"static": True})
    size: int = dataclasses.field(metadata={"static": True})
    alignment: str = dataclasses.field(metadata={"static": True})
    refine: int = dataclasses.field(metadata={"static": True})
    of_face_mesh: bool = dataclasses.field(metadata={"static": True})

    def own_normals(self, normals: Float[Array, "*B S S 3"]) -> Float[Array, "*B S S 3"]:
        """A front end's normals as the network was shown them: in the frame of its own head model."""
        return normals if self.maps_rotation is None else normals @ self.maps_rotation.T

    def __call__(
        self, maps, masks, focal, principal_point, landmarks, points, scores=None, activations=None
    ) -> PredictedHeads:
        """Heads of B crops; arguments as in ``Reconstructor.predict``, normals in the frame of ``own_model``."""
        given = maps, masks, focal, principal_point, landmarks, points, scores, activations
        predicted, prior = self.answer(*given)
        if not self.refine:
            return predicted
        if self.normals_rotation is not None:
            maps = maps @ self.normals_rotation.T
        aligned = self.alignment == "landmarks"
        found = landmarks if self.embedding is None else jnp.concatenate([landmarks, points[..., :2]], axis=1)
        observation = Observation(maps, masks, found if aligned else jnp.full_like(found, jnp.nan))
        config = gauss_newton_steps(self.refine, of_face_mesh=self.of_face_mesh)
        config = dataclasses.replace(config, align=aligned)
        return refine_heads(self.model, *self.fit, observation, predicted, prior, config=config)

    def answer(
        self, maps, masks, focal, principal_point, landmarks, points, scores=None, activations=None
    ) -> tuple[PredictedHeads, HeadPrior]:
        """The same before any refinement, and how sure it is."""
        predicted, prior = predict_heads(
            self.graph,
            self.state,
            self.own_model,
            self.places,
            self.answers,
            self.embedding,
            maps,
            masks,
            focal,
            principal_point,
            landmarks,
            points,
            scores,
            activations,
            size=self.size,
            alignment=self.alignment,
        )
        if self.transfer is not None:
            predicted, prior = carry_over_heads(self.transfer, self.model, predicted)
        return predicted, prior


@functools.partial(jax.jit, static_argnames=("graph", "size", "alignment"))
def predict_heads(
    graph,
    state,
    model,
    places,
    answers,
    embedding,
    normals,
    masks,
    focal,
    principal_point,
    landmarks,
    points,
    scores,
    activations,
    *,
    size,
    alignment,
) -> tuple[PredictedHeads, HeadPrior]:
    """The most probable heads, given the network's answers, and how sure that is; their cameras moved onto the
    landmarks with ``alignment='landmarks'``.

    Args:
        graph, state: the network (``nnx.split``); ``graph`` is static.
        model: the head model.
        places: where the network's correction looks on it, None without one (``face_mesh.embedding``).
        answers: what the network's answers say (``fitting.prior.AnswerModel``).
        embedding: triangles and barycentrics of the face mesh's points on it, or None.
        normals, masks, focal, principal_point, landmarks, points, scores, activations: as in
            ``Reconstructor.predict``.
        size: side of the crops in pixels (static).
        alignment: ``'network'`` or ``'landmarks'`` (static).
    """
    network = nnx.merge(graph, state)
    output = network(normals, masks, Scene.of_crops(places, focal, principal_point, points))
    prior = answers.prior(output.flame_params(), scores, activations)
    params = prior.heads(model.num_shape)
    vertices, _ = flame_jax.decode(model, params)
    camera = camera_from_output(output, focal, principal_point, size)
    if alignment == "landmarks":
        anchors = flame_jax.landmarks68(model, vertices)[:, -NUM_INNER:]
        targets, weights = landmarks[:, -NUM_INNER:], jnp.full(NUM_INNER, 1 / NUM_INNER)
        if embedding is not None:
            count = points.shape[1]
            mesh = flame_jax.points_on_mesh(vertices, model.faces, *embedding)
            anchors = jnp.concatenate([anchors, mesh], 1)
            targets = jnp.concatenate([targets, points[..., :2]], 1)
            weights = jnp.concatenate([weights, jnp.full(count, 1 / count)])
        align = jax.vmap(align_camera, in_axes=(0, 0, 0, None))
        camera = align(anchors, targets, camera, weights)
    return with_visible_landmarks(model, params, camera, vertices), prior


@jax.jit
def carry_over_heads(transfer, model, predicted) -> tuple[PredictedHeads, HeadPrior]:
    """Heads of the network's model as heads of ``model`` (``fitting.head_transfer``), and how sure they are."""
    params, camera, prior = transfer.carry_over(predicted.vertices, predicted.params, predicted.camera)
    return with_visible_landmarks(model, params, camera), prior


@functools.partial(jax.jit, static_argnames="config")
def refine_heads(model, tables, anchors, observation, start, prior, *, config) -> PredictedHeads:
    """Heads after at most ``config.steps`` Gauss–Newton steps from ``start`` (``fitting.gauss_newton.fit_images``)."""
    params, camera, _ = fit_images(tables, anchors, observation, start.params, start.camera, config, prior)
    return with_visible_landmarks(model, params, camera)


@jax.jit
def see_eyes(model, predicted, closure, gaze) -> PredictedHeads:
    """Heads with lids and eyes as a front end saw them (``fitting.eyes.with_eyes``)."""
    params = with_eyes(model, predicted.params, predicted.camera, closure, gaze)
    return with_visible_landmarks(model, params, predicted.camera)


def with_visible_landmarks(
    model: HeadModel, params: FlameParams, camera: Camera, vertices: Float[Array, "B V 3"] | None = None
) -> PredictedHeads:
    """Heads with the 68 landmarks whose contour is the one that their cameras see.

    Args:
        model: the head model.
        params, camera: of B heads.
        vertices: of the decoded heads, if they are there already.
    """
    if vertices is None:
        vertices, _ = flame_jax.decode(model, params)
    # The outline is that of the view along the ray to the head, which need not be the optical axis.
    return PredictedHeads(params, camera, vertices, flame_jax.landmarks68(model, vertices, yaw_seen(camera)))
