import numpy as np
import pytest

from n2f_jax.mesh.cleaning import clean
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh

TETRAHEDRON = TriangleMesh(
    np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]),
)


def test_cleaning_takes_out_what_spoils_a_measurement_and_counts_it():
    vertices = np.concatenate([TETRAHEDRON.vertices, [[9.0, 9, 9], [np.nan, 0, 0], [0.5, 0, 0]]])
    extra = [
        [0, 1, 2],
        [3, 3, 1],
        [0, 6, 1],
    ]  # the first triangle again, a repeated corner, corners in a line
    mesh, kept, report = clean(TriangleMesh(vertices, np.concatenate([TETRAHEDRON.faces, extra])))
    np.testing.assert_array_equal(mesh.vertices, TETRAHEDRON.vertices)
    np.testing.assert_array_equal(mesh.faces, TETRAHEDRON.faces)
    np.testing.assert_array_equal(kept, range(4))
    assert (report.not_finite, report.unreferenced, report.degenerate, report.duplicate) == (1, 2, 2, 1)
    assert str(report) == "1 not finite, 2 unreferenced, 2 degenerate, 1 duplicate"


def test_cleaning_renumbers_triangles():
    shifted = TriangleMesh(np.concatenate([[[5.0, 5, 5]], TETRAHEDRON.vertices]), TETRAHEDRON.faces + 1)
    mesh, kept, _ = clean(shifted)
    np.testing.assert_array_equal(mesh.vertices[mesh.faces], TETRAHEDRON.vertices[TETRAHEDRON.faces])
    np.testing.assert_array_equal(kept, [1, 2, 3, 4])


def test_a_hole_and_a_point_cloud_are_kept():
    open_mesh, _, report = clean(TriangleMesh(TETRAHEDRON.vertices, TETRAHEDRON.faces[:2]))
    assert len(open_mesh.faces) == 2 and str(report) == ""
    cloud, _, _ = clean(TriangleMesh(TETRAHEDRON.vertices, np.zeros((0, 3), np.int64)))
    assert len(cloud.vertices) == 4


def test_a_surface_through_nowhere_and_an_empty_one_are_refused():
    vertices = TETRAHEDRON.vertices.copy()
    vertices[3, 1] = np.inf
    with pytest.raises(MeshError, match=r"scan7: 3 triangles .* not finite"):
        clean(TriangleMesh(vertices, TETRAHEDRON.faces), "scan7")
    with pytest.raises(MeshError, match="without area"):
        clean(TriangleMesh(np.zeros((3, 3)), np.array([[0, 1, 2]])))
    with pytest.raises(MeshError, match="no vertex is left"):
        clean(TriangleMesh(np.full((3, 3), np.nan), np.zeros((0, 3), np.int64)))
