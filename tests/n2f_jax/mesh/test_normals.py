"""Normals against a loop over triangles."""

import numpy as np
import trimesh

from n2f_jax.mesh.normals import unit_face_normals, vertex_normals


def bumpy():
    sphere = trimesh.creation.icosphere(subdivisions=2)
    factor = np.random.default_rng(0).uniform(0.8, 1.2, (len(sphere.vertices), 1))
    return sphere.vertices * factor, np.asarray(sphere.faces)


def test_normals_are_area_weighted():
    vertices, faces = bumpy()
    expected = np.zeros_like(vertices)
    for face in faces:
        a, b, c = vertices[face]
        expected[face] += np.cross(b - a, c - a)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vertex_normals(vertices, faces), expected, atol=1e-12)
    # Of any kinds of numbers, and in float64 all the same.
    single = vertex_normals(vertices.astype(np.float32), faces.astype(np.int32))
    assert single.dtype == np.float64
    np.testing.assert_allclose(single, expected, atol=1e-5)


def test_a_vertex_without_a_triangle_and_a_triangle_without_area_have_none():
    vertices, faces = bumpy()
    np.testing.assert_array_equal(vertex_normals(np.concatenate([vertices, [[0.0, 0, 0]]]), faces)[-1], 0)
    flat = np.concatenate([faces, [[3, 3, 5]]])
    normals = unit_face_normals(vertices, flat)
    np.testing.assert_array_equal(normals[-1], 0)
    np.testing.assert_allclose(np.linalg.norm(normals[:-1], axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(vertex_normals(vertices, faces[:0]), np.zeros_like(vertices))
