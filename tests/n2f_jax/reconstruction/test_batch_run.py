"""Folders of photographs, good and bad: what is made, said and returned."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from n2f_jax.cli.reconstruct import main as reconstruct
from n2f_jax.reconstruction.batch_run import RunOptions, run
from n2f_jax.reconstruction.head import Head
from n2f_jax.reconstruction.head_file import load_parameters
from n2f_jax.reconstruction.photos import find_photos, output_names
from n2f_jax.reconstruction.summary import Entry, Summary
from n2f_jax.runtime.output_folder import OutputError

from .conftest import FakeFrontend

pytestmark = pytest.mark.medium

FAST = RunOptions(formats=("npz",), picture=False)


def write_photo(path: Path, level: int = 100, size=(90, 120), mode="RGB", **save) -> Path:
    """A plain image; its level says how many faces the fake front end sees."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((*size, 3), level, np.uint8)
    Image.fromarray(array).convert(mode).save(path, **save)
    return path


@pytest.fixture
def photos(tmp_path):
    """A folder with everything that goes wrong among what goes right: name → expected status."""
    folder = tmp_path / "photos"
    write_photo(folder / "good.png")
    write_photo(folder / "gray.png", mode="L")
    write_photo(folder / "cmyk.jpg", mode="CMYK")
    Image.fromarray(np.full((90, 120), 100 * 257, np.uint16)).save(folder / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90°
    write_photo(folder / "deeper" / "turned.jpg", exif=exif)
    write_photo(folder / "empty_room.png", level=0)
    write_photo(folder / "too_bright.png", level=255)
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    Image.fromarray(noise).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:3000])
    (folder / "letter.jpg").write_text("Dear photo,")
    (folder / "notes.txt").write_text("not looked at")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def statuses(summary: Summary) -> dict[str, str]:
    return {Path(entry.source).name: entry.status for entry in summary.entries}


def quiet_run(photos, out, reconstructor, options=FAST, say=lambda line: None) -> Summary:
    return run(photos, out, reconstructor, options, say=say, progress=False)


def test_bad_photos_do_not_stop_good_ones(load, photos, tmp_path):
    said = []
    summary = quiet_run(find_photos([photos]), tmp_path / "out", load(), say=said.append)
    good = ("good.png", "gray.png", "cmyk.jpg", "sixteen.png", "turned.jpg")
    failed = ("cut.jpg", "letter.jpg", "too_bright.png")
    expected = dict.fromkeys(good, "done") | dict.fromkeys(failed, "failed") | {"empty_room.png": "no face"}
    assert statuses(summary) == expected
    assert summary.exit_code == 1
    lines = "\n".join(said)
    assert len(said) == 4
    for words in ("truncated", "not an image", "no face was found", "cannot stand bright"):
        assert words in lines
        assert words in summary.table()

    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert content["counts"] == {"done": 5, "doubtful": 0, "no face": 1, "failed": 3, "not reached": 0}
    assert content["exit_code"] == 1
    for photo in content["photos"]:
        for face in photo["faces"]:
            head = load_parameters(tmp_path / "out" / face["files"]["npz"])
            assert head["source"] == Path(photo["source"]).name
            assert head["image_size"].tolist() == photo["image_size"]
    turned = load_parameters(tmp_path / "out" / "turned.npz")
    assert turned["image_size"].tolist() == [120, 90]  # upright: the camera belongs to the turned image
    # Nothing else was left lying about.
    files = {
        file for photo in content["photos"] for face in photo["faces"] for file in face["files"].values()
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == files | {"summary.json"}


def test_everything_is_made_for_every_face(load, open_head, tmp_path):
    """All formats and pictures, two faces; the files open and agree with each other."""
    photo = tmp_path / "two.png"
    Image.new("RGB", (320, 240), (250, 250, 100)).save(photo)  # yellow; the mesh is grey
    options = RunOptions(formats=("npz", "obj", "glb", "ply"), max_faces=None, focal=400.0)
    out = tmp_path / "out"
    summary = quiet_run([photo], out, load(), options)
    assert summary.exit_code == 0
    (entry,) = summary.entries
    assert [Path(face["files"]["npz"]).stem for face in entry.faces] == ["two", "two_face2"]
    for face in entry.faces:
        files = {kind: out / name for kind, name in face["files"].items()}
        head = load_parameters(files["npz"])
        assert head["focal_source"] == "given"
        for kind in ("obj", "glb", "ply"):
            mesh = trimesh.load(files[kind], process=False, force="mesh")
            np.testing.assert_allclose(
                mesh.bounds, [head["vertices"].min(0), head["vertices"].max(0)], atol=1e-5
            )
            assert mesh.bounds[1, 1] - mesh.bounds[0, 1] == pytest.approx(0.26, abs=0.05)  # metres, y up
            outwards = np.einsum("fc,fc->f", mesh.face_normals, mesh.triangles_center - mesh.centroid)
            assert (outwards * mesh.area_faces).sum() > 0
        picture = np.asarray(Image.open(files["picture"]))
        assert picture.shape[1] > 3 * picture.shape[0]  # four panels
    overlay = np.asarray(Image.open(out / entry.overlay)).astype(int)
    assert overlay.shape == (240, 320, 3)
    # The mesh is where the parameters say, in the original image.
    drawn = overlay[..., 0] - overlay[..., 2] < 100
    elsewhere = drawn.copy()
    for face in entry.faces:
        head = load_parameters(out / face["files"]["npz"])
        pixels = (head["vertices"] @ head["rotation"].T + head["translation"]) @ head["intrinsics"].T
        u, v = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
        inside = (u >= 0) & (u < 320) & (v >= 0) & (v < 240)
        assert drawn[v[inside], u[inside]].mean() > 0.9
        elsewhere[v[inside].min() : v[inside].max() + 1, u[inside].min() : u[inside].max() + 1] = False
    assert elsewhere.mean() < 0.002
    assert (out / "sheet.png").exists()


def test_resuming_and_overwriting(load, photos, tmp_path):
    out, some = tmp_path / "out", [photos / f"{name}.png" for name in ("empty_room", "good", "gray")]
    quiet_run(some, out, load())
    stamp = (out / "good.npz").stat().st_mtime_ns

    again = quiet_run(some, out, load())
    assert [entry.resumed for entry in again.entries] == [False, True, True]  # what failed is tried again
    assert (out / "good.npz").stat().st_mtime_ns == stamp
    assert "2 of them before" in again.table()

    write_photo(photos / "gray.png", level=200, mode="L")  # changed since
    (out / "good.npz").unlink()  # lost since
    again = quiet_run(some, out, load())
    assert not any(entry.resumed for entry in again.entries)
    assert (out / "good.npz").exists()

    other = RunOptions(formats=("npz",), picture=False, max_faces=None)
    assert (out / "gray_face2.npz").exists() is False
    again = quiet_run(some, out, load(), other)  # other settings
    assert not any(entry.resumed for entry in again.entries)
    assert (out / "gray_face2.npz").exists()
    quiet_run(some, out, load(), RunOptions(formats=("npz",), picture=False, overwrite=True))
    assert not (out / "gray_face2.npz").exists()  # belonged to what was overwritten


def test_another_folder_into_the_same_output_overwrites_nothing(load, tmp_path):
    first, second = (
        write_photo(tmp_path / "a" / "me.png"),
        write_photo(tmp_path / "b" / "me.png", size=(50, 60)),
    )
    out = tmp_path / "out"
    quiet_run([first], out, load())
    summary = quiet_run([second], out, load())
    assert summary.entries[0].name != "me"
    assert load_parameters(out / "me.npz")["image_size"].tolist() == [90, 120]
    assert load_parameters(out / f"{summary.entries[0].name}.npz")["image_size"].tolist() == [50, 60]
    assert quiet_run([first, second], out, load()).entries[0].resumed


@pytest.mark.parametrize("when", ["disk full", "interrupted"])
def test_a_stopped_run_keeps_what_is_finished(load, tmp_path, monkeypatch, when):
    photos = [write_photo(tmp_path / "photos" / f"{i}.png") for i in range(5)]
    out, real = tmp_path / "out", Head.save
    stop = OSError(errno.ENOSPC, "No space left on device") if when == "disk full" else KeyboardInterrupt()

    def save(head, path, source=""):
        if source == "4.png":
            raise stop
        real(head, path, source)

    monkeypatch.setattr(Head, "save", save)
    said = []
    summary = quiet_run(photos, out, load(), say=said.append)
    assert [entry.status for entry in summary.entries] == ["done"] * 4 + ["not reached"]
    assert summary.exit_code == (1 if when == "disk full" else 130)
    if when == "disk full":
        assert "No space left" in said[-1]
    assert "not reached" in summary.table()
    assert {path.name for path in out.iterdir()} == {*(f"{i}.npz" for i in range(4)), "summary.json"}

    monkeypatch.setattr(Head, "save", real)
    again = quiet_run(photos, out, load())
    assert [entry.resumed for entry in again.entries] == [True] * 4 + [False]
    assert again.exit_code == 0


def test_output_that_cannot_be_written(load, tmp_path):
    photo = write_photo(tmp_path / "a.png")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        quiet_run([photo], tmp_path / "file", load())


def test_one_failing_batch_is_done_photo_by_photo(load, tmp_path, monkeypatch):
    photos = [write_photo(tmp_path / f"{i}.png", size=(90, 100 + i)) for i in range(3)]
    reconstructor = load()
    real = reconstructor.from_faces

    def from_faces(faces, sizes, focals):
        if (90, 101) in sizes:
            raise RuntimeError("out of memory")
        return real(faces, sizes, focals)

    monkeypatch.setattr(reconstructor, "from_faces", from_faces)
    summary = quiet_run(photos, tmp_path / "out", reconstructor)
    assert [entry.status for entry in summary.entries] == ["done", "failed", "done"]
    assert "out of memory" in summary.entries[1].message


def test_exit_codes():
    def code(*kinds):
        return Summary([Entry("a", "a", status=kind) for kind in kinds], {}).exit_code

    assert code("done", "done") == 0
    assert code("done", "no face") == 1
    assert code("done", "failed") == 1
    assert code("no face") == 1
    assert code("no face", "failed") == 1
    assert code("failed", "failed") == 2


def test_numbers_that_json_lacks_become_null():
    entry = Entry("a", "a", status="done", faces=[{"gap": float("nan"), "box": [float("inf"), 1.0]}])
    content = json.loads(Summary([entry], {}).to_json())
    assert content["photos"][0]["faces"] == [{"gap": None, "box": [None, 1.0]}]


def test_names_are_unique_whatever_the_photos_are_called():
    photos = [
        Path(p) for p in ("a/x.jpg", "a/x.png", "b/X.jpg", "b/x.jpg", "y.jpg", "y_face2.jpg", "é b.jpg")
    ]
    names = output_names(photos)
    assert len({name.lower() for name in names}) == len(photos)
    assert names[4] == "y"
    assert names[5] != "y_face2"
    assert names[6] == "é b"


def test_finding_photos(photos, tmp_path):
    write_photo(photos / "out" / "made_before.png")
    found = find_photos([photos / "good.png", photos, tmp_path / "missing.jpg"], output=photos / "out")
    names = [path.name for path in found]
    assert names[0] == "good.png"
    assert names.count("good.png") == 1
    assert "turned.jpg" in names
    assert names[-1] == "missing.jpg"  # for the run to report
    assert not {"notes.txt", ".hidden.png", "made_before.png"} & set(names)


@pytest.fixture
def script(monkeypatch, open_head):
    """``n2f reconstruct`` with the fake front end, as a function of its arguments."""
    monkeypatch.setattr(
        "n2f_jax.reconstruction.reconstructor.make_frontend", lambda name, options: FakeFrontend(open_head)
    )
    return lambda *arguments: reconstruct([str(argument) for argument in arguments])


def test_the_script(script, checkpoint, photos, tmp_path, capsys):
    common = ("--out", tmp_path / "out", "--checkpoint", checkpoint, "--no-picture", "--batch-size", 3)
    common += ("--refine", 0)  # which would have to be compiled
    assert script(photos / "good.png", *common, "--formats", "npz") == 0
    printed = capsys.readouterr().out
    assert "1 photos: 1 done" in printed
    assert "good.png" in printed
    assert script(photos / "good.png", *common, "--formats", "npz", "--overwrite", "--blendshapes") == 0
    header, row = (tmp_path / "out" / "blendshapes.csv").read_text().splitlines()
    assert header.startswith("Timecode,BlendShapeCount,EyeBlinkLeft") and row.count(",") == 62
    assert script(photos / "good.png", photos / "letter.jpg", *common, "--formats", "npz") == 1
    assert script(photos / "letter.jpg", *common, "--formats", "npz") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{photos}", "--formats", "npz,stl"), "stl"),
        (("{photos}", "--focal", "-3"), "focal"),
        (("{photos}", "--max-faces", "0"), "face"),
        (("{photos}", "--batch-size", "0"), "at least 1"),
        (("{photos}", "--checkpoint", "{photos}/nowhere"), "nowhere"),
        (("{photos}", "--head-model", "{photos}/nobody.npz"), "nobody.npz"),
        (("{photos}/deeper/nothing",), "nothing"),
        (("{empty}",), "no photos"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(
    script, checkpoint, photos, tmp_path, capsys, arguments, words
):
    (tmp_path / "empty").mkdir()
    filled = [a.format(photos=photos, empty=tmp_path / "empty") for a in arguments]
    if "--checkpoint" not in filled:
        filled += ["--checkpoint", checkpoint]
    assert script(*filled, "--out", tmp_path / "out", "--no-picture") == 2
    captured = capsys.readouterr()
    assert words in captured.err + captured.out
