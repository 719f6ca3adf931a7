"""Whose frame a front end's normals are in, and what turns them into a head model's."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flame_jax.loading import head_model_from_arrays
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.face_mesh.map_frames import map_rotations, open_head_to_flame
from n2f_jax.models.face_mesh_places import FaceMeshPlaces
from tests.n2f_jax.tracking.made_flame import made_flame

TURN = Rotation.from_euler("xyz", [9.0, -2.0, 3.0], degrees=True).as_matrix().astype(np.float32)


@pytest.fixture(scope="module")
def flame():
    """FLAME's mesh by its sizes."""
    return head_model_from_arrays(made_flame(), "flame")


@pytest.fixture(scope="module")
def places():
    mesh = load_coarse_mesh()
    return FaceMeshPlaces(mesh.embedding_faces, mesh.embedding_barycentric, TURN)


def test_the_open_head_takes_flames_normals_turned(open_head):
    turns = map_rotations(open_head)
    assert set(turns) == {"pixel3dmm", "precomputed"}
    # FLAME's mean head looks up a little in its own frame: what looks straight ahead in it looks down in ours.
    ahead = turns["pixel3dmm"] @ np.array([0.0, 0.0, 1.0], np.float32)
    assert np.degrees(np.arctan2(ahead[1], ahead[2])) == pytest.approx(-7.2, abs=1e-3) and ahead[0] == 0


def test_flame_takes_its_own_as_they_are(flame, places):
    np.testing.assert_allclose(map_rotations(flame)["face_mesh"], open_head_to_flame())
    known = map_rotations(flame, places)
    assert set(known) == {"face_mesh"}
    np.testing.assert_array_equal(known["face_mesh"], TURN)


def test_another_model_takes_both_turned(open_head, places):
    model = dataclasses.replace(open_head, v_template=1.1 * open_head.v_template)
    turns = map_rotations(model, places)
    np.testing.assert_array_equal(turns["face_mesh"], TURN)
    # From FLAME's frame to the open head's, and on to the model's.
    np.testing.assert_allclose(turns["pixel3dmm"] @ open_head_to_flame(), TURN, atol=1e-6)
    assert map_rotations(model) == {}  # nobody knows its frame


def test_flames_own_file_knows_better(open_head):
    turn = map_rotations(open_head, to_flame=TURN)["precomputed"]
    np.testing.assert_array_equal(turn, TURN.T)
