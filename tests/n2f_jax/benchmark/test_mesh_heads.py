"""Any mesh as ground truth: a head of another pose and unit, cut, without inner parts, against what is known of it."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

import flame_jax
from n2f_jax.benchmark import mesh_heads
from n2f_jax.benchmark.files import BenchmarkError, head_names, read_head, read_settings
from n2f_jax.benchmark.methods import MEAN, make_methods
from n2f_jax.benchmark.open_heads import PredictionFolder, StoredHeads, predict_all
from n2f_jax.benchmark.surface_tables import format_surface_tables
from n2f_jax.benchmark.tables import measure
from n2f_jax.data.sampler import SyntheticConfig, sample_params
from n2f_jax.evaluation.mesh_annotation import is_exposed
from n2f_jax.evaluation.regions import template_of
from n2f_jax.fitting.registration import Registrar, RegistrationConfig
from n2f_jax.mesh.triangle_mesh import TriangleMesh, part_of
from n2f_jax.mesh.writing import write_ply

pytestmark = pytest.mark.medium
TURN = Rotation.from_euler("xyz", [80, 10, -20], degrees=True).as_matrix()


@pytest.fixture(scope="module")
def heads(open_head):
    """Two heads: what is seen of them, without the neck's lower end, and which vertices of the model that is."""
    template = template_of(open_head)
    kept = template.visible[
        template.mesh.vertices[template.visible, 1] > np.percentile(template.mesh.vertices[:, 1], 4)
    ]
    found = []
    for seed in range(2):
        params = sample_params(jax.random.key(seed), open_head, SyntheticConfig(jaw_std_deg=(4.0, 1.0, 1.0)))
        vertices = np.asarray(flame_jax.decode(open_head, params)[0], np.float64)
        landmarks = np.asarray(flame_jax.landmarks68(open_head, vertices.astype(np.float32)), np.float64)
        found.append((part_of(TriangleMesh(vertices, template.mesh.faces), kept), landmarks))
    return kept, found


@pytest.fixture(scope="module")
def benchmark(heads, open_head, tmp_path_factory):
    """Their benchmark, from centimetres in another pose, landmarks beside the first alone; and what was said."""
    folder = tmp_path_factory.mktemp("meshes")
    (folder / "group").mkdir()
    for name, (mesh, landmarks) in zip("ab", heads[1], strict=True):
        write_ply(folder / f"group/{name}.ply", 100.0 * mesh.vertices @ TURN.T + 7.0, mesh.faces)
        if name == "a":
            np.save(folder / "group/a.npy", 100.0 * landmarks[17:] @ TURN.T + 7.0)
    (folder / "broken.obj").write_text("no mesh")
    said = []
    out = folder.parent / "benchmark"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mesh_heads, "PHOTO_SIZE", 192)
        patch.setattr(mesh_heads, "MESH_CONDITIONS", ("clean",))
        patch.setattr(mesh_heads, "LOOKS", ("grey",))
        # Fewer directions: the same code in a fraction of the time.
        few = dataclasses.replace(
            open_head, shapedirs=open_head.shapedirs[..., :40], exprdirs=open_head.exprdirs[..., :20]
        )
        config = RegistrationConfig(scaling=True, offsets=True, samples=1500)
        patch.setattr(mesh_heads, "annotator", lambda: Registrar(few, config))
        arguments = {"unit": "cm", "size": 32, "progress": False, "say": said.append}
        assert mesh_heads.write_mesh_benchmark(folder, out, **arguments) == 2
        stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
        assert mesh_heads.write_mesh_benchmark(folder, out, **arguments) == 2  # resumes
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")} == stamps
    return out, said


def test_a_mesh_becomes_ground_truth(benchmark, heads, open_head):
    folder, said = benchmark
    assert len(said) == 2 and all(line.startswith("broken: left out: ") for line in said)
    settings = read_settings(folder)
    assert settings["of_meshes"] and head_names(settings, group="group") == ["group/a", "group/b"]
    with pytest.raises(BenchmarkError, match="no heads of the group 'other'; there are group"):
        head_names(settings, group="other")
    kept, found = heads
    for name, (_, landmarks) in zip("ab", found, strict=True):
        own = np.load(folder / f"heads/group/{name}.npy")
        # In the head frame, in metres, to the few degrees in which a stranger's face leaves it open.
        error = np.linalg.norm(own - landmarks, axis=1)
        assert error[17:].mean() < 0.006
        centred = [x[17:] - x[17:].mean(axis=0) for x in (own, landmarks)]
        turned = Rotation.align_vectors(*centred)[0]
        assert np.degrees(turned.magnitude()) < 4.0
        assert np.linalg.norm(turned.apply(centred[1]) - centred[0], axis=1).mean() < 0.003
    with np.load(folder / "heads/group/a.regions.npz") as regions:
        for region, least in (("face", 0.85), ("nose", 0.7), ("eyes", 0.7), ("mouth", 0.5), ("ears", 0.8)):
            true = np.zeros(open_head.num_vertices, bool)
            true[template_of(open_head).regions[region]] = True
            truth, there = true[kept], np.zeros(len(kept), bool)
            there[regions[region]] = True
            assert (truth & there).sum() / (truth | there).sum() > least, region


def test_maps_and_pictures_show_the_same_head(benchmark):
    folder, _ = benchmark
    rows = json.loads((folder / "benchmark.json").read_text())["controlled"]
    for row in rows:
        stored = read_head(folder, "clean", row["name"])
        assert stored.normals.shape == (32, 32, 3) and 0.15 < stored.mask.mean() < 0.9
        # The nose's tip lies on the face in the crop.
        u, v = stored.true_landmarks_2d[30].astype(int)
        assert stored.mask[v, u] == 1 and stored.normals[v, u] @ [0, 0, 1] > 0.3
        picture = np.asarray(Image.open(folder / f"photos/grey/{row['name']}.png"))
        true = np.load(folder / f"heads/{row['name']}.npy") @ stored.rotation.T + stored.translation
        pixels = row["photo_focal"] * true[:, :2] / true[:, 2:] + 96.0
        u, v = pixels[30].astype(int)
        corner = picture[:4, :4].reshape(-1, 3).mean(axis=0)
        assert np.abs(picture[v, u] - corner).max() > 10
        assert np.ptp(picture[v, u].astype(int)) <= 1
    assert (folder / "photos.jpg").stat().st_size > 1000 and (folder / "sheet.png").stat().st_size > 1000


def test_methods_are_measured_by_their_surfaces(benchmark, open_head, tmp_path):
    folder, _ = benchmark
    names = head_names(read_settings(folder))
    predictions = PredictionFolder(tmp_path, open_head)
    methods = {MEAN: make_methods(open_head, {})[MEAN]}
    predict_all({"clean": StoredHeads(folder, "clean", names)}, methods, names, predictions, progress=False)
    figures = measure(folder, tmp_path, ["clean"], [MEAN], progress=False)
    one = figures["clean"][MEAN]
    assert (one["face/scaled_mm"] <= one["face/metric_mm"] + 0.1).all() and (
        one["face/metric_mm"] > 0.5
    ).all()
    assert np.isfinite(one["size_ratio"]).all() and np.isnan(one["distance_ratio"]).all()
    text = format_surface_tables(figures)
    assert f"| {MEAN} | {one['face/metric_mm'].mean():.2f} [" in text
    worse = {"clean": {MEAN: one, "bad": {key: value + 1.0 for key, value in one.items()}}}
    assert text.count("**worse**") == 0 and format_surface_tables(worse).count("**worse**") == 2


def test_a_folder_of_other_settings_is_refused(benchmark, tmp_path):
    folder, _ = benchmark
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(BenchmarkError, match="other settings"):
        mesh_heads.write_mesh_benchmark(tmp_path, folder, size=64, progress=False)
    with pytest.raises(BenchmarkError, match="no meshes"):
        mesh_heads.list_meshes(tmp_path / "nothing")


def test_the_inside_of_a_cup_is_not_exposed():
    """A deep cylinder open at the top: the floor sees the sky, the lower walls do not, the outside does."""
    angle = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    levels = [(0.01, 0.0), (1.2, 0.0), (1.2, 6.0), (1.0, 6.0), (1.0, 3.0), (1.0, 0.5), (0.01, 0.5)]
    vertices = np.concatenate([np.column_stack([r * ring, np.full(24, z)]) for r, z in levels])
    faces = []
    for level in range(len(levels) - 1):
        for i in range(24):
            a, b = 24 * level + i, 24 * level + (i + 1) % 24
            faces += [[a, b, b + 24], [a, b + 24, a + 24]]
    mesh = TriangleMesh(vertices, np.array(faces))
    exposed = is_exposed(mesh, np.arange(len(vertices))).reshape(len(levels), 24)
    assert exposed[:3].all() and not exposed[5].any()
