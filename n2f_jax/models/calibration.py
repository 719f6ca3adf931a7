"""What a network's answer says of the truth: a Gaussian over heads, for each kind of input.

Over heads whose truth is known, the truth's expectation is taken to be linear in the answer, and what is left to be
Gaussian. So the answer, a regression that was trained on other maps or other people, becomes a measurement with its own
error, which fits can weigh against what they see (``fitting.prior``).

The unknowns are, in this order, shape, expression, jaw (axis times angle, radians) and eyelids; U = S + E + 5.
"""

from __future__ import annotations

import dataclasses
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

# What networks are shown: normal maps of a network or a renderer, alone or with the face mesh's points; the free front
# end's maps, of either face mesh.
KINDS = ("normals", "normals_points", "face_mesh_v1", "face_mesh_v2")
_FIELDS = ("offset", "matrix", "covariance")
PENALTIES = np.geomspace(1e-3, 100.0, 16)


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
class Calibration:
    """Truth given answer: N(offset + matrix @ answer, covariance). A pytree.

    Attributes:
        offset: ``(U,)``.
        matrix: ``(U, U)``.
        covariance: ``(U, U)`` of the truth about that.
    """

    offset: Float[Array, " U"]
    matrix: Float[Array, "U U"]
    covariance: Float[Array, "U U"]


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
    return Calibration(*(jnp.asarray(value, jnp.float32) for value in (offset, matrix, covariance)))


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
    drawn, left, figures = _towards_truth(expected, shapes, people, gram, penalties)
    said = float(np.sqrt(np.sum(gram * covariance[:count, :count])))
    figures["optimism"] = _size(left, gram) / said
    offset[:count], matrix[:count] = drawn @ offset[:count], drawn @ matrix[:count]
    return _in_float32(offset, matrix, covariance), figures


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
    drawn, left, figures = _towards_truth(
        expected / deviation,
        expressions / deviation,
        people,
        gram * np.outer(deviation, deviation),
        penalties,
    )
    said = float(np.sqrt(np.sum(gram * covariance[count:, count:])))
    figures["optimism"] = _size(left * deviation, gram) / said
    drawn = deviation[:, None] * drawn / deviation
    drawn = share * drawn + (1.0 - share) * np.eye(len(drawn))
    drawn[-2:] = np.eye(len(drawn))[-2:]
    offset[count:], matrix[count:] = drawn @ offset[count:], drawn @ matrix[count:]
    return _in_float32(offset, matrix, covariance), figures


def _towards_truth(
    expected: Float[np.ndarray, "N K"],
    truths: Float[np.ndarray, "N K"],
    people: Int[np.ndarray, " N"],
    gram: Float[np.ndarray, "K K"],
    penalties: Float[np.ndarray, " P"],
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """The linear map of what was expected onto what is true, by ridge regression whose penalty is chosen by five-fold
    cross-validation over people; what that leaves of each that is held out; figures."""
    names, people = np.unique(people, return_inverse=True)
    if len(names) < 10:
        raise ValueError(f"{len(names)} people are too few: take 10 or more")
    fold = np.random.default_rng(0).permutation(len(names))[people] % 5
    unit = len(expected) * np.mean(expected**2)

    def fit(chosen: np.ndarray, penalty: float) -> np.ndarray:
        x, y = expected[chosen], truths[chosen]
        return np.linalg.solve(x.T @ x + penalty * unit * np.eye(x.shape[1]), x.T @ y)

    def held_out(penalty: float) -> np.ndarray:
        left = np.empty_like(truths)
        for number in range(5):
            of = fold == number
            left[of] = truths[of] - expected[of] @ fit(~of, penalty)
        return left

    left = {float(penalty): held_out(penalty) for penalty in penalties}
    errors = {penalty: _size(one, gram) for penalty, one in left.items()}
    penalty = min(errors, key=errors.__getitem__)
    whole = _size(truths, gram)
    figures = {
        "penalty": penalty,
        "before": _size(truths - expected, gram) / whole,
        "after": errors[penalty] / whole,
    }
    return fit(np.ones(len(people), bool), penalty).T, left[penalty], figures


def _size(left: Float[np.ndarray, "N K"], gram: Float[np.ndarray, "K K"]) -> float:
    """Root mean square displacement of the places behind ``gram``."""
    return float(np.sqrt(np.mean(np.einsum("ns,st,nt->n", left, gram, left))))


def _in_float32(offset: np.ndarray, matrix: np.ndarray, covariance: np.ndarray) -> Calibration:
    return Calibration(*(jnp.asarray(value, jnp.float32) for value in (offset, matrix, covariance)))


def calibrations_to_arrays(calibrations: Mapping[str, Calibration]) -> dict[str, Array]:
    """As a checkpoint stores them: ``KIND/FIELD``; matrices in bfloat16, lower triangles of covariances, by rows."""
    arrays: dict[str, Array] = {}
    for kind, one in calibrations.items():
        arrays[f"{kind}/offset"] = one.offset
        arrays[f"{kind}/matrix"] = one.matrix.astype(jnp.bfloat16)
        arrays[f"{kind}/covariance"] = one.covariance[np.tril_indices(len(one.offset))]
    return arrays


def calibrations_from_arrays(arrays: Mapping[str, Array], size: int) -> dict[str, Calibration]:
    """The other way; covariances may also be whole, as older checkpoints have them.

    Raises:
        ValueError: a field is missing, of a wrong shape or not finite; the message names it.
    """
    found: dict[str, dict[str, Array]] = {}
    for name, value in arrays.items():
        kind, _, field = name.partition("/")
        if kind not in KINDS or field not in _FIELDS:
            raise ValueError(f"{name}: no field of a calibration")
        if field == "covariance" and value.shape == (size * (size + 1) // 2,):
            value = _symmetric(value, size)
        expected = (size,) if field == "offset" else (size, size)
        if value.shape != expected or not np.isfinite(np.asarray(value)).all():
            raise ValueError(f"{name} has shape {value.shape}, expected {expected}, and is finite")
        found.setdefault(kind, {})[field] = value
    for kind, fields in found.items():
        if missing := [field for field in _FIELDS if field not in fields]:
            raise ValueError(f"{kind} lacks {', '.join(missing)}")
    return {kind: Calibration(**fields) for kind, fields in found.items()}


def _symmetric(lower: Array, size: int) -> Array:
    rows, columns = np.tril_indices(size)
    return jnp.zeros((size, size), lower.dtype).at[rows, columns].set(lower).at[columns, rows].set(lower)
