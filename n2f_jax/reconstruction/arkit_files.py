"""ARKit's blendshape weights of heads as a table, and tables as a head model's expressions (``fitting.arkit``).

A table is CSV: one row a head or frame; columns by ARKit's names, as written here or with a capital first letter, as
Live Link Face writes them. Other columns are kept out; units that have no column are 0.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

import flame_jax
from flame_jax import HeadModel
from flame_jax.rotations import rotation_6d_to_axis_angle
from n2f_jax.face_mesh.arkit_names import UNITS
from n2f_jax.fitting.arkit import ArkitUnits
from n2f_jax.fitting.correspondence_cache import kept_correspondence
from n2f_jax.models.pretrained import HeadModelIdentity, identity_sha256
from n2f_jax.reconstruction.head_file import flame_params
from n2f_jax.reconstruction.live_link_face import TIMECODE_RATE, write_both_tables
from n2f_jax.runtime.atomic_files import atomic_path, write_text
from n2f_jax.runtime.outside_values import read_text

# ARKit's 52nd: no head model here has a tongue that moves.
TONGUE = "tongueOut"
# Two hours at 60 frames a second; as weights 200 MB.
MAX_ROWS = 500_000
# Of the file that a table becomes: (shape, meaning), N rows, E expression directions.
EXPRESSION_KEYS: dict[str, tuple[tuple, str]] = {
    "names": (("N",), "first column of each row that is no unit's, else its number"),
    "expression": (("N", "E"), "expression coefficients"),
    "jaw_pose": (("N", 3), "jaw rotation, axis times angle, radians"),
    "eyelids": (("N", 2), "closure, left then right"),
    "eyes_pose": (("N", 2, 3), "rotations of the eyeballs, left then right, axis times angle, radians"),
    "left_mm": (("N",), "root mean square distance of the face's skin from the sum of the units"),
    "head_model": ((), "name of the head model"),
    "head_model_sha256": ((), "what it is"),
}


class ArkitTableError(ValueError):
    """A table that is none; one line that names the file."""


def units_of(model: HeadModel, path: Path | None, say: Callable[[str], None] = print) -> ArkitUnits:
    """The units on a head model: the open head's own, or carried over by the correspondence kept beside its file.

    Raises:
        ValueError, AlignmentError: the model has no landmarks, or no correspondence was found.
    """
    open_head = flame_jax.load_open_head()
    if not HeadModelIdentity.of(open_head).differences(HeadModelIdentity.of(model)):
        return ArkitUnits.of_open_head(open_head)
    return ArkitUnits.of_model(model, open_head, kept_correspondence(open_head, model, path, say=say))


def heads_to_weights(
    units: ArkitUnits, heads: Sequence[dict[str, Any]]
) -> tuple[Float[np.ndarray, "N 51"], Float[np.ndarray, " N"]]:
    """Weights of what ``head_file.load_parameters`` read, and what they leave in mm."""
    return units.to_weights(flame_params(heads))


def write_live_link_table(
    path: Path, units: ArkitUnits, heads: Sequence[dict[str, Any]]
) -> Float[np.ndarray, " N"]:
    """Live Link Face's tables of heads, a frame of 60 a second each (``live_link_face.write_both_tables``).

    Args:
        path: of the table.
        units: of the heads' model.
        heads: of ``head_file.load_parameters``.

    Returns:
        What the weights leave, mm.
    """
    weights, left = heads_to_weights(units, heads)
    scores, rotation, eyes = (
        np.stack([np.asarray(head[key], np.float64) for head in heads])
        for key in ("frontend_blendshapes", "rotation", "eyes_pose")
    )
    moments = np.arange(len(heads)) / TIMECODE_RATE
    write_both_tables(path, list(moments), weights, scores, rotation, eyes)
    return left


def write_weights(
    path: Path, names: Sequence[str], weights: Float[np.ndarray, "N 51"], left_mm: Float[np.ndarray, " N"]
) -> None:
    """A table: ``name``, ARKit's 52 units, ``left_mm``."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["name", *UNITS, TONGUE, "left_mm"])
    for name, row, left in zip(names, weights, left_mm, strict=True):
        writer.writerow([name, *(f"{value:.4f}" for value in row), "0.0000", f"{left:.3f}"])
    write_text(path, table.getvalue())


def read_weights(path: Path) -> tuple[list[str], Float[np.ndarray, "N 51"]]:
    """Names and weights of a table.

    Raises:
        ArkitTableError: no column is a unit's, a row is too short, a number is none or not within 0 … 1, or there are
            more than half a million rows.
        FileNotFoundError: there is none.
        OutsideValueError: no regular file, or larger than 16 MiB.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(read_text(path))) if row]
    except csv.Error as error:
        raise ArkitTableError(f"{path} is no CSV: {error}") from error
    if not rows:
        raise ArkitTableError(f"{path} is empty")
    if len(rows) > MAX_ROWS + 1:
        raise ArkitTableError(f"{path} has {len(rows) - 1} rows; at most {MAX_ROWS} are read")
    header = [name.strip() for name in rows[0]]
    # Live Link Face writes no values of a moment at which it saw nobody.
    count = header.index("BlendShapeCount") if "BlendShapeCount" in header else None
    if count is not None:
        rows = rows[:1] + [row for row in rows[1:] if row[count : count + 1] != ["0"]]
    number_of = {unit: number for number, unit in enumerate(UNITS)}
    own = [name[:1].lower() + name[1:] for name in header]
    # Unit → column: the last, of several of a name.
    place = {number_of[name]: column for column, name in enumerate(own) if name in number_of}
    if not place:
        raise ArkitTableError(f"{path}: no column has a name of ARKit's (jawOpen, EyeBlinkLeft, …)")
    units = {*place.values()}
    label = next((i for i in range(len(header)) if i not in units), None)
    names, weights = [], np.zeros((len(rows) - 1, len(UNITS)))
    for number, (row, weight) in enumerate(zip(rows[1:], weights, strict=True), start=2):
        try:
            for unit, column in place.items():
                weight[unit] = float(row[column])
        except (ValueError, IndexError) as error:
            raise ArkitTableError(f"{path}, line {number}: a weight is missing or no number") from error
        names.append(row[label] if label is not None and label < len(row) else str(number - 2))
    wrong = ~((weights >= 0.0) & (weights <= 1.0)).all(axis=1)
    if wrong.any():
        raise ArkitTableError(f"{path}, line {int(wrong.argmax()) + 2}: weights lie within 0 and 1")
    return names, weights


def write_expressions(
    path: Path, model: HeadModel, units: ArkitUnits, names: Sequence[str], weights: Float[np.ndarray, "N 51"]
) -> Float[np.ndarray, " N"]:
    """Weights as a model's expressions, an ``.npz`` of ``EXPRESSION_KEYS``; returns what is left in mm."""
    params, left = units.to_params(weights)
    turns = {"jaw_pose": params.jaw, "eyes_pose": params.eyes}
    values = {
        "names": np.array(names),
        "expression": np.asarray(params.expression),
        **{key: np.asarray(rotation_6d_to_axis_angle(value)) for key, value in turns.items()},
        "eyelids": np.asarray(params.eyelids),
        "left_mm": left,
        "head_model": np.array(model.name),
        "head_model_sha256": np.array(identity_sha256(HeadModelIdentity.of(model))),
    }
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **values)
    return left
