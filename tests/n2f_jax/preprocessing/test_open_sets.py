import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax import FlameParams
from n2f_jax.data.celeba_hq import PseudoTruthFaces
from n2f_jax.data.pipeline import make_pipeline
from n2f_jax.data.preprocessed import face_path, list_faces, read_face
from n2f_jax.data.pseudo_truth import read_truth, truth_path
from n2f_jax.data.pts import read_pts
from n2f_jax.data.w300 import AnnotatedFaces
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.geometry.camera import Camera, project
from n2f_jax.preprocessing.open_sets import RENDERED, _vary, write_rendered_set

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[3]


# The points without their errors, so that what is written can be held against the head exactly.
EXACT = dataclasses.replace(RENDERED, point_noise=0.0, point_z_scale=0.0)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered")
    assert write_rendered_set(folder, 5, 40, config=EXACT, progress=False) == 5
    return folder


def test_the_pseudo_ground_truth_is_exact(rendered, open_head):
    """The head that it says, seen by its camera, has the front end's points where the stored landmarks are."""
    mesh, names = load_coarse_mesh(), list(list_faces(rendered))
    truths = [read_truth(truth_path(rendered, name)) for name in names]
    stacked = lambda field: jnp.stack([jnp.asarray(getattr(truth, field)) for truth in truths])  # noqa: E731
    neutral = FlameParams.neutral(open_head)
    rest = [jnp.broadcast_to(x, (5, *x.shape)) for x in (neutral.neck, neutral.eyes)]
    params = FlameParams(*map(stacked, ("shape", "expression", "jaw", "eyelids")), *rest)
    k = stacked("intrinsics")
    camera = Camera(stacked("rotation"), stacked("translation"), k[:, 0, 0], k[:, :2, 2])

    @jax.jit
    def front_end_landmarks(params, camera, model):
        vertices, _ = flame_jax.decode(model, params)
        on_head = (mesh.embedding_faces[mesh.ibug68], mesh.embedding_barycentric[mesh.ibug68])
        return project(flame_jax.points_on_mesh(vertices, model.faces, *on_head), camera)

    seen = front_end_landmarks(params, camera, open_head)
    for name, truth, landmarks in zip(names, truths, seen, strict=True):
        face = read_face(face_path(rendered, name))
        np.testing.assert_allclose(landmarks, face.landmarks_68, atol=2e-3)
        np.testing.assert_allclose(truth.intrinsics, face.intrinsics, rtol=1e-6)
        assert face.size == 50 and 0.15 < face.mask.mean() < 0.7
        # The crop is that of the stored landmarks.
        low, high = face.landmarks_68.min(axis=0), face.landmarks_68.max(axis=0)
        np.testing.assert_allclose((high - low).max() * 1.75, 50, rtol=1e-3)
        np.testing.assert_allclose((high + low) / 2, 25, atol=0.02)


def test_a_head_is_the_same_whatever_else_is_drawn(rendered, tmp_path):
    write_rendered_set(tmp_path, 2, 40, config=EXACT, progress=False)
    assert write_rendered_set(tmp_path, 3, 40, config=EXACT, progress=False) == 1
    assert write_rendered_set(tmp_path, 3, 40, config=EXACT, progress=False) == 0
    faces = list(list_faces(tmp_path))
    assert len(faces) == 3 and set(faces) < set(list_faces(rendered))
    for name in faces:
        assert face_path(tmp_path, name).read_bytes() == face_path(rendered, name).read_bytes()
        np.testing.assert_array_equal(
            read_truth(truth_path(tmp_path, name)).shape, read_truth(truth_path(rendered, name)).shape
        )


def test_it_is_read_as_celeba_hq_is(rendered, open_head):
    pytest.importorskip("grain")
    faces = PseudoTruthFaces(rendered, 32, 1.4, open_head, part="all")
    batch = make_pipeline(faces, 4, seed=0).batch_at(0)
    shapes = {name: values.shape for name, values in batch.items()}
    assert shapes == {
        "normals": (4, 32, 32, 3),
        "mask": (4, 32, 32),
        "landmarks_2d": (4, 68, 2),
        "focal": (4,),
        "principal_point": (4, 2),
        "shape": (4, open_head.num_shape),
        "expression": (4, open_head.num_expression),
        "jaw": (4, 6),
        "eyelids": (4, 2),
        "rotation": (4, 3, 3),
        "translation": (4, 3),
    }
    assert {values.dtype for values in batch.values()} == {np.dtype("float32")}
    assert np.abs(batch["landmarks_2d"].mean(axis=1) - 16).max() < 5


def test_photographs_are_turned_to_the_left_and_squeezed():
    """A dot at a known place; positive degrees turn counter-clockwise, as u grows to the right and v down."""
    image = np.zeros((81, 101, 3), np.uint8)
    image[20:23, 70:73] = 255  # centre (71.5, 21.5); the image's is (50.5, 40.5)
    turned = _vary(image, 90, 1.0)
    v, u = (index.mean() + 0.5 for index in np.nonzero(turned[..., 0] > 128))
    # (21, −19) from the centre, turned a quarter to the left: (−19, −21).
    np.testing.assert_allclose((u, v), (50.5 - 19, 40.5 - 21), atol=0.6)
    squeezed = _vary(image, 0, 0.8)
    assert squeezed.shape == (81, 81, 3)
    v, u = (index.mean() + 0.5 for index in np.nonzero(squeezed[..., 0] > 128))
    np.testing.assert_allclose((u, v), (71.5 * 81 / 101, 21.5), atol=0.6)


@pytest.mark.slow
def test_the_script_and_what_training_reads_of_it(tmp_path, open_head):
    """Both stages' data end to end. The front end's networks must be in the cache."""
    pytest.importorskip("grain")
    command = [
        sys.executable,
        str(ROOT / "scripts" / "build" / "make_finetune_data.py"),
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run([*command, "--num_renders=20", "--size=64"], capture_output=True, text=True)
    assert done.returncode == 0 and "renders: 20 faces" in done.stdout, done.stderr
    faces = AnnotatedFaces(
        tmp_path / "photos_faces", tmp_path / "photos", 64, 1.4, part="all", progress=False
    )
    assert len(faces) >= 50, faces.left_out
    batch = make_pipeline(faces, 8, seed=0).batch_at(3)
    assert batch["normals"].shape == (8, 64, 64, 3) and set(batch) == {
        "normals", "mask", "landmarks_2d", "focal", "principal_point"
    }  # fmt: skip
    # The landmarks of the .pts files are the front end's own: those of the stored face, rounded to 0.001 pixel.
    for position in range(5):
        stored = read_face(face_path(tmp_path / "photos_faces", faces.id(position)))
        annotation = read_pts(
            tmp_path / "photos" / f"{faces.id(position).rsplit('/', 1)[1].rsplit('-', 1)[0]}.pts"
        )
        original = stored.landmarks_68 * (stored.crop[2] / stored.size) + stored.crop[:2]
        np.testing.assert_allclose(original, annotation, atol=2e-3)
    renders = PseudoTruthFaces(tmp_path / "renders", 64, 1.4, open_head, part="all")
    assert len(renders) == 20 and len(list(list_faces(tmp_path / "renders"))) == 20
