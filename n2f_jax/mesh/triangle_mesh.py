"""A triangle mesh: vertices and faces that travel together."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int


class MeshError(ValueError):
    """A mesh that cannot be measured; the message names the file or says what is wrong."""


@dataclasses.dataclass(frozen=True)
class TriangleMesh:
    """Vertices and triangles.

    Attributes:
        vertices: ``(V, 3)`` float64; unit and frame are the owner's to know.
        faces: ``(F, 3)`` int64, counter-clockwise seen from outside; ``(0, 3)`` for a bare point cloud.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]

    def scaled(self, factor: float) -> TriangleMesh:
        """All lengths times ``factor``."""
        return dataclasses.replace(self, vertices=self.vertices * factor)


def part_of(mesh: TriangleMesh, indices: Int[np.ndarray, " n"]) -> TriangleMesh:
    """The triangles whose three corners are among the given vertices, with these in their order."""
    renumber = np.full(len(mesh.vertices), -1)
    renumber[indices] = np.arange(len(indices))
    faces = renumber[mesh.faces]
    return TriangleMesh(mesh.vertices[indices], faces[(faces >= 0).all(axis=1)])
