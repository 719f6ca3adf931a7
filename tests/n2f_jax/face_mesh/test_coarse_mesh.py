"""The coarse mesh and its map, against NumPy and against what rotating a head must not change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flame_jax.rotations import euler_to_matrix
from n2f_jax.face_mesh.coarse_mesh import coarse_maps, head_rotation, load_coarse_mesh
from n2f_jax.face_mesh.embedding import points_on_mean_head
from n2f_jax.render import vertex_normals

pytestmark = pytest.mark.medium

SIZE = 64
FRONTAL = np.diag([1.0, -1.0, -1.0])


@functools.partial(jax.jit, static_argnames="size")
def draw(points, size=SIZE):
    return coarse_maps(points, size)


@functools.cache
def mesh():
    return load_coarse_mesh()


def seen(angles_degrees, size=SIZE, scale=None):
    """The mean face turned (about x, y, z), in pixels of a crop around it; and R."""
    phi = np.asarray(euler_to_matrix(jnp.radians(jnp.asarray(angles_degrees, jnp.float32))), np.float64)
    rotation = phi @ FRONTAL
    points = mesh().reference.astype(np.float64) @ rotation.T
    points = (points - points.mean(axis=0)) * (scale or size / 0.22)
    points[:, :2] += size / 2
    return points.astype(np.float32), rotation


def angle(a, b):
    return np.degrees(np.arccos(np.clip((a * b).sum(axis=-1), -1, 1)))


def edges_of(faces):
    return {(int(a), int(b)) for face in faces for a, b in zip(face, np.roll(face, -1), strict=True)}


def test_asset_is_one_sheet_bounded_by_the_oval():
    faces = mesh().faces
    assert len(np.unique(faces)) == 468 and len(faces) > 852
    edges = edges_of(faces)
    assert len(edges) == 3 * len(faces)  # consistent winding: no directed edge twice
    rim = {a for a, b in edges if (b, a) not in edges}
    assert len(rim) == 36 and {10, 152, 234, 454} <= rim  # eyes and mouth are closed
    # A disc: V − E + F = 1.
    assert 468 - len({frozenset(edge) for edge in edges}) + len(faces) == 1


def test_mirror_map_and_landmarks():
    mirror, ibug = mesh().mirror, mesh().ibug68
    np.testing.assert_array_equal(mirror[mirror], np.arange(468))
    np.testing.assert_allclose(mesh().reference[mirror], mesh().reference * [-1, 1, 1], atol=1e-4)
    # iBUG's own left-right symmetry.
    swap = np.r_[16:-1:-1, 26:16:-1, 27:31, 35:30:-1, 45:41:-1, 47, 46, 39:35:-1, 41, 40,
                 54:47:-1, 59:54:-1, 64:59:-1, 67:64:-1]  # fmt: skip
    np.testing.assert_array_equal(mirror[ibug], ibug[swap])
    x = mesh().reference[ibug][:, 0]
    assert (np.diff(x[:17])[1:-1] > 0).all()  # from the subject's right to the left
    # Outer edge of the lids outside, upper lid above lower lid, chin lowest.
    y = mesh().reference[ibug][:, 1]
    assert y[37] > y[41] and y[44] > y[46] and y.argmin() == 8


def test_embedding_gives_the_reference_points(open_head):
    triangles = np.asarray(open_head.faces)[mesh().embedding_faces]
    corners = np.asarray(open_head.v_template)[triangles]
    points = np.einsum("nk,nkc->nc", mesh().embedding_barycentric, corners)
    np.testing.assert_allclose(points, points_on_mean_head(), atol=1e-5)
    # The reference is another mean head's, of the same people.
    assert np.linalg.norm(points - mesh().reference, axis=1).mean() < 0.01
    np.testing.assert_allclose(mesh().embedding_barycentric.sum(axis=1), 1, atol=1e-6)


def test_rotation_of_a_turned_head():
    for angles in ([0, 0, 0], [20, 0, 0], [0, -35, 0], [5, 30, -25]):
        points, rotation = seen(angles)
        found = np.asarray(jax.jit(lambda p: head_rotation(p, mesh()))(points))
        np.testing.assert_allclose(found, rotation, atol=1e-4)
        assert np.linalg.det(found) == pytest.approx(1, abs=1e-5)


def test_jaw_and_lids_do_not_turn_the_head():
    points, rotation = seen([0, 15, 0])
    lower = mesh().reference[:, 1] < mesh().reference[mesh().ibug68[33], 1] - 0.005
    points[lower] += np.float32([0, 8, 3])
    found = np.asarray(jax.jit(lambda p: head_rotation(p, mesh()))(points))
    np.testing.assert_allclose(found, rotation, atol=1e-4)


def test_normals_of_points_point_out_of_the_head():
    points, _ = seen([0, 0, 0])
    normals = np.asarray(vertex_normals(jnp.asarray(points), jnp.asarray(mesh().faces)))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    nose, cheek_left, cheek_right = 4, 425, 205
    assert normals[nose, 2] < -0.8  # towards the camera
    assert normals[cheek_left, 0] > 0.2 > -0.2 > normals[cheek_right, 0]


def test_map_against_numpy():
    """Every pixel by brute force: the nearest triangle that covers its centre, normals weighted inside it."""
    points, rotation = seen([10, -25, 5])
    normals, mask = (np.asarray(x) for x in draw(points))
    corner_normals = (
        np.asarray(vertex_normals(jnp.asarray(points), jnp.asarray(mesh().faces)), np.float64) @ rotation
    )
    corners = points[mesh().faces].astype(np.float64)
    v, u = np.mgrid[:SIZE, :SIZE] + 0.5
    a, b, c = (corners[:, k, :2, None, None] for k in range(3))
    pixel = np.stack([u, v])[None]

    def area(p, q, r):
        return (q[:, 0] - p[:, 0]) * (r[:, 1] - p[:, 1]) - (q[:, 1] - p[:, 1]) * (r[:, 0] - p[:, 0])

    total = area(a, b, c)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.stack([area(pixel, b, c), area(a, pixel, c), area(a, b, pixel)], axis=1) / total[:, None]
    inside = (weights >= 0).all(axis=1) & (total < 0)
    depth = np.where(inside, np.einsum("fkhw,fk->fhw", np.nan_to_num(weights), corners[..., 2]), np.inf)
    nearest = depth.argmin(axis=0)
    covered = np.isfinite(depth.min(axis=0))
    assert (covered != (mask > 0)).mean() < 0.004  # the rasteriser snaps to 1/256 pixel
    picked = np.take_along_axis(weights, nearest[None, None], axis=0)[0]
    expected = np.einsum("khw,hwkc->hwc", picked, corner_normals[mesh().faces[nearest]])
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    both = covered & (mask > 0)
    error = angle(expected, normals)[both]
    assert np.percentile(error, 99) < 0.5 and both.sum() > 1000
    assert (normals[mask == 0] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(normals[mask > 0], axis=-1), 1, atol=1e-5)


def test_head_frame_normals_do_not_turn_with_the_head():
    """At the pixel where a mesh point shows, the map holds the same normal however the head is turned."""

    def sampled(angles):
        points, _ = seen(angles)
        normals, mask = (np.asarray(x) for x in draw(points))
        u, v = np.clip(points[:, :2].astype(int), 0, SIZE - 1).T
        return normals[v, u], mask[v, u] > 0

    still, seen_still = sampled([0, 0, 0])
    # The middle of the face, seen from all these sides, away from lids and lips where one pixel is much.
    central = np.isin(np.arange(468), [151, 9, 8, 168, 6, 4, 5, 50, 280, 205, 425, 199, 200, 108, 337])
    for angles in ([12, 0, 0], [0, 25, 0], [0, -25, 0], [0, 0, 30], [8, 15, -10]):
        turned, seen_turned = sampled(angles)
        common = central & seen_still & seen_turned
        assert common.sum() >= 12
        error = angle(still[common], turned[common])
        assert np.median(error) < 4.0, (angles, error)
        # The same comparison without taking the rotation out would be off by the rotation itself.
        rotation = np.asarray(euler_to_matrix(jnp.radians(jnp.asarray(angles, jnp.float32))))
        raw = angle(still[common], turned[common] @ rotation.T)
        assert np.median(error) < 0.5 * np.median(raw)


def test_mirrored_points_mirror_the_map():
    points, _ = seen([6, 22, -9])
    mirrored = points[mesh().mirror] * np.float32([-1, 1, 1]) + np.float32([SIZE, 0, 0])
    normals, mask = (np.asarray(x) for x in draw(points))
    other, other_mask = (np.asarray(x)[:, ::-1] for x in draw(mirrored))
    assert (mask != other_mask).mean() < 0.002
    both = (mask > 0) & (other_mask > 0)
    error = angle(normals[both], other[both] * [-1, 1, 1])
    # Twelve of the 852 triangles have no mirror image: a few diagonals differ.
    assert np.mean(error) < 0.3 and np.percentile(error, 99) < 5


def test_depth_origin_and_scale_do_not_matter():
    points, _ = seen([0, 10, 0])
    normals, mask = (np.asarray(x) for x in draw(points))
    shifted, shifted_mask = (np.asarray(x) for x in draw(points + np.float32([0, 0, 500])))
    np.testing.assert_array_equal(mask, shifted_mask)
    assert angle(normals, shifted)[mask > 0].max() < 0.3
    twice, twice_mask = (np.asarray(x) for x in draw(points * 2, size=2 * SIZE))
    # Four fine pixels meet at the centre of a coarse one.
    assert abs(twice_mask.mean() - mask.mean()) < 0.005
    average = twice.reshape(SIZE, 2, SIZE, 2, 3).mean(axis=(1, 3))
    inner = twice_mask.reshape(SIZE, 2, SIZE, 2).min(axis=(1, 3)) > 0
    average /= np.maximum(np.linalg.norm(average, axis=-1, keepdims=True), 1e-6)
    assert np.median(angle(normals, average)[inner]) < 1.0


def test_batch_by_vmap_is_the_single_result():
    points = np.stack([seen([0, yaw, 0])[0] for yaw in (-10, 0, 25)])
    normals, mask = jax.jit(jax.vmap(lambda p: coarse_maps(p, SIZE)))(points)
    for i in range(3):
        single, single_mask = draw(points[i])
        np.testing.assert_array_equal(mask[i], single_mask)
        np.testing.assert_allclose(normals[i], single, atol=1e-4)
