"""Random heads of the ICT Face Model Light (USC ICT, github.com/ICT-VGL/ICT-FaceKit, MIT): heads that are not ours.

Li, Bladin, Zhao, Chinara, Ingraham, Xiang, Ren, Prasad, Kishore, Xing, Li: "Learning Formation of Physically-Based
Face Attributes", CVPR 2020: principal components of Light Stage scans of adults, from one laboratory. The model is not
part of this package: it is read from a folder ``FaceXModel`` of that repository, or from an ``.npz`` of its arrays.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from flame_jax.files.outside import reason
from n2f_jax.mesh.reading import read_mesh
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh, part_of
from n2f_jax.runtime.outside_values import numbers, read_arrays, read_json

_CENTIMETRE = 0.01
# Vertices of face, head, neck, mouth and eye sockets, and of the eyeballs (the repository's table of its topology).
# Left out are teeth, tongue, lashes, and the transparent shells before the eyes, which would be drawn as skin.
_SHOWN = np.r_[0:14062, 21451:24591]
NUM_IDENTITY = 100
# Corners of eyes and mouth and middles of the lips: the other landmarks are marked in other places than ours.
MARKED_ALIKE = (36, 39, 42, 45, 48, 51, 54, 57, 62, 66)
# Of a face that is not at rest: how many of the shapes, and how much of each.
_MOST_SHAPES = 4
_WEIGHTS = (0.2, 0.8)
_NOT_DRAWN = ("PupilDilate", "eyeLook")


@dataclasses.dataclass(frozen=True)
class IctFaceKit:
    """The model's arrays. Metres; x to the subject's left, y up, z out of the face.

    Attributes:
        mesh: neutral mean: face, head, neck, sockets, eyeballs.
        landmarks_68: ``(68,)`` vertices of Multi-PIE's points; brows and nose are placed otherwise than our 68.
        identity: ``(100, V, 3)`` displacement per unit of each coefficient, which is N(0, 1) over people.
        expression: ``(E, V, 3)`` displacement of each expression at weight 1.
        expression_names: of these.
    """

    mesh: TriangleMesh
    landmarks_68: Int[np.ndarray, "68"]
    identity: Float[np.ndarray, "100 V 3"]
    expression: Float[np.ndarray, "E V 3"]
    expression_names: tuple[str, ...]


def load_ict_facekit(path: str | Path) -> IctFaceKit:
    """Reads the model.

    Args:
        path: the folder ``FaceXModel`` of a clone of ICT-FaceKit (``generic_neutral_mesh.obj``, ``identity000.obj`` …,
            ``vertex_indices.json``; centimetres), or an ``.npz`` with ``neutral``, ``faces``, ``landmarks_68``,
            ``identity``, ``expression``, ``expression_names`` (metres).

    Raises:
        FileNotFoundError: no such file; the message says where the model comes from.
        MeshError: something else.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: clone https://github.com/ICT-VGL/ICT-FaceKit and name its folder FaceXModel"
        )
    try:
        return _read_folder(path) if path.is_dir() else _read_npz(path)
    except (KeyError, ValueError, IndexError, TypeError, OSError) as error:
        raise MeshError(f"{path}: not the ICT Face Model Light ({reason(error)})") from error


def _read_npz(path: Path) -> IctFaceKit:
    data = read_arrays(path)
    return IctFaceKit(
        TriangleMesh(numbers(data["neutral"]), numbers(data["faces"], np.int64)),
        numbers(data["landmarks_68"], np.int64),
        numbers(data["identity"]).astype(np.float32),
        numbers(data["expression"]).astype(np.float32),
        tuple(str(name) for name in data["expression_names"]),
    )


def _read_folder(folder: Path) -> IctFaceKit:
    described = read_json(folder / "vertex_indices.json")
    whole = read_mesh(folder / "generic_neutral_mesh.obj")
    shown = _SHOWN[: np.searchsorted(_SHOWN, len(whole.vertices))]
    neutral = part_of(whole, shown)

    def displacement(name: str) -> np.ndarray:
        shape = read_mesh(folder / f"{name}.obj")
        if shape.vertices.shape != whole.vertices.shape:
            raise ValueError(f"{name}.obj has {len(shape.vertices)} vertices, not {len(whole.vertices)}")
        return (_CENTIMETRE * (shape.vertices - whole.vertices)[shown]).astype(np.float32)

    identities = sorted(file.stem for file in folder.glob("identity[0-9]*.obj"))
    expressions = sorted(
        file.stem
        for file in folder.glob("*.obj")
        if file.stem not in identities and file.stem != "generic_neutral_mesh"
    )
    if len(identities) != NUM_IDENTITY or not expressions:
        raise ValueError(f"{len(identities)} identities, {len(expressions)} expressions")
    return IctFaceKit(
        neutral.scaled(_CENTIMETRE),
        numbers(described["idx_to_landmark_verts"], np.int64),
        np.stack([displacement(name) for name in identities]),
        np.stack([displacement(name) for name in expressions]),
        tuple(expressions),
    )


# Halves of the identity modes, to test on one what was learnt from the other.
MODES = {"all": slice(None), "even": slice(0, None, 2), "odd": slice(1, None, 2)}


def draw_head(
    model: IctFaceKit, number: int, seed: int = 0, modes: slice = MODES["all"]
) -> tuple[TriangleMesh, dict[str, float]]:
    """Person ``number`` of an endless row: identity coefficients N(0, 1); every third at rest, the others with up to
    four expressions of weight 0.2 … 0.8, the two sides of a face mostly alike.

    Args:
        model: the face model.
        number: of the person.
        seed: of the row.
        modes: identity modes that count; the others' coefficients are 0.

    Returns:
        The head, metres, and the weights of its expressions.
    """
    rng = np.random.default_rng([seed, number])
    drawn = rng.standard_normal(len(model.identity))
    vertices = model.mesh.vertices + np.tensordot(drawn[modes], model.identity[modes], axes=1)
    weights: dict[str, float] = {}
    if number % 3:
        stems = sorted({name.removesuffix("_L").removesuffix("_R") for name in model.expression_names})
        stems = [stem for stem in stems if not stem.startswith(_NOT_DRAWN)]
        count = min(rng.integers(1, _MOST_SHAPES + 1), len(stems))
        for stem in rng.choice(stems, size=count, replace=False):
            weight = rng.uniform(*_WEIGHTS)
            for name in (stem, f"{stem}_L", f"{stem}_R"):
                if name in model.expression_names:
                    side = weight * rng.uniform(0.8, 1.2)
                    weights[name] = round(float(side), 4)
                    vertices = vertices + side * model.expression[model.expression_names.index(name)]
    return TriangleMesh(vertices, model.mesh.faces), weights
