"""The protocol ``surface``, and what of a reconstruction is measured against."""

import dataclasses

import numpy as np
import pytest

import flame_jax
from n2f_jax.evaluation import surface
from n2f_jax.evaluation.layouts import list_samples
from n2f_jax.evaluation.protocols import Settings, measure_sample
from n2f_jax.evaluation.regions import load_template
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.normals import vertex_areas
from n2f_jax.mesh.triangle_mesh import TriangleMesh, part_of
from n2f_jax.mesh.writing import write_ply

MODEL = flame_jax.load_open_head()
MEAN = np.asarray(MODEL.v_template, np.float64)
FACES = np.asarray(MODEL.faces, np.int64)


def prediction(path, vertices):
    landmarks = np.asarray(flame_jax.landmarks68(MODEL, np.asarray(vertices, np.float32)))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, vertices=vertices.astype(np.float32), faces=FACES.astype(np.int32), landmarks_3d=landmarks)
    return path


def test_a_smaller_head_is_off_by_its_size_alone():
    template = load_template()
    skin = template.visible_part(0.95 * MEAN)
    truth = TriangleMesh(MEAN, FACES)
    result = surface.measure(
        Surface(skin), 0.95 * template.landmarks, truth, template.landmarks, dict(template.regions)
    )
    assert result.figures["size_ratio"] == pytest.approx(0.95, abs=1e-4)
    assert result.figures["face/scaled_mm"] < 0.01 < 1.0 < result.figures["face/metric_mm"]
    assert (
        result.figures["face/scaled_deg"] < 1.0
    )  # at the rims of eyes and mouth the skin has other neighbours
    assert np.isnan(result.distance_mm[template.visible]).any()  # no region, not measured
    assert np.isfinite(result.distance_mm[template.regions["ears"]]).all()


def test_means_are_over_the_area_not_over_the_vertices():
    """A square of which one half has a hundred times the vertices, each half at its own distance."""
    coarse = np.linspace(0.0, 0.05, 3)
    fine = np.linspace(0.05, 0.1, 31)[1:]
    x, y = np.meshgrid(np.concatenate([coarse, fine]), np.linspace(0.0, 0.1, 11), indexing="ij")
    from scipy.spatial import Delaunay

    grid = np.stack([x.ravel(), y.ravel()], axis=-1)
    mesh = TriangleMesh(
        np.column_stack([grid, np.zeros(len(grid))]), Delaunay(grid).simplices.astype(np.int64)
    )
    areas = vertex_areas(mesh.vertices, mesh.faces)
    assert areas.sum() == pytest.approx(0.01)
    left = grid[:, 0] < 0.0501
    assert areas[left].sum() == pytest.approx(0.005, rel=0.05) and left.mean() < 0.1


def test_hidden_parts_do_not_stand_in_for_skin(tmp_path):
    """Lips moved 6 mm forward: the mouth cavity behind them is nearer to the true ones than they are."""
    truth = tmp_path / "truth"
    template = load_template()
    skin = template.visible_part(MEAN)
    truth.mkdir()
    write_ply(truth / "head.ply", skin.vertices, skin.faces)
    np.save(truth / "head.npy", template.landmarks)
    number = np.full(len(MEAN), -1)
    number[template.visible] = np.arange(len(template.visible))
    np.savez(truth / "head.regions.npz", **{name: number[index] for name, index in template.regions.items()})
    _, (sample,) = list_samples(truth)
    assert sample.regions == truth / "head.regions.npz"
    moved = MEAN.copy()
    moved[template.regions["mouth"], 2] += 0.006
    path = prediction(tmp_path / "predicted/head.npz", moved)
    for protocol, figure in (("paper", "mouth/now_mm"), ("surface", "mouth/metric_mm")):
        settings = Settings(protocol, truth_unit="m")
        by_skin = measure_sample(sample, path, settings)
        assert by_skin.notes["measured_against"].startswith("what is seen of")
        assert by_skin.notes["regions"] == "file head.regions.npz"
        whole = measure_sample(sample, path, dataclasses.replace(settings, whole_mesh=True))
        assert whole.notes["measured_against"] == "the whole mesh"
        assert by_skin.figures[figure] > whole.figures[figure] + 0.02


def test_a_part_of_a_mesh_keeps_the_order_of_its_vertices():
    mesh = TriangleMesh(np.arange(15.0).reshape(5, 3), np.array([[0, 1, 2], [2, 3, 4], [4, 2, 1]]))
    part = part_of(mesh, np.array([4, 2, 1]))
    np.testing.assert_array_equal(part.vertices, mesh.vertices[[4, 2, 1]])
    np.testing.assert_array_equal(part.faces, [[0, 1, 2]])
