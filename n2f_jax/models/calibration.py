"""What a network's answer says of the truth: a Gaussian over heads, for each kind of input.

Over heads whose truth is known, the truth's expectation is taken to be linear in the answer, and what is left to be
Gaussian. So the answer, a regression that was trained on other maps or other people, becomes a measurement with its own
error, which fits can weigh against what they see (``fitting.prior``).

The unknowns are, in this order, shape, expression, jaw (axis times angle, radians) and eyelids; U = S + E + 5.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flame_jax import FlameParams
from flame_jax.rotations import (
    axis_angle_to_rotation_6d,
    rotation_6d_to_axis_angle,
)
from n2f_jax.models.held_out import displacement, folds_of_people
from n2f_jax.models.seen_shape import NUM_ACTIVATIONS, SeenShape

# What networks are shown: normal maps of a network or a renderer, alone or with the face mesh's points; the free front
# end's maps, of either face mesh.
KINDS = ("normals", "normals_points", "face_mesh_v1", "face_mesh_v2")
# ARKit's units that front ends score, in the order of ``face_mesh.arkit_names.UNITS``.
NUM_SCORES = 51
PENALTIES = np.geomspace(1e-3, 100.0, 16)
_FIELDS = ("offset", "matrix", "covariance")
# Of scores whose roots count: a hundredth more or less moves a root by at most a twentieth.
_SOFT = 0.01
_SCORED_FIELDS = ("scored_offset", "scored_matrix", "scored_scores")
_SEEN_FIELDS = ("seen_offset", "seen_matrix", "seen_centre", "seen_scale", "seen_few", "seen_shapes")


def to_unknowns(params: FlameParams) -> Float[Array, "... U"]:
    """Shape, expression, jaw and eyelids of heads as one vector; any leading axes."""
    jaw = rotation_6d_to_axis_angle(params.jaw)
    return jnp.concatenate([params.shape, params.expression, jaw, params.eyelids], axis=-1)


def from_unknowns(unknowns: Float[Array, "... U"], num_shape: int) -> FlameParams:
    """The other way; neck and eyes at rest."""
    shape, expression, jaw, eyelids = jnp.split(
        unknowns, [num_shape, unknowns.shape[-1] - 5, unknowns.shape[-1] - 2], axis=-1
    )
    return FlameParams.resting(shape, expression, axis_angle_to_rotation_6d(jaw), eyelids)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ScoredExpression:
    """Expression, jaw and lids (W = E + 5) where a front end scores ARKit's units too. A pytree.

    Linear in what the answer alone makes of them, in the scores and in their roots: movements that have just begun
    score little. Google's network of scores was trained on what faces do, and sees of brows and corners of the mouth
    what the places of its points do not tell from pose and shape.

    Attributes:
        offset: ``(W,)``.
        matrix: ``(W, W)`` of what the answer alone says.
        scores: ``(W, 2 NUM_SCORES)`` of ``features``.
    """

    offset: Float[Array, " W"]
    matrix: Float[Array, "W W"]
    scores: Float[Array, "W F"]

    def __call__(self, expected: Float[Array, "*B W"], scores: Float[Array, "*B K"]) -> Float[Array, "*B W"]:
        """What is expected, given the scores too; where one of them is not finite, what was expected without."""
        known = jnp.isfinite(scores).all(axis=-1, keepdims=True)
        scored = features(jnp.where(known, scores, 0.0)) @ self.scores.T
        found = expected @ self.matrix.T + scored + jnp.broadcast_to(self.offset, expected.shape)
        return jnp.where(known, found, expected)


def features(scores: Float[Array, "*B K"]) -> Float[Array, "*B F"]:
    """Scores from 0 to 1 and their roots, which begin less steeply than roots do: what is no score is noise."""
    scores = jnp.clip(scores, 0.0, 1.0)
    return jnp.concatenate([scores, jnp.sqrt(scores + _SOFT) - _SOFT**0.5], axis=-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Calibration:
    """Truth given answer: N(offset + matrix @ answer, covariance). A pytree.

    Attributes:
        offset: ``(U,)``.
        matrix: ``(U, U)``.
        covariance: ``(U, U)`` of the truth about that.
        scored: its mean where there are scores too; None where that was not measured.
        seen: its mean where there are a landmark network's activations too, likewise.
    """

    offset: Float[Array, " U"]
    matrix: Float[Array, "U U"]
    covariance: Float[Array, "U U"]
    scored: ScoredExpression | None = None
    seen: SeenShape | None = None


def calibrate(
    answers: Float[np.ndarray, "N U"],
    truths: Float[np.ndarray, "N U"],
    ridge: float = 1e-3,
) -> Calibration:
    """Measures it on N heads, by least squares; N well above U.

    Args:
        answers: a network's.
        truths: of the same heads.
        ridge: added to the answers' variances, as a share of their mean (in units of each one's deviation).

    Raises:
        ValueError: fewer heads than unknowns.
    """
    answers, truths = np.asarray(answers, np.float64), np.asarray(truths, np.float64)
    count, size = answers.shape
    if count < 2 * size:
        raise ValueError(f"{count} heads are too few for {size} unknowns: take {2 * size} or more")
    centre, scale = answers.mean(axis=0), np.maximum(answers.std(axis=0), 1e-9)
    x, y = (answers - centre) / scale, truths - truths.mean(axis=0)
    matrix = np.linalg.solve(x.T @ x + ridge * count * np.eye(size), x.T @ y)
    left = y - x @ matrix
    # Of least squares with so many unknowns; small errors are made no smaller than the population's thousandth.
    covariance = left.T @ left / (count - min(size, np.linalg.matrix_rank(x)))
    covariance += 1e-3 * np.diag(y.var(axis=0) + 1e-9)
    matrix = (matrix / scale[:, None]).T
    offset = truths.mean(axis=0) - matrix @ centre
    in_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
    return Calibration(in_float32(offset), in_float32(matrix), in_float32(covariance))


def recalibrate_shape(
    calibration: Calibration,
    answers: Float[np.ndarray, "N U"],
    shapes: Float[np.ndarray, "N S"],
    people: Int[np.ndarray, " N"],
    gram: Float[np.ndarray, "S S"],
    penalties: Float[np.ndarray, " P"] = PENALTIES,
) -> tuple[Calibration, dict[str, float]]:
    """Draws the shape that a calibration expects towards the mean, as far as real inputs of known heads ask for.

    Where a simulation is kinder than what it simulates, heads that were calibrated on it are too sure of themselves.
    The expected shape is replaced by a linear map of it without an offset (what all pictures of one kind share may be
    theirs alone), by ridge regression towards the mean head. The covariance stays as it is, though errors are larger:
    fits weigh the answer against the points that it rests on, and an answer that was said to be as unsure as it is
    lost more to them than it gained (docs/training.md). Expression, jaw and lids stay too.

    Args:
        calibration: measured on the simulation.
        answers: the network's, to N inputs.
        shapes: of the heads that were seen.
        people: who is seen: a person's inputs are never on both sides of a test.
        gram: ``JᵀJ`` of the places that are to be right, J their derivative by the shape.
        penalties: those to choose from, times ``N``, of the regression in units of the expected shapes' deviation.

    Returns:
        The calibration, and figures, by five-fold cross-validation over people: ``penalty``; ``before``, ``after``:
        error, root mean square, over the mean head's; ``optimism``: error after over what the covariance says.

    Raises:
        ValueError: fewer than ten people.
    """
    offset, matrix, covariance = (np.array(getattr(calibration, name), np.float64) for name in _FIELDS)
    shapes = np.asarray(shapes, np.float64)
    count = shapes.shape[1]
    expected = (np.asarray(answers, np.float64) @ matrix.T + offset)[:, :count]
    drawn, left, penalty = _ridge(expected, shapes, people, gram, penalties)
    figures = _figures(penalty, shapes, expected, left, gram, covariance[:count, :count])
    offset[:count], matrix[:count] = drawn @ offset[:count], drawn @ matrix[:count]
    return _with_mean(calibration, offset, matrix), figures


def recalibrate_expression(
    calibration: Calibration,
    answers: Float[np.ndarray, "N U"],
    expressions: Float[np.ndarray, "N W"],
    people: Int[np.ndarray, " N"],
    gram: Float[np.ndarray, "W W"],
    deviation: Float[np.ndarray, " W"],
    share: float = 0.5,
    penalties: Float[np.ndarray, " P"] = PENALTIES,
) -> tuple[Calibration, dict[str, float]]:
    """The same of expression and jaw, a share of the way.

    A simulated front end moves with the face as far as the true points do; a real one shows some movements and not
    others. Again without an offset: a face at rest stays at rest. All of the way pictures of known heads gain most,
    and photographs lose a little (docs/training.md). Lids, which front ends see for themselves, and the covariance
    stay.

    Args:
        calibration, answers, people, penalties: as ``recalibrate_shape``.
        expressions: expression, jaw and lids (W = E + 5) of the faces that were seen.
        gram: of the places that are to be right, by those.
        deviation: the population's, which makes coefficients and radians comparable.
        share: of the way from what was expected to what these inputs say.

    Returns:
        As ``recalibrate_shape``, the figures those of all of the way.

    Raises:
        ValueError: fewer than ten people.
    """
    offset, matrix, covariance = (np.array(getattr(calibration, name), np.float64) for name in _FIELDS)
    expressions, deviation = (np.asarray(x, np.float64) for x in (expressions, deviation))
    count = len(offset) - len(deviation)
    expected = (np.asarray(answers, np.float64) @ matrix.T + offset)[:, count:]
    # Inputs in units of the population's deviation; of truths the units do not matter.
    drawn, left, penalty = _ridge(expected / deviation, expressions, people, gram, penalties)
    figures = _figures(penalty, expressions, expected, left, gram, covariance[count:, count:])
    drawn = drawn / deviation
    drawn = share * drawn + (1.0 - share) * np.eye(len(drawn))
    drawn[-2:] = np.eye(len(drawn))[-2:]
    offset[count:], matrix[count:] = drawn @ offset[count:], drawn @ matrix[count:]
    # Scores were weighed beside what the answer said before.
    return _with_mean(dataclasses.replace(calibration, scored=None), offset, matrix), figures


def recalibrate_with_scores(
    calibration: Calibration,
    answers: Float[np.ndarray, "N U"],
    scores: Float[np.ndarray, "N K"],
    expressions: Float[np.ndarray, "N W"],
    people: Int[np.ndarray, " N"],
    gram: Float[np.ndarray, "W W"],
    share: float = 1.0,
    penalties: Float[np.ndarray, " P"] = PENALTIES,
) -> tuple[Calibration, dict[str, float]]:
    """Has expression and jaw follow a front end's scores too, a share of the way (``ScoredExpression``).

    Ridge regression of what these faces do on what the answer alone makes of it and on the scores, each in units of
    its deviation about its mean: at rest scores are not 0. Lids stay.

    Args:
        calibration, answers, people, gram, penalties: as ``recalibrate_expression``.
        scores: the front end's; all finite.
        expressions: as there.
        share: of the way from what the answer alone says.

    Returns:
        As ``recalibrate_expression``.

    Raises:
        ValueError: fewer than ten people.
    """
    offset, matrix, covariance = (np.array(getattr(calibration, name), np.float64) for name in _FIELDS)
    expressions = np.asarray(expressions, np.float64)
    moving = expressions.shape[1]
    expected = (np.asarray(answers, np.float64) @ matrix.T + offset)[:, -moving:]
    inputs = np.concatenate([expected, np.asarray(features(jnp.asarray(scores)), np.float64)], axis=1)
    centre, scale = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-6)
    middle = expressions.mean(axis=0)
    found, left, penalty = _ridge((inputs - centre) / scale, expressions - middle, people, gram, penalties)
    figures = _figures(penalty, expressions, expected, left, gram, covariance[-moving:, -moving:])
    found = share * found / scale
    found[-2:] = 0.0
    constant = share * middle - found @ centre
    constant[-2:] = 0.0
    kept = np.full(moving, 1.0 - share)
    kept[-2:] = 1.0
    by_answer, by_scores = found[:, :moving] + np.diag(kept), found[:, moving:]
    of_scores = (jnp.asarray(value, jnp.float32) for value in (constant, by_answer, by_scores))
    return dataclasses.replace(calibration, scored=ScoredExpression(*of_scores)), figures


def _ridge(
    inputs: Float[np.ndarray, "N I"],
    truths: Float[np.ndarray, "N K"],
    people: Int[np.ndarray, " N"],
    gram: Float[np.ndarray, "K K"],
    penalties: Float[np.ndarray, " P"],
) -> tuple[Float[np.ndarray, "K I"], Float[np.ndarray, "N K"], float]:
    """The linear map of inputs onto what is true; what it leaves of each that is held out; and its penalty, chosen by
    five-fold cross-validation over people."""
    fold = folds_of_people(people)
    unit = len(inputs) * np.mean(inputs**2)

    def fit(chosen: np.ndarray, penalty: float) -> np.ndarray:
        x, y = inputs[chosen], truths[chosen]
        return np.linalg.solve(x.T @ x + penalty * unit * np.eye(x.shape[1]), x.T @ y)

    def held_out(penalty: float) -> np.ndarray:
        left = np.empty_like(truths)
        for number in range(5):
            of = fold == number
            left[of] = truths[of] - inputs[of] @ fit(~of, penalty)
        return left

    left = {float(penalty): held_out(penalty) for penalty in penalties}
    penalty = min(left, key=lambda one: displacement(left[one], gram))
    return fit(np.ones(len(people), bool), penalty).T, left[penalty], penalty


def _figures(
    penalty: float,
    truths: Float[np.ndarray, "N K"],
    expected: Float[np.ndarray, "N K"],
    left: Float[np.ndarray, "N K"],
    gram: Float[np.ndarray, "K K"],
    covariance: Float[np.ndarray, "K K"],
) -> dict[str, float]:
    whole, after = displacement(truths, gram), displacement(left, gram)
    return {
        "penalty": penalty,
        "before": displacement(truths - expected, gram) / whole,
        "after": after / whole,
        "optimism": after / float(np.sqrt(np.sum(gram * covariance))),
    }


def _with_mean(calibration: Calibration, offset: np.ndarray, matrix: np.ndarray) -> Calibration:
    return dataclasses.replace(
        calibration, offset=jnp.asarray(offset, jnp.float32), matrix=jnp.asarray(matrix, jnp.float32)
    )


def calibrations_to_arrays(calibrations: Mapping[str, Calibration]) -> dict[str, Array]:
    """As a checkpoint stores them: ``KIND/FIELD``, ``KIND/scored_FIELD``; matrices in bfloat16, lower triangles of
    covariances, by rows."""
    arrays: dict[str, Array] = {}
    for kind, one in calibrations.items():
        arrays[f"{kind}/offset"] = one.offset
        arrays[f"{kind}/matrix"] = one.matrix.astype(jnp.bfloat16)
        arrays[f"{kind}/covariance"] = one.covariance[np.tril_indices(len(one.offset))]
        if one.scored is not None:
            arrays[f"{kind}/scored_offset"] = one.scored.offset
            arrays[f"{kind}/scored_matrix"] = one.scored.matrix.astype(jnp.bfloat16)
            arrays[f"{kind}/scored_scores"] = one.scored.scores.astype(jnp.bfloat16)
        if one.seen is not None:
            for field in _SEEN_FIELDS:
                value = getattr(one.seen, field.removeprefix("seen_"))
                arrays[f"{kind}/{field}"] = value.astype(jnp.bfloat16) if value.ndim > 1 else value
    return arrays


def calibrations_from_arrays(
    arrays: Mapping[str, Array], num_shape: int, num_moving: int
) -> dict[str, Calibration]:
    """The other way; covariances may also be whole, as older checkpoints have them.

    Args:
        arrays: by name.
        num_shape: S.
        num_moving: W = U - S.

    Raises:
        ValueError: a field is missing, of a wrong shape or not finite; the message names it.
    """
    size = num_shape + num_moving
    shapes = {
        "offset": (size,),
        "matrix": (size, size),
        "covariance": (size, size),
        "scored_offset": (num_moving,),
        "scored_matrix": (num_moving, num_moving),
        "scored_scores": (num_moving, 2 * NUM_SCORES),
        "seen_offset": (num_shape,),
        "seen_matrix": (num_shape, num_shape),
        "seen_centre": (NUM_ACTIVATIONS,),
        "seen_scale": (NUM_ACTIVATIONS,),
        "seen_few": (NUM_ACTIVATIONS, None),
        "seen_shapes": (2, None, num_shape),
    }
    found: dict[str, dict[str, Array]] = {}
    for name, value in arrays.items():
        kind, _, field = name.partition("/")
        if kind not in KINDS or field not in shapes:
            raise ValueError(f"{name}: no field of a calibration")
        if field == "covariance" and value.shape == (size * (size + 1) // 2,):
            value = _symmetric(value, size)
        fits = len(value.shape) == len(shapes[field]) and all(
            asked in (None, there) for asked, there in zip(shapes[field], value.shape, strict=True)
        )
        if not fits or not np.isfinite(np.asarray(value)).all():
            raise ValueError(f"{name} has shape {value.shape}, expected {shapes[field]}, and is finite")
        found.setdefault(kind, {})[field] = value
    calibrations = {}
    for kind, fields in found.items():
        scored, seen = (any(field in fields for field in some) for some in (_SCORED_FIELDS, _SEEN_FIELDS))
        wanted = _FIELDS + _SCORED_FIELDS * scored + _SEEN_FIELDS * seen
        if missing := [name for name in wanted if name not in fields]:
            raise ValueError(f"{kind} lacks {', '.join(missing)}")
        if seen and fields["seen_few"].shape[1] != fields["seen_shapes"].shape[1]:
            raise ValueError(f"{kind}/seen_few and {kind}/seen_shapes do not fit each other")
        of_scores = ScoredExpression(*(fields[name] for name in _SCORED_FIELDS)) if scored else None
        of_picture = SeenShape(*(fields[name] for name in _SEEN_FIELDS)) if seen else None
        offset, matrix, covariance = (fields[name] for name in _FIELDS)
        calibrations[kind] = Calibration(offset, matrix, covariance, of_scores, of_picture)
    return calibrations


def _symmetric(lower: Array, size: int) -> Array:
    rows, columns = np.tril_indices(size)
    return jnp.zeros((size, size), lower.dtype).at[rows, columns].set(lower).at[columns, rows].set(lower)
