"""Heads carried over to a model of other topology, frame and coefficients, whose answers are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from n2f_jax.data.sampler import SyntheticConfig, sample_params
from n2f_jax.face_mesh.embedding import face_mesh_embedding
from n2f_jax.fitting import correspondence_cache
from n2f_jax.fitting.correspondence_cache import (
    CorrespondenceError,
    kept_correspondence,
    read_correspondence,
    write_correspondence,
)
from n2f_jax.fitting.head_correspondence import completed, find_correspondence
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.head_transfer import HeadTransfer
from n2f_jax.geometry.camera import FRONTAL, Camera, to_camera
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.metrics.skin import skin_vertices
from n2f_jax.models.calibration import from_unknowns, to_unknowns
from tests.n2f_jax.other_head import other_head, true_correspondence

pytestmark = pytest.mark.medium
HEADS = 4


@pytest.fixture(scope="module")
def source(open_head):
    """Fewer directions: the same code in a tenth of the time."""
    return dataclasses.replace(
        open_head, shapedirs=open_head.shapedirs[..., :40], exprdirs=open_head.exprdirs[..., :20]
    )


@pytest.fixture(scope="module")
def target(source):
    return other_head(source, 40, 20)


@pytest.fixture(scope="module")
def jawless(source):
    return other_head(source, 40, 20, jaw=False)


@pytest.fixture(scope="module")
def found(source, target):
    return true_correspondence(source, target)


def _heads(source, opened=0.0):
    sample = jax.jit(jax.vmap(lambda key: sample_params(key, source, SyntheticConfig())))
    params = sample(jax.random.split(jax.random.key(3), HEADS))
    jaw = to_unknowns(params)[:, -5:-2]
    jaw = jnp.asarray(np.asarray(jaw) * [0, 0, 0] + [opened, 0, 0], jnp.float32) if opened else jaw
    unknowns = to_unknowns(params).at[:, -5:-2].set(jaw)
    params = from_unknowns(unknowns, source.num_shape)
    camera = Camera(
        jnp.tile(jnp.asarray(FRONTAL)[None], (HEADS, 1, 1)),
        jnp.tile(jnp.asarray([[0.02, 0.01, 0.8]]), (HEADS, 1)),
        jnp.full(HEADS, 600.0),
        jnp.full((HEADS, 2), 64.0),
    )
    return params, jax.jit(flame_jax.decode)(source, params)[0], camera


def _apart(source, target, vertices, camera, result):
    """Millimetres from the source's faces to the target's skin, both before the camera."""
    params, moved, _ = result
    theirs = np.asarray(to_camera(flame_jax.decode(target, params)[0], moved), np.float64)
    ours = np.asarray(to_camera(vertices, camera), np.float64)
    face = np.intersect1d(skin_vertices(source), np.asarray(source.masks["face"]))
    faces = np.asarray(target.faces, np.int64)
    faces = faces[np.isin(faces, skin_vertices(target)).all(axis=1)]
    distances = [
        Surface(TriangleMesh(b, faces)).closest(a[face]).distance for a, b in zip(ours, theirs, strict=True)
    ]
    return 1000 * np.mean(distances, axis=1)


_carry_over = jax.jit(lambda transfer, *args: transfer.carry_over(*args))


def test_heads_come_over_where_they_were(source, target, found):
    params, vertices, camera = _heads(source)
    transfer = HeadTransfer.make(source, target, found, HeadTables.from_model(target))
    apart = _apart(source, target, vertices, camera, _carry_over(transfer, vertices, params, camera))
    # A fifth of a millimetre is what the flat polygons of its mesh cut off.
    assert apart.max() < 0.4, apart


def test_an_open_mouth_is_an_expression_where_there_is_no_jaw(source, jawless, found):
    params, vertices, camera = _heads(source, opened=0.15)
    transfer = HeadTransfer.make(source, jawless, found, HeadTables.from_model(jawless))
    result = _carry_over(transfer, vertices, params, camera)
    assert not transfer.has_jaw
    np.testing.assert_allclose(to_unknowns(result[0])[:, -5:-2], 0.0, atol=1e-6)
    apart = _apart(source, jawless, vertices, camera, result)
    assert apart.max() < 0.8, apart
    assert np.asarray(result[0].expression)[:, 20].mean() > 1.0  # the first of those that open it


def test_the_answers_errors_come_over_linearly(source, target, found):
    """By finite differences of the map itself: an error of the source's head is one of the target's."""
    tables = HeadTables.from_model(target)
    size = source.num_shape + source.num_expression + 5
    std = np.full(size, 0.3)
    std[-5:] = 0.02
    exact = HeadTransfer.make(source, target, found, tables)
    transfer = HeadTransfer.make(source, target, found, tables, jnp.diag(jnp.asarray(std**-2.0, jnp.float32)))
    unknowns = jnp.asarray(np.concatenate([np.zeros((1, size)), 0.5 * np.diag(std)]), jnp.float32)
    params = from_unknowns(unknowns, source.num_shape)
    vertices = jax.jit(flame_jax.decode)(source, params)[0]
    camera = jax.tree.map(lambda x: jnp.tile(x[:1], (size + 1, *[1] * (x.ndim - 1))), _heads(source)[2])
    _, _, prior = _carry_over(exact, vertices, params, camera)
    errors = 2.0 * (np.asarray(prior.mean, np.float64)[1:] - np.asarray(prior.mean, np.float64)[0])
    whole, alone = (np.linalg.inv(np.asarray(x.precision, np.float64)) for x in (transfer, exact))
    expected = errors.T @ errors
    assert np.linalg.norm(whole - alone - expected) < 0.05 * np.linalg.norm(expected)
    assert np.linalg.norm(alone) < np.linalg.norm(whole)


def test_registration_finds_the_true_correspondence(source, target):
    points = tuple(np.asarray(x) for x in face_mesh_embedding(source))
    found = find_correspondence(source, target, points)
    mean, faces = np.asarray(source.v_template), np.asarray(source.faces)
    there = np.einsum("nk,nkc->nc", found.barycentric, mean[faces[found.faces]])
    drift = 1000 * np.linalg.norm(there - mean[faces[found.vertices]].mean(axis=1), axis=1)
    face = np.isin(found.vertices, np.asarray(target.masks["face"]))
    assert drift[face].mean() < 0.6 and found.paired > 0.9 and found.distance < 1e-3
    assert found.point_faces.shape == (468,) and found.contour_faces.shape == (79, 17)
    assert found.weights.sum() == pytest.approx(1.0, abs=1e-5)
    # What its file lacks comes from the source: regions, and the contour by yaw.
    bare = completed(source, dataclasses.replace(target, masks={}), found)
    own, carried = set(np.asarray(target.masks["nose"])), set(np.asarray(bare.masks["nose"]))
    assert len(carried & own) > 0.8 * len(carried) > 0
    assert bare.landmarks.dynamic_faces.shape == (79, 17)


def test_is_found_once_and_kept(source, target, found, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(correspondence_cache, "find_correspondence", lambda *_: calls.append(1) or found)
    monkeypatch.setenv("N2F_JAX_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model" / "head.npz"
    file.parent.mkdir()
    file.touch()
    first, again = (kept_correspondence(source, target, file) for _ in range(2))
    (kept,) = file.parent.glob("n2f-correspondence-*.npz")
    assert len(calls) == 1
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))
    # Another model, another file; a damaged one is made again.
    kept_correspondence(source, dataclasses.replace(target, v_template=1.01 * target.v_template), file)
    assert len(calls) == 2 and len(list(file.parent.glob("*.npz"))) == 3
    kept.write_bytes(kept.read_bytes()[:-30])
    said = []
    kept_correspondence(source, target, file, say=said.append)
    assert len(calls) == 3 and "made again" in said[0]
    # Without a file, or where it cannot be written: the cache's folder.
    kept_correspondence(source, target, None)
    kept_correspondence(source, target, None)
    assert len(calls) == 4 and len(list((tmp_path / "cache" / "head_models").iterdir())) == 1
    monkeypatch.setattr(correspondence_cache, "write_correspondence", _full_disk)
    kept_correspondence(source, dataclasses.replace(target, v_template=1.02 * target.v_template), file)
    assert len(calls) == 5


def _full_disk(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "change",
    [
        {"vertices": np.array([10**6], np.int32)},
        {"faces": np.array([-1], np.int32)},
        {"weights": np.ones(3, np.float32)},
        {"rotation": np.full((3, 3), np.nan, np.float32)},
        {"contour_faces": np.zeros((2, 5), np.int32)},
        {"paired": np.array("x")},
    ],
)
def test_a_kept_file_of_another_kind_is_refused(source, target, found, tmp_path, change):
    path = tmp_path / "kept.npz"
    write_correspondence(path, found)
    read_correspondence(path, source, target)
    np.savez(path, **(dataclasses.asdict(found) | change))
    with pytest.raises(CorrespondenceError, match=r"kept\.npz"):
        read_correspondence(path, source, target)
