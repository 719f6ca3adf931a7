"""A network of another head model's own is shown the face mesh's normals in that model's frame, from wherever."""

import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from n2f_jax.face_mesh.coarse_mesh import coarse_maps, load_coarse_mesh
from n2f_jax.frontends.base import FrontendFace
from n2f_jax.geometry.crop import Crop
from n2f_jax.geometry.focal import Focal
from n2f_jax.models.face_mesh_places import FaceMeshPlaces
from n2f_jax.models.pretrained import from_pretrained
from n2f_jax.reconstruction import photo_program
from n2f_jax.reconstruction.reconstructor import Reconstructor
from tests.n2f_jax.reconstruction.conftest import SIZE

ROTATION = Rotation.from_euler("x", 7.0, degrees=True).as_matrix().astype(np.float32)


@pytest.fixture(scope="module")
def reconstructor(checkpoint, open_head):
    mesh = load_coarse_mesh()
    places = FaceMeshPlaces(mesh.embedding_faces, mesh.embedding_barycentric, ROTATION)
    pretrained = dataclasses.replace(from_pretrained(checkpoint, open_head), face_mesh=places)
    return Reconstructor(pretrained, open_head, None, maps="face_mesh_v2", refine=0)


def test_a_batch_of_faces(reconstructor):
    """``batch_of`` is what ``reconstruct`` and the first pass over a clip give the network."""
    normals = np.zeros((SIZE, SIZE, 3), np.float32)
    normals[..., 2] = 1.0
    face = FrontendFace(
        normals,
        np.ones((SIZE, SIZE), np.float32),
        Crop(np.zeros(2), np.float64(60.0)),
        np.zeros((68, 2)),
        1.0,
    )
    batch = reconstructor.batch_of([face], [(80, 80)], [Focal(100.0, "given")])
    np.testing.assert_allclose(batch.maps[0, 3, 4], ROTATION[:, 2], atol=1e-6)


def test_the_program_of_photographs(reconstructor, monkeypatch):
    points = jnp.asarray(
        load_coarse_mesh().reference[None] * np.float32([1.0, -1.0, -1.0]) * 300.0 + 40.0, jnp.float32
    )
    shown = []
    faces = SimpleNamespace(
        points=points,
        landmarks_68=lambda: points[:, load_coarse_mesh().ibug68, :2],
        closure=None,
        gaze=None,
        blendshapes=jnp.zeros((1, 52)),
    )

    class Stage(SimpleNamespace):
        def __call__(self, normals, *_):
            shown.append(normals)

    monkeypatch.setattr(photo_program, "see_eyes", lambda *_: None)
    program = object.__new__(photo_program.PhotoProgram)
    program._crop_scale = 1.4
    stage = Stage(size=SIZE, model=None, own_normals=reconstructor.stage.own_normals)
    program._of_faces(stage, jnp.full((1, 2), 40.0), (faces, jnp.full(1, 100.0)))
    crop = photo_program.landmark_crop(faces.landmarks_68(), 1.4)
    in_crop = photo_program.to_crop(points[..., :2], crop, SIZE)
    depth = points[..., 2:] * (SIZE / crop.side)[:, None, None]
    plain, _ = coarse_maps(jnp.concatenate([in_crop, depth], axis=-1)[0], SIZE)
    assert float(jnp.abs(plain).max()) > 0.5
    np.testing.assert_allclose(shown[0][0], plain @ ROTATION.T, atol=1e-5)
