"""Heads as what a client asked for: JSON, NPZ or GLB."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from n2f_jax.reconstruction.head import Head
from n2f_jax.reconstruction.head_file import KEYS, parameters_npz
from n2f_jax.reconstruction.output_files import MeshWriter
from n2f_jax.serving.problems import Problem

Format = Literal["json", "npz", "glb"]
MEDIA_TYPES: dict[str, str] = {
    "json": "application/json",
    "npz": "application/x-npz",
    "glb": "model/gltf-binary",
}
# What else clients call them.
_ALSO = {"application/octet-stream": "npz", "application/*": "json", "model/*": "glb", "*/*": "json"}
_ZIP = "application/zip"
# Of the keys of a head file, what JSON holds only on demand: 40 times the rest.
MESH_KEYS = ("vertices", "faces", "frontend_points")
_DECIMALS = 7  # of metres: a ten-thousandth of a millimetre


def format_of(asked: str | None, accept: str) -> Format:
    """What is to be answered.

    Args:
        asked: by name, which counts before the header; None without it.
        accept: the header ``Accept``; "" for none, which is JSON.

    Raises:
        Problem: 406, the header has nothing that there is.
    """
    if asked is not None:
        return asked
    by_type = {kind: name for name, kind in MEDIA_TYPES.items()} | _ALSO
    best, quality = None, 0.0
    for entry in accept.split(",")[:100]:
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        weight = _quality(parameters)
        if kind in by_type and weight > quality:  # the first of equals
            best, quality = by_type[kind], weight
    if best is None and accept.strip():
        there = ", ".join(MEDIA_TYPES.values())
        raise Problem(406, f"answers are {there}, and Accept has none of them; or name one with ?format=")
    return best or "json"


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if math.isfinite(weight) else 0.0
    return 1.0


class Answers:
    """Writes heads of one head model.

    Args:
        meshes: of that model.
    """

    def __init__(self, meshes: MeshWriter):
        self._meshes = meshes

    def __call__(
        self, heads: Sequence[Head], form: Format, mesh: bool, every_face: bool
    ) -> tuple[bytes, str]:
        """The answer's content and media type.

        NPZ and GLB are of the largest face, as ``n2f reconstruct`` writes them, or with ``every_face`` a ZIP archive of
        those of all; JSON is of all faces.

        Args:
            heads: of one photograph, the largest first.
            form: what is wanted.
            mesh: JSON with the mesh.
            every_face: see above.

        Raises:
            Problem: 422, NPZ or GLB of a photograph without a face.
        """
        if form == "json":
            return as_json(heads, mesh), MEDIA_TYPES[form]
        if not heads:
            raise Problem(422, "no face was found in the photograph")
        write: Callable[[Head], bytes] = {
            "npz": lambda head: parameters_npz(head.parameters()),
            "glb": lambda head: self._meshes.glb(head.vertices, head.faces),
        }[form]
        if not every_face:
            return write(heads[0]), MEDIA_TYPES[form]
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:  # stored: NPZ is packed already, and GLB hardly packs
            for number, head in enumerate(heads, 1):
                name = "head" if number == 1 else f"head_face{number}"
                archive.writestr(f"{name}.{form}", write(head))
        return stream.getvalue(), _ZIP


def as_json(heads: Sequence[Head], mesh: bool) -> bytes:
    """``{"heads": [...]}``, each with the keys of a head file and ``doubtful``; what is no number is null.

    Args:
        heads: of one photograph.
        mesh: with ``MESH_KEYS``.
    """
    left_out = () if mesh else (*MESH_KEYS,)
    said = []
    for head in heads:
        values = head.parameters()
        said.append(
            {key: _plain(values[key]) for key in KEYS if key not in left_out}
            | {"doubtful": bool(head.is_doubtful)}
        )
    return json.dumps({"heads": said}, allow_nan=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """As JSON has it."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = np.round(array.astype(np.float64), _DECIMALS)
        if not np.isfinite(array).all():
            array = np.where(np.isfinite(array), array, None)
    return array.tolist()


assert set(MEDIA_TYPES) == set(get_args(Format))
