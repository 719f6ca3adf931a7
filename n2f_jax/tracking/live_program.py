"""One frame of one person, from the face mesh's points to head and camera, as one compiled program of batch 1.

What ``first_pass.gather`` and ``frames.FrameFitter`` do, without passing through the host: the mesh drawn as normals,
the network's most probable head, and from where the frame before ended a few Gauss–Newton steps on the points.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flame_jax.rotations import rotation_6d_to_matrix
from n2f_jax.face_mesh.coarse_mesh import coarse_maps
from n2f_jax.fitting.eyes import with_eyes
from n2f_jax.geometry.camera import Camera
from n2f_jax.models.calibration import to_unknowns
from n2f_jax.models.correction import Scene
from n2f_jax.reconstruction.prediction import HeadStage
from n2f_jax.tracking.frame_fit import PersonPoints, fit_frame, on_points
from n2f_jax.tracking.frames import head_params
from n2f_jax.tracking.identity import SIZE

# Of Gauss–Newton a frame, from where the frame before ended.
STEPS = 2


class LiveFrame(NamedTuple):
    """Of one frame; head frame, metres, radians.

    Attributes:
        answer: ``(U,)`` the network's most probable head.
        unknowns: ``(V,)`` expression, jaw (axis times angle), lids as fitted.
        lids: ``(2,)`` closure, as the front end sees it where eyes are closed.
        rotation, translation: ``x_cam = R·x_head + t``.
        look: ``(3,)`` where the eyes look.
        error: root mean square error of the points, in sides of the crop.
    """

    answer: Float[Array, " U"]
    unknowns: Float[Array, " V"]
    lids: Float[Array, "2"]
    rotation: Float[Array, "3 3"]
    translation: Float[Array, "3"]
    look: Float[Array, "3"]
    error: Float[Array, ""]


class LiveInput(NamedTuple):
    """What the front end saw of a face.

    Attributes:
        points: ``(468, 3)`` pixels of the image, depth in the same scale.
        corner, side: of the face's crop, pixels.
        focal: pixels of the image.
        centre: its principal point.
        closure, gaze: of ``frontends.eyes.Eyes``; NaN where not known.
        scores: of ARKit's units; NaN where not known.
        activations: of ``FaceBatch``; likewise.
    """

    points: Float[Array, "468 3"]
    corner: Float[Array, "2"]
    side: Float[Array, ""]
    focal: Float[Array, ""]
    centre: Float[Array, "2"]
    closure: Float[Array, "2"]
    gaze: Float[Array, "3"]
    scores: Float[Array, "51"]
    activations: Float[Array, "2 D"]


@jax.jit
def live_answer(stage: HeadStage, seen: LiveInput) -> Float[Array, " U"]:
    """The network's most probable head alone: of a person's first frame."""
    return _answer(stage, seen)


@jax.jit
def live_begin(
    person: PersonPoints,
    slope: Float[Array, "V S"],
    shape: Float[Array, " S"],
    seen: LiveInput,
    answer: Float[Array, " U"],
) -> LiveFrame:
    """Where fitting a frame begins that has none before it: the answer, its camera laid on the points."""
    mean = _mean(slope, shape, answer)
    points, focal, principal_point = _observed(seen)
    camera = on_points(person, points, mean, focal, principal_point)
    ahead, unknown = jnp.asarray([0.0, 0.0, 1.0], jnp.float32), jnp.asarray(jnp.inf, jnp.float32)
    frame = LiveFrame(answer, mean, mean[-2:], camera.rotation, camera.translation, ahead, unknown)
    # Types that are strong, as those of ``live_frame``: another one would be another program.
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.float32), frame)


@functools.partial(jax.jit, static_argnames="steps")
def live_frame(
    stage: HeadStage,
    person: PersonPoints,
    slope: Float[Array, "V S"],
    shape: Float[Array, " S"],
    seen: LiveInput,
    before: LiveFrame,
    steps: int = STEPS,
) -> LiveFrame:
    """A frame.

    Args:
        stage: of ``Reconstructor.stage``.
        person: whose face it is.
        slope: of ``identity.Conditional``.
        shape: the person's.
        seen: by the front end.
        before: the frame before, or ``live_begin``.
        steps: of Gauss–Newton (static).
    """
    answer = _answer(stage, seen)
    points, focal, principal_point = _observed(seen)
    start = before.unknowns, Camera(before.rotation, before.translation, focal, principal_point)
    unknowns, camera, error = fit_frame(
        person,
        points,
        _mean(slope, shape, answer),
        focal,
        principal_point,
        float(SIZE),
        steps,
        start,
    )
    params = head_params(shape, unknowns[None])
    one = jax.tree.map(lambda x: x[None], camera)
    params = with_eyes(stage.model, params, one, seen.closure[None], seen.gaze[None])
    look = rotation_6d_to_matrix(params.eyes[0, 0])[:, 2]
    return LiveFrame(answer, unknowns, params.eyelids[0], camera.rotation, camera.translation, look, error)


def _mean(slope, shape, answer):
    """Expression, jaw and lids that the answer makes of a person (``identity.Conditional.mean``)."""
    return answer[shape.shape[0] :] + slope @ (shape - answer[: shape.shape[0]])


def _observed(seen: LiveInput) -> tuple[Float[Array, "468 3"], Float[Array, ""], Float[Array, "2"]]:
    """Points in the crop that fits see, and its focal length and principal point."""
    scale = SIZE / seen.side
    return _in_crop(seen, scale), seen.focal * scale, (seen.centre - seen.corner) * scale


def _in_crop(seen: LiveInput, scale: Float[Array, ""]) -> Float[Array, "468 3"]:
    plane = (seen.points[:, :2] - seen.corner[None]) * scale
    return jnp.concatenate([plane, seen.points[:, 2:] * scale], axis=1)


def _answer(stage: HeadStage, seen: LiveInput) -> Float[Array, " U"]:
    scale = stage.size / seen.side
    points = _in_crop(seen, scale)
    normals, mask = coarse_maps(points, stage.size)
    maps, masks = stage.own_normals(normals)[None], mask[None]
    focal, middle = (seen.focal * scale)[None], ((seen.centre - seen.corner) * scale)[None]
    if stage.transfer is not None:
        landmarks = jnp.full((1, 68, 2), jnp.nan)
        given = landmarks, points[None], seen.scores[None], seen.activations[None]
        predicted, _ = stage.answer(maps, masks, focal, middle, *given)
        return to_unknowns(predicted.params)[0]
    network = nnx.merge(stage.graph, stage.state)
    output = network(maps, masks, Scene.of_crops(stage.places, focal, middle, points[None]))
    prior = stage.answers.prior(output.flame_params(), seen.scores[None], seen.activations[None])
    return prior.mean[0]
