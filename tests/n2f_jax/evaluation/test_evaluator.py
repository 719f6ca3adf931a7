"""The whole command on small made-up datasets: figures, bad files, resuming, interruption, pictures."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from n2f_jax.evaluation import protocols, run
from n2f_jax.evaluation.landmarks3d import read_landmarks3d
from n2f_jax.evaluation.layouts import list_samples
from n2f_jax.evaluation.phantoms import write_now_dataset, write_picked_points
from n2f_jax.evaluation.run import evaluate, format_samples, named_folders
from n2f_jax.mesh.reading import read_mesh
from tests.n2f_jax.evaluation.mortal import MortalMeasurer

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("now")
    return root, write_now_dataset(root, num_scans=2, images=2, num_vertices=6000)


@pytest.fixture
def copy(dataset, tmp_path):
    """A dataset to be damaged."""
    root = tmp_path / "data"
    shutil.copytree(dataset[0], root)
    return root, {name: root / "predictions" / name for name in dataset[1]}


def call(methods, root, out, **options):
    return evaluate(methods, root, out, **{"progress": False, "worst": 0, **options})


def records_of(folder):
    return {path.name: path.stat().st_mtime_ns for path in sorted((folder / "records").glob("*.json"))}


@pytest.mark.parametrize("protocol", ["now", "now-metric", "paper"])
def test_the_better_method_has_the_smaller_figures(dataset, tmp_path, protocol):
    root, methods = dataset
    result = call(methods, root, tmp_path / "out", protocol=protocol, worst=1)
    assert result.exit_code == 0
    near, mean = (result.summary["methods"][name]["figures"] for name in ("near", "mean"))
    assert near["samples"] == mean["samples"] == 4
    if protocol == "paper":
        # Vertex to vertex of a dense scan has a floor, the reconstruction's own spacing; to the surface it has none.
        assert near["face/cd_mm"] < mean["face/cd_mm"] and near["face/now_mm"] < 0.6 * mean["face/now_mm"]
        for region in ("face", "eyes", "nose", "mouth", "ears"):
            assert near[f"{region}/now_mm"] < near[f"{region}/cd_mm"] < 4.0
        assert mean["face/mne_rad"] == pytest.approx(np.radians(mean["face/mne_deg"]))
        assert near["face/cr"] > mean["face/cr"]
    else:
        assert near["median_mm"] < 0.6 * mean["median_mm"] and 0.05 < near["median_mm"] < 1.0
        assert set(result.summary["methods"]["near"]["groups"]) == {
            "multiview_neutral",
            "multiview_expressions",
        }
    for name in ("summary.json", "summary.csv", "samples.csv", "curves.csv"):
        assert (tmp_path / "out" / name).stat().st_size > 50
    # Pictures show something: the worst sample's heat map is neither blank nor of one colour.
    (heat_map,) = (tmp_path / "out/mean/heat_maps").glob("*.png")
    colours = np.asarray(Image.open(heat_map))[:300].reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 1000
    assert 0.2 < (colours != 255).any(axis=1).mean() < 0.95
    assert Image.open(tmp_path / "out/worst.png").size[0] > 300
    assert Image.open(tmp_path / "out/curves.png").size[0] > 300
    assert "units: ground truth mm" in result.text


def test_now_pools_distances_and_not_means(dataset, tmp_path):
    root, methods = dataset
    result = call({"mean": methods["mean"]}, root, tmp_path, protocol="now")
    errors = [np.load(path) for path in sorted((tmp_path / "mean/errors").glob("*.npy"))]
    assert len(errors) == 4
    figures = result.summary["methods"]["mean"]["figures"]
    assert figures["median_mm"] == pytest.approx(np.median(np.concatenate(errors)))
    assert figures["std_mm"] == pytest.approx(np.concatenate(errors).std(), rel=1e-6)


def test_one_bad_file_never_stops_the_others(copy, tmp_path):
    root, methods = copy
    found = sorted(methods["near"].rglob("*.npz"))
    found[0].write_bytes(found[0].read_bytes()[:5000])
    found[1].unlink()
    result = call(methods, root, tmp_path / "out", protocol="now")
    assert result.exit_code == 1
    counts = result.summary["methods"]["near"]["counts"]
    assert counts == {"measured": 2, "missing": 1, "failed": 1}
    assert found[0].name in result.text and "no prediction" in result.text
    assert "do not compare" in result.text
    rows = (tmp_path / "out/samples.csv").read_text().splitlines()
    assert len(rows) == 9 and sum(",failed," in row for row in rows) == 1


def test_a_broken_scan_fails_its_own_samples_only(copy, tmp_path):
    root, methods = copy
    (scan,) = (root / "scans/subject000").glob("*.obj")
    text = scan.read_text().splitlines()
    text[10] = "v nan 0 0"
    scan.write_text("\n".join(text))
    (points,) = (root / "scans_lmks_onlypp/subject001").glob("*.pp")
    points.write_text("<PickedPoints>")
    result = call({"near": methods["near"]}, root, tmp_path / "out", protocol="now")
    assert result.exit_code == 2  # nothing is left
    assert "not finite" in result.text and "picked points" in result.text


@pytest.mark.parametrize("protocol", ["now", "paper"])
def test_degenerate_scans_give_the_figures_of_clean_ones(dataset, copy, tmp_path, protocol):
    """Stray points, repeated and flat triangles, a hole, metres: no figure changes. A bare point cloud has no MNE."""
    root, methods = dataset
    clean = call({"near": methods["near"]}, root, tmp_path / "clean", protocol=protocol)
    figures = clean.summary["methods"]["near"]["figures"]
    root, methods = copy
    for scan in (root / "scans").rglob("*.obj"):
        (points,) = (root / "scans_lmks_onlypp" / scan.parent.name).glob("*.pp")
        mesh = read_mesh(scan)
        write_picked_points(points, read_landmarks3d(points) / 1000)
        stray = np.random.default_rng(0).normal(0, 0.05, (200, 3))
        # One triangle less, at the back of the head, whose corners others use too.
        back = np.argmin(mesh.vertices[mesh.faces].mean(axis=1)[:, 2])
        faces = np.concatenate([np.delete(mesh.faces, back, axis=0), mesh.faces[:50], [[0, 0, 1], [3, 4, 4]]])
        text = [f"v {x:.8f} {y:.8f} {z:.8f}" for x, y, z in np.concatenate([mesh.vertices / 1000, stray])]
        text += [f"f {a} {b} {c}" for a, b, c in faces + 1]
        scan.write_text("\n".join(text))
    spoilt = call({"near": methods["near"]}, root, tmp_path / "spoilt", protocol=protocol)
    assert spoilt.exit_code == 0 and "ground truth m;" in spoilt.text
    # Landmarks in metres are rounded to a micrometre, by which a vertex or two at a region's rim change sides.
    assert spoilt.summary["methods"]["near"]["figures"] == pytest.approx(figures, rel=1e-2, abs=2e-4)
    assert "200 unreferenced, 2 degenerate, 50 duplicate" in (
        next((tmp_path / "spoilt/near/records").glob("*.json")).read_text()
    )
    for scan in (root / "scans").rglob("*.obj"):
        kept = read_mesh(scan).vertices[:-200]
        scan.write_text("\n".join(f"v {x:.8f} {y:.8f} {z:.8f}" for x, y, z in kept))
    cloud = call({"near": methods["near"]}, root, tmp_path / "cloud", protocol=protocol, worst=1)
    assert cloud.exit_code == 0
    without = {key: value for key, value in figures.items() if "mne" not in key}
    assert cloud.summary["methods"]["near"]["figures"] == pytest.approx(without, rel=1e-2, abs=2e-4)


def test_the_same_command_measures_only_what_is_new(copy, tmp_path, monkeypatch):
    root, methods = copy
    out = tmp_path / "out"
    first = call(methods, root, out, protocol="now")
    before = records_of(out / "near")
    calls = []

    def counted(task, *args):
        calls.append(task.sample.name)
        return work(task, *args)

    work = run.work
    monkeypatch.setattr(run, "work", counted)
    again = call(methods, root, out, protocol="now")
    assert calls == [] and records_of(out / "near") == before
    assert again.summary["methods"] == first.summary["methods"]
    # A prediction that changed, and one that went missing and came back.
    changed = sorted(methods["near"].rglob("*.npz"))[0]
    other = sorted(methods["mean"].rglob("*.npz"))[0]
    changed.write_bytes(other.read_bytes())
    result = call(methods, root, out, protocol="now")
    assert len(calls) == 1 and "7 of 8 had been measured before" in result.text
    assert result.summary["methods"]["near"] != first.summary["methods"]["near"]
    # Other settings measure everything again.
    calls.clear()
    call(methods, root, out, protocol="now-metric")
    assert len(calls) == 8


def test_an_interrupted_run_resumes(dataset, tmp_path, monkeypatch):
    root, methods = dataset
    methods = {"near": methods["near"]}
    whole = call(methods, root, tmp_path / "whole", protocol="now")
    measured = []

    def interrupted(sample, prediction, settings):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(sample.name)
        return protocols.measure_sample(sample, prediction, settings)

    work = run.work
    monkeypatch.setattr(run, "work", lambda task: work(task, interrupted))
    with pytest.raises(KeyboardInterrupt):
        call(methods, root, tmp_path / "out", protocol="now")
    assert len(records_of(tmp_path / "out/near")) == 2
    monkeypatch.setattr(run, "work", work)
    result = call(methods, root, tmp_path / "out", protocol="now")
    assert "2 of 4 had been measured before" in result.text
    assert result.summary["methods"] == whole.summary["methods"]


def test_a_damaged_record_is_measured_again(dataset, tmp_path):
    root, methods = dataset
    methods = {"near": methods["near"]}
    first = call(methods, root, tmp_path, protocol="now")
    record = next((tmp_path / "near/records").glob("*.json"))
    record.write_text(record.read_text()[:40])
    next((tmp_path / "near/errors").glob("*.npy")).unlink()
    assert call(methods, root, tmp_path, protocol="now").summary["methods"] == first.summary["methods"]


def test_units_that_cannot_be_are_refused(dataset, tmp_path):
    root, methods = dataset
    result = call({"near": methods["near"]}, root, tmp_path, protocol="now-metric", truth_unit="m")
    assert result.exit_code == 2 and "in mm it would be" in result.text
    result = call({"near": methods["near"]}, root, tmp_path, protocol="now-metric", prediction_unit="mm")
    assert result.exit_code == 2 and "this format is in m" in result.text


def test_a_mesh_in_pixels_can_be_measured_only_where_scale_is_estimated(copy, tmp_path):
    root, methods = copy
    for path in methods["near"].rglob("*.npz"):
        with np.load(path) as values:
            landmarks = values["landmarks_3d"] * 1234.0
            from n2f_jax.mesh.writing import write_obj

            write_obj(path.with_suffix(".obj"), values["vertices"] * 1234.0, values["faces"])
        np.save(path.with_suffix(".npy"), landmarks)
        path.unlink()
    pixels = {"near": methods["near"]}
    estimated = call(pixels, root, tmp_path / "a", protocol="now")
    assert estimated.exit_code == 0 and "predictions estimated" in estimated.text
    refused = call(pixels, root, tmp_path / "b", protocol="now-metric")
    assert refused.exit_code == 2 and "does not say its unit" in refused.text


def test_facescape_and_300w(tmp_path):
    from n2f_jax.evaluation.phantoms import make_phantom, write_scan
    from n2f_jax.mesh.writing import write_obj

    rng = np.random.default_rng(0)
    truth, answer = (make_phantom(rng, 0, 0.0) for _ in range(2))
    to_camera = np.diag([1.0, -1.0, -1.0])
    for folder in ("truth", "answer", "marks", "points"):
        (tmp_path / folder).mkdir()
    placed = truth.head.scaled(1000.0)
    write_scan(
        tmp_path / "truth/a.obj",
        type(placed)(placed.vertices @ to_camera.T + np.array([0, 0, 700.0]), placed.faces),
    )
    write_obj(tmp_path / "answer/a.obj", answer.head.vertices @ to_camera.T + [0, 0, 0.75], answer.head.faces)
    options = {"protocol": "facescape", "truth_unit": "mm", "prediction_unit": "m"}
    result = call({"x": tmp_path / "answer"}, tmp_path / "truth", tmp_path / "o1", **options)
    assert result.exit_code == 0
    figures = result.summary["methods"]["x"]["figures"]
    assert 0.3 < figures["cd_mm"] < 8 and figures["cr"] > 0.8
    assert figures["mne_published_rad"] < figures["mne_rad"]

    points = rng.uniform(0, 100, (68, 2))
    points[36], points[45] = (20, 50), (70, 50)
    lines = "\n".join(f"{u + 0.5} {v + 0.5}" for u, v in points)
    (tmp_path / "marks/a.pts").write_text("version: 1\nn_points: 68\n{\n" + lines + "\n}\n")
    # The annotated person is the second that was found.
    np.savez(tmp_path / "points/a.npz", landmarks_2d=2 * points + 300)
    np.savez(tmp_path / "points/a_face2.npz", landmarks_2d=points + np.array([3.0, 4.0]))
    result = call({"x": tmp_path / "points"}, tmp_path / "marks", tmp_path / "o2", protocol="300w")
    assert result.summary["methods"]["x"]["figures"]["nme_percent"] == pytest.approx(10.0)


def test_method_names(tmp_path):
    for name in ("a/pred", "b/pred", "x=y"):
        (tmp_path / name).mkdir(parents=True)
    folders = named_folders([f"one={tmp_path / 'a/pred'}", str(tmp_path / "b/pred"), str(tmp_path / "x=y")])
    assert list(folders) == ["one", "pred", "x=y"]
    for bad in ([str(tmp_path / "no")], [str(tmp_path / "a/pred"), str(tmp_path / "b/pred")]):
        with pytest.raises(ValueError, match=r"no folder|two methods"):
            named_folders(bad)


def test_samples_can_be_listed(dataset):
    lines = format_samples(dataset[0], "auto", "now").splitlines()
    assert lines[0].startswith("subject000/multiview_neutral/IMG_0000") and len(lines) == 4


def command(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "scripts/evaluate.py", *map(str, arguments)], capture_output=True, text=True
    )


def test_the_command_in_parallel_gives_the_same_figures(dataset, tmp_path):
    root, methods = dataset
    serial = call({"near": methods["near"]}, root, tmp_path / "serial", protocol="now")
    arguments = ["--ground-truth", root, "--protocol", "now", "--worst", 0, "--jobs", 2]
    done = command("--predictions", methods["near"], "--out", tmp_path / "out", *arguments)
    assert done.returncode == 0, done.stderr
    parallel = json.loads((tmp_path / "out/summary.json").read_text())
    assert parallel["methods"]["near"]["figures"] == pytest.approx(
        serial.summary["methods"]["near"]["figures"]
    )
    wrong = command("--predictions", tmp_path / "nowhere", "--out", tmp_path / "out", *arguments)
    assert wrong.returncode == 2 and "no folder" in wrong.stderr


def test_a_worker_that_dies_loses_only_its_sample(dataset, tmp_path, monkeypatch):
    """Its scan kills the process that reads it, as running out of memory would."""
    root, methods = dataset
    out = tmp_path / "out"
    tasks = run.make_tasks(
        list_samples(root)[1],
        {"near": methods["near"]},
        out,
        protocols.Settings("now"),
    )
    monkeypatch.setattr(run, "_Worker", MortalMeasurer)
    records = run.measure_all(tasks, jobs=2, progress=False)
    assert [record["status"] for record in records] == ["failed", "measured", "measured", "measured"]
    assert "process died" in records[0]["message"]
