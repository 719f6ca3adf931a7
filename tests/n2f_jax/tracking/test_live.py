"""Live tracking of heads that the test has put before the camera: the networks' part is a stand-in's."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

import flame_jax
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.face_mesh.embedding import face_mesh_embedding
from n2f_jax.face_mesh.error_model import load_point_errors
from n2f_jax.frontends.face_landmarks import FaceLandmarker, MeshedFace
from n2f_jax.frontends.face_mesh import FaceMeshFrontend
from n2f_jax.models.pretrained import from_pretrained
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.tracking import live
from n2f_jax.tracking.clips import open_clip
from n2f_jax.tracking.live import LiveTracker
from n2f_jax.tracking.live_program import live_frame
from n2f_jax.tracking.online import track_online
from n2f_jax.tracking.point_errors import expected_errors, seen_points
from n2f_jax.tracking.run import TrackOptions
from n2f_jax.tracking.track_file import BRIDGED, LOST, SEEN
from tests.n2f_jax.reconstruction.conftest import CROP_SCALE, checkpoint, place_head  # noqa: F401
from tests.n2f_jax.reconstruction.conftest import SIZE as MAPS

pytestmark = pytest.mark.medium
SIZE = (240, 320)
FOCAL = 1.2 * max(SIZE)


@dataclasses.dataclass
class Landmarker:
    """Says of the mean head what the face networks would, their error included."""

    model: flame_jax.HeadModel
    landmarks: str = "v2"
    head: tuple | None = None  # (x, yaw in degrees) of whoever is there
    searches: int = 0
    glances: int = 0
    checks: int = 0
    mirrored: bool = False

    def __call__(self, image):
        self.searches += 1
        return [] if self.head is None else [self.seen()]

    def glance(self, image, previous, check=False, mirrored=False):
        assert previous is not None and mirrored == self.mirrored
        self.glances += 1
        self.checks += check
        return None if self.head is None else self.seen()

    def camera(self):
        x, yaw = self.head
        return place_head(self.model, SIZE, degrees=(3.0, yaw, 2.0), at=(x, 0.0, 0.9))[1]

    def seen(self):
        camera = self.camera()
        places = face_mesh_embedding(self.model)
        on_head = flame_jax.points_on_mesh(self.model.v_template, self.model.faces, *places)
        points = seen_points(on_head, camera)
        side = 1.4 * float(np.ptp(np.asarray(points[:, :2]), axis=0).max())
        points = points + expected_errors(load_point_errors("v2"), points, camera.rotation, side)
        noise = 0.1 * np.random.default_rng(self.searches + self.glances).standard_normal(points.shape)
        return MeshedFace(
            np.asarray(points + noise, np.float32), 0.9, 0.9, blendshapes=np.full(52, 0.1), confidence=0.99
        )


@pytest.fixture(scope="module")
def parts(checkpoint, open_head):  # noqa: F811
    landmarker = Landmarker(open_head)
    frontend = FaceMeshFrontend(MAPS, CROP_SCALE, 1, landmarker=landmarker)
    reconstructor = Reconstructor(from_pretrained(checkpoint), open_head, frontend, refine=0, batch_size=1)
    return reconstructor, landmarker


def test_a_head_is_followed_lost_and_found(parts, monkeypatch):
    reconstructor, landmarker = parts
    assert len(load_coarse_mesh().ibug68) == 68
    tracker = LiveTracker(reconstructor, SIZE, FOCAL)
    tracker.prepare()
    image = np.full((*SIZE, 3), 90, np.uint8)
    states = []
    landmarker.searches = landmarker.glances = landmarker.checks = 0
    for number in range(60):
        # Somebody turns and moves; is away for half a second; and comes back elsewhere.
        away = 24 <= number < 40
        landmarker.head = None if away else (0.06 * np.sin(0.15 * number), 15 * np.sin(0.1 * number))
        states.append(tracker.push(image, number / 30))
        state = states[-1]
        if not away:
            camera = landmarker.camera()
            np.testing.assert_allclose(state.rotation, camera.rotation, atol=0.04)
            np.testing.assert_allclose(state.translation, camera.translation, atol=0.03)
    tracker.close()
    status = np.array([state.status for state in states])
    assert (status[:24] == SEEN).all() and (status[40:] == SEEN).all()
    assert status[24] == BRIDGED and (status[32:40] == LOST).all()
    assert np.isnan(states[35].rotation).all() and tracker.scores is not None
    # No detector while somebody is followed, and not at every frame while nobody is there.
    assert landmarker.glances == 24 + 19 and landmarker.checks == landmarker.glances // live.CHECK_EVERY
    assert 2 <= landmarker.searches <= 5


def test_of_a_recording_every_run_gives_the_same(parts, monkeypatch, tmp_path):
    """Frame by frame, the front end a frame ahead of the fit; who comes back is found at once, in one identity."""
    reconstructor, landmarker = parts

    def path_of(number):
        return None if 10 <= number < 14 else (0.06 * np.sin(0.15 * number), 15 * np.sin(0.1 * number))

    class Recorded(Landmarker):
        def __call__(self, image):
            self.head = path_of(int(image[0, 0, 0]))
            return super().__call__(image)

        def glance(self, image, previous, check=False, mirrored=False):
            self.head = path_of(int(image[0, 0, 0]))
            return super().glance(image, previous, check, mirrored)

    (tmp_path / "frames").mkdir()
    for number in range(24):
        image = np.full((*SIZE, 3), 90, np.uint8)
        image[0, 0, 0] = number
        Image.fromarray(image).save(tmp_path / f"frames/{number:02d}.png")
    clip, options = open_clip(tmp_path / "frames"), TrackOptions(focal=FOCAL, overlay=False)
    tracks = []
    for name in "ab":
        recorded = Recorded(landmarker.model, mirrored=True)
        monkeypatch.setattr(reconstructor.frontend, "_landmarker", recorded)
        tracks.append(track_online(clip, tmp_path / name, reconstructor, options).track)
        # No detector but in the first frame, in those without anybody, and in that in which somebody comes back.
        assert recorded.searches == 1 + 4 + 1
    status = tracks[0]["status"]
    assert (status[:10] == SEEN).all() and (status[10:14] == BRIDGED).all() and (status[14:] == SEEN).all()
    for number in (5, 9, 14, 23):
        head = path_of(number)
        _, camera = place_head(parts[0].head_model, SIZE, degrees=(3.0, head[1], 2.0), at=(head[0], 0.0, 0.9))
        np.testing.assert_allclose(tracks[0]["translation"][number], camera.translation, atol=0.04)
    for key, values in tracks[0].items():
        np.testing.assert_array_equal(values, tracks[1][key], err_msg=key)


def test_other_front_ends_are_refused(parts, monkeypatch):
    reconstructor, landmarker = parts
    monkeypatch.setattr(landmarker, "landmarks", "v1")
    with pytest.raises(ValueError, match="landmarks v2"):
        LiveTracker(reconstructor, SIZE)


def test_a_glance_takes_the_newer_networks_points():
    landmarker = FaceLandmarker.__new__(FaceLandmarker)
    landmarker._second, landmarker.landmarks = None, "v2"
    with pytest.raises(ValueError, match="newer network"):
        landmarker.glance(np.zeros((9, 9, 3), np.uint8), None)


def test_what_is_prepared_is_all_that_is_compiled(parts):
    reconstructor, landmarker = parts
    tracker = LiveTracker(reconstructor, SIZE, FOCAL)
    tracker.prepare()
    compiled = live_frame._cache_size()
    landmarker.head = (0.0, 5.0)
    for number in range(5):
        tracker.push(np.full((*SIZE, 3), 90, np.uint8), number / 30)
    tracker.close()
    # Of one program there may be entries for arrays of the device and of the host, and no more programs.
    assert live_frame._cache_size() - compiled <= 1
