"""What registered scans say of the open head's shape coefficients: a mean, and how people differ about it.

The scans' model (mean mesh and linear modes of unit variance, ``benchmark.ict_facekit``) is laid over once: its mean
is registered, and every mode is then read where the registered skin lies on it, so that all modes are the solution of
one linear system. Coefficients are those of ``build.Generator``: principal components of MakeHuman's heads.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float

from flame_jax import HeadModel
from n2f_jax.benchmark.ict_facekit import MARKED_ALIKE, IctFaceKit
from n2f_jax.benchmark.mesh_heads import MeshReader
from n2f_jax.fitting.correspondences import ModelSkin, ScanSurface
from n2f_jax.fitting.registration import Registrar, RegistrationConfig
from n2f_jax.geometry.alignment import procrustes
from n2f_jax.mesh.closest_points import Surface, barycentric
from n2f_jax.mesh.normals import vertex_areas, vertex_normals
from n2f_jax.metrics.skin import visible_vertices

PATH = Path(__file__).with_name("scan_statistics.npz")
ICT = (
    "ICT Face Model Light (USC ICT, github.com/ICT-VGL/ICT-FaceKit at da5f95a, MIT License): principal components of "
    "Light Stage scans of adults, from one laboratory; registered to MakeHuman's heads"
)
# How far off pairs are taken to be where the mean is registered, metres: what the scan leaves free (under the nostrils,
# inside the lips) then stays with MakeHuman's head, at 0.84 mm instead of 0.69 from the scans' mean.
MEAN_NOISE = 3e-3
# The same of a mode at each vertex, and how many vertices err as one.
MODE_NOISE, CORRELATED = 1e-3, 10.0
_FURTHEST = 6e-3  # metres, between a vertex of the registered skin and its place on the scans' mean


@dataclasses.dataclass(frozen=True)
class ScanStatistics:
    """Mean and covariance of shape coefficients over people.

    Attributes:
        mean: ``(S,)``.
        covariance: ``(S, S)``, of the rank of the scans' modes.
        shape_rms: ``(S,)`` of the generator's directions, metres: tells whether they are the same.
        source: what it rests on.
    """

    mean: Float[np.ndarray, " S"]
    covariance: Float[np.ndarray, "S S"]
    shape_rms: Float[np.ndarray, " S"]
    source: str

    def save(self, path: Path = PATH) -> None:
        np.savez_compressed(
            path,
            allow_pickle=False,
            mean=self.mean.astype(np.float32),
            covariance=self.covariance.astype(np.float32),
            shape_rms=self.shape_rms.astype(np.float32),
            source=np.array(self.source),
        )

    @classmethod
    def load(cls, path: Path = PATH) -> ScanStatistics:
        with np.load(path, allow_pickle=False) as stored:
            mean, covariance, rms = (
                stored[key].astype(np.float64) for key in ("mean", "covariance", "shape_rms")
            )
            return cls(mean, covariance, rms, str(stored["source"]))


def measure_scans(
    model: HeadModel,
    shape_rms: Float[np.ndarray, " S"],
    scans: IctFaceKit,
    modes: slice = slice(None),
    source: str = ICT,
) -> ScanStatistics:
    """Registers the scans' mean and solves for their modes.

    Args:
        model: the generator (``build.Generator``).
        shape_rms: of its directions.
        scans: the scans' model.
        modes: which of its modes; their covariance is scaled up to the number of all.
        source: for the record.
    """
    mean, coefficients = scan_coefficients(model, scans, modes)
    share = len(scans.identity) / coefficients.shape[1]
    return ScanStatistics(
        mean, share * coefficients @ coefficients.T, np.asarray(shape_rms, np.float64), source
    )


def scan_coefficients(
    model: HeadModel, scans: IctFaceKit, modes: slice = slice(None)
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, "S M"]]:
    """Shape coefficients of the scans' mean, and of a step of one deviation along each of their modes."""
    marked = np.full((68, 3), np.nan)
    marked[list(MARKED_ALIKE)] = scans.mesh.vertices[scans.landmarks_68[list(MARKED_ALIKE)]]
    truth = MeshReader()(scans.mesh, marked)
    known = np.full((68, 3), np.nan)
    known[list(MARKED_ALIKE)] = truth.mesh.vertices[scans.landmarks_68[list(MARKED_ALIKE)]]
    regular = Registrar(model, RegistrationConfig(rest=True, noise_std=MEAN_NOISE))(truth.mesh, known)
    close = Registrar(model, RegistrationConfig(rest=True))(truth.mesh, known)

    # Which place of the scans' mean each vertex of the closely registered skin is.
    placed = close.similarity.apply(close.vertices)
    skin = ModelSkin(np.asarray(model.faces, np.int64), visible_vertices(model))
    found = Surface(truth.mesh).closest_of_any_order(placed[skin.vertices])
    weights = barycentric(truth.mesh, found.face, found.point)
    normals = vertex_normals(placed, skin.faces)[skin.vertices]
    *_, counts = ScanSurface(truth.mesh).nearest(placed[skin.vertices], normals, _FURTHEST)
    rows, corners, weights = skin.vertices[counts], truth.mesh.faces[found.face[counts]], weights[counts]

    turn = np.asarray(procrustes(scans.mesh.vertices, truth.mesh.vertices).rotation)
    turn = close.similarity.rotation.T @ turn  # the scans' axes to the head's
    moved = np.stack(
        [
            np.einsum("nc,ncd->nd", weights, mode.astype(np.float64)[corners]) @ turn.T
            for mode in scans.identity[modes]
        ]
    )
    return np.asarray(regular.params.shape, np.float64), _solve_modes(model, close.vertices, rows, moved)


def _solve_modes(
    model: HeadModel,
    vertices: Float[np.ndarray, "V 3"],
    rows: np.ndarray,
    moved: Float[np.ndarray, "M n 3"],
) -> Float[np.ndarray, "S M"]:
    """Coefficients of displacements, each up to a small rigid motion, under the generator's prior N(0, 1)."""
    basis = np.asarray(model.shapedirs, np.float64)[rows].reshape(3 * len(rows), -1)
    arm = (vertices[rows] - vertices[rows].mean(axis=0)) / 0.1
    turns = np.cross(np.eye(3)[None, :, :], arm[:, None, :]).transpose(0, 2, 1)  # (n, 3, 3): axis last
    shifts = np.broadcast_to(np.eye(3), turns.shape)
    columns = np.concatenate([basis, np.concatenate([turns, shifts], axis=-1).reshape(-1, 6)], axis=1)
    area = vertex_areas(vertices, np.asarray(model.faces))[rows]
    each = np.repeat(area / area.mean(), 3)[:, None] / (CORRELATED * MODE_NOISE**2)
    count = basis.shape[1]
    precision = np.concatenate([np.ones(count), np.full(6, 1e-6)])
    system = (each * columns).T @ columns + np.diag(precision)
    right = (each * columns).T @ moved.reshape(len(moved), -1).T
    return np.linalg.solve(system, right)[:count]
