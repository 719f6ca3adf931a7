"""FaRL's parser: where its square lies, the way there and back, and the wrong files."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from n2f_jax.frontends.face_classes import CLASS_IDS  # noqa: E402
from n2f_jax.frontends.farl import FarlParser, cut_for_parser, square_of_points  # noqa: E402
from n2f_jax.frontends.files import FrontendFileError  # noqa: E402

pytestmark = pytest.mark.slow


class Colours(torch.nn.Module):
    """Red is nose, green hair, the rest cloth: what a perfect parser says of pictures made of them."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes

    def forward(self, images):
        logits = torch.zeros(images.shape[0], self.classes, images.shape[2], images.shape[3])
        logits[:, 3] = 0.5
        logits[:, 10] = images[:, 0]
        logits[:, 14 % self.classes] = images[:, 1]
        return logits, logits


def weights(path, classes=19):
    torch.jit.script(Colours(classes)).save(str(path))
    return path


def face(degrees, size=300, eyes=40.0, mouth=45.0, middle=(160.0, 140.0)):
    """Five points of a face turned in the picture, and its square's middle, half side and axes by facer's rule."""
    angle = np.radians(degrees)
    x_axis, y_axis = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    between = np.array(middle)
    points = np.stack(
        [
            between - eyes / 2 * x_axis,
            between + eyes / 2 * x_axis,
            between + 20 * y_axis,
            between + mouth * y_axis - 12 * x_axis,
            between + mouth * y_axis + 12 * x_axis,
        ]
    )
    half = max(2 * eyes, 1.8 * mouth)
    return points.astype(np.float32), between + 0.5 + 0.1 * mouth * y_axis, half, (x_axis, y_axis)


@pytest.mark.parametrize("degrees", [0, 25, -60])
def test_the_square(degrees):
    points, centre, half, (x_axis, y_axis) = face(degrees)
    (matrix,) = square_of_points(torch.from_numpy(points)[None]).double().numpy()
    corners = [
        centre + sx * half * x_axis + sy * half * y_axis for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    found = np.array(corners) @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(found, [[0, 0], [448, 0], [448, 448], [0, 448]], atol=0.01)


def test_there_and_back(tmp_path):
    """Classes come back at the pixels whose colours they name; beyond the square nothing was seen."""
    rng = np.random.default_rng(0)
    size, parser = 300, FarlParser(weights(tmp_path / "farl.pt"))
    blocks = rng.integers(0, 3, (size // 15, size // 15)).repeat(15, 0).repeat(15, 1)
    picture = (np.eye(3, dtype=np.uint8) * 255)[blocks]
    faces = [face(0), face(25, middle=(150.0, 120.0))]
    classes = parser(
        torch.from_numpy(np.stack([picture, picture])), torch.from_numpy(np.stack([f[0] for f in faces]))
    ).numpy()
    assert classes.dtype == np.uint8 and classes.shape == (2, size, size)
    wanted = np.array([CLASS_IDS["nose"], CLASS_IDS["hair"], CLASS_IDS["cloth"]])[blocks]
    v, u = np.mgrid[:size, :size] + 0.5
    for found, (_, centre, half, axes) in zip(classes, faces, strict=True):
        offset = np.stack([u, v], axis=-1) - centre
        reach = np.max([np.abs(offset @ axis) for axis in axes], axis=0)
        assert (found[reach > half + 1] == 0).all()
        seen = reach < half - 1
        # Only pixels at the borders of the blocks may fall to the other side.
        wrong = seen & (found != wanted)
        assert wrong.sum() < 0.1 * seen.sum()
        inner = np.zeros((15, 15), bool)
        inner[2:-2, 2:-2] = True
        assert not (wrong & np.tile(inner, (size // 15, size // 15))).any()


@pytest.mark.parametrize("edge", [150.3, 150.7])
def test_no_half_pixel_is_lost(tmp_path, edge):
    """A ramp of red crosses the parser's threshold 0.2 pixels before, or behind, the middle of pixel 150."""
    u = np.arange(300) + 0.5
    ramp = np.clip(np.rint(127.5 + 20 * (u - edge)), 0, 255).astype(np.uint8)
    across = np.zeros((300, 300, 3), np.uint8)
    across[..., 0] = ramp
    crops = torch.from_numpy(np.stack([across, across.transpose(1, 0, 2)]))
    points = torch.from_numpy(np.stack([face(0, middle=(150.0, 140.0))[0]] * 2))
    classes = FarlParser(weights(tmp_path / "farl.pt"))(crops, points).numpy()
    expected = CLASS_IDS["nose"] if edge < 150.5 else CLASS_IDS["cloth"]
    for found in (classes[0], classes[1].T):
        seen = slice(100, 200)
        assert (found[seen, 149] == CLASS_IDS["cloth"]).all() and (
            found[seen, 151] == CLASS_IDS["nose"]
        ).all()
        assert (found[seen, 150] == expected).all()


def test_wrong_files_are_named(tmp_path, monkeypatch):
    lapa = FarlParser(weights(tmp_path / "lapa.pt", classes=11))
    points = torch.from_numpy(face(0)[0])[None]
    with pytest.raises(FrontendFileError, match=r"tells 11 classes apart.*the 19 of farl/celebm/448"):
        lapa(torch.zeros(1, 300, 300, 3, dtype=torch.uint8), points)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(FrontendFileError, match="not TorchScript"):
        FarlParser(tmp_path / "text.pt")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    with pytest.raises(
        FrontendFileError, match=r"is needed: face_parsing\.farl\.celebm.*--farl-weights=FILE"
    ):
        FarlParser()
    # Where facer has downloaded it, nothing need be said.
    place = tmp_path / "home" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    weights(place / "face_parsing.farl.celebm.main_ema_181500_jit.pt")
    assert FarlParser().path.parent == place


@pytest.mark.parametrize("degrees", [0, 40])
def test_the_cut(degrees):
    """It holds the whole square at the scale of the parser's input, and says where it lies in the photograph."""
    points, centre, half, (x_axis, y_axis) = face(degrees, middle=(300.0, 200.0))
    v, u = np.mgrid[:420, :600].astype(np.float32) + 0.5
    photo = np.stack([u / 3, v / 3, 0 * u], axis=-1).astype(np.uint8)
    cut, inside, window = cut_for_parser(photo, points)
    assert cut.shape == (640, 640, 3) and window.width == pytest.approx(2 * half * 640 / 448, rel=1e-5)
    scale = 640 / window.width
    assert np.allclose(inside, (points - [window.x0, window.y0]) * scale, atol=1e-3)
    # In the middle the picture shows the photograph's places, to the step of its colours.
    middle = cut[300:340, 300:340, :2].astype(float).mean(axis=(0, 1)) * 3 + 1.5
    assert np.abs(middle - [window.x0 + 320 / scale, window.y0 + 320 / scale]).max() < 1.5
    corners = [centre + sx * half * x_axis + sy * half * y_axis for sx in (-1, 1) for sy in (-1, 1)]
    placed = (np.array(corners) - [window.x0, window.y0]) * scale
    assert placed.min() > -1 and placed.max() < 641
