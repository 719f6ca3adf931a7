"""Takes out of a mesh what would spoil a measurement on it."""

from __future__ import annotations

import dataclasses

import numpy as np

from n2f_jax.mesh.normals import face_normals
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """What ``clean`` took out of a mesh.

    Attributes:
        not_finite: vertices with a coordinate that is no number.
        unreferenced: vertices that no remaining triangle uses.
        degenerate: triangles without area (a repeated corner, or corners in a line).
        duplicate: triangles over the same three vertices as an earlier one.
    """

    not_finite: int = 0
    unreferenced: int = 0
    degenerate: int = 0
    duplicate: int = 0

    def __str__(self) -> str:
        parts = [
            f"{count} {name.replace('_', ' ')}" for name, count in dataclasses.asdict(self).items() if count
        ]
        return ", ".join(parts)


def clean(mesh: TriangleMesh, name: str = "mesh") -> tuple[TriangleMesh, np.ndarray, Cleaning]:
    """The mesh without what would spoil a measurement, and what was taken out.

    Removed are triangles without area, repeated triangles (which would weigh double in normals) and vertices that no
    triangle uses (scanners leave stray points; they would be measured as surface). Holes are kept. A bare point
    cloud keeps its points. A coordinate that is not finite at a vertex that triangles use is an error: nothing says
    where the surface runs.

    Args:
        mesh: as read.
        name: for error messages.

    Returns:
        The mesh, ``(V',)`` the index of each remaining vertex in ``mesh``, and the counts.

    Raises:
        MeshError: not finite, or nothing is left.
    """
    vertices, faces = mesh.vertices, mesh.faces
    finite = np.isfinite(vertices).all(axis=1)
    if faces.size and not finite.all() and not finite[faces].all():
        bad = int((~finite[faces]).any(axis=1).sum())
        raise MeshError(f"{name}: {bad} triangles have a corner whose coordinates are not finite")
    degenerate = duplicate = 0
    if faces.size:
        double_area = np.linalg.norm(face_normals(vertices, faces), axis=1)
        a, b, c = (vertices[faces[:, corner]].T for corner in range(3))
        # Relative to the longest edge: a sliver this thin has no normal in float64.
        longest = np.maximum.reduce([(edge**2).sum(axis=0) for edge in (b - a, c - a, c - b)])
        flat = double_area <= 1e-12 * longest
        degenerate = int(flat.sum())
        if degenerate:
            faces = faces[~flat]
        ordered = np.sort(faces, axis=1)
        count = len(vertices)
        if count > 2_000_000:
            _, first = np.unique(ordered, axis=0, return_index=True)
        else:
            # One number a triangle sorts faster than three; above 2 M vertices it would not fit int64.
            keys = (ordered[:, 0] * count + ordered[:, 1]) * count + ordered[:, 2]
            _, first = np.unique(keys, return_index=True)
        duplicate = len(faces) - len(first)
        if duplicate:
            faces = faces[np.sort(first)]
        used = np.zeros(len(vertices), bool)
        used[faces.ravel()] = True
        if not used.any():
            raise MeshError(f"{name}: all {degenerate} triangles are without area")
    else:
        used = finite.copy()
    keep = used & finite
    report = Cleaning(
        not_finite=int((~finite).sum()),
        unreferenced=int((finite & ~used).sum()),
        degenerate=degenerate,
        duplicate=duplicate,
    )
    if not keep.any():
        raise MeshError(f"{name}: no vertex is left after cleaning ({report})")
    kept = np.flatnonzero(keep)
    if len(kept) == len(vertices):
        return TriangleMesh(vertices, faces), kept, report
    renumber = np.full(len(vertices), -1)
    renumber[kept] = np.arange(len(kept))
    return TriangleMesh(vertices[kept], renumber[faces]), kept, report
