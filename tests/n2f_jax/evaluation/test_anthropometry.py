"""Dimensions of heads: known answers, points where anatomy has them, and a published table that can be true."""

import csv
import dataclasses
import sys

import anthropometry as command
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import summarise_surveys

import flame_jax
from flame_jax import FlameParams
from n2f_jax.evaluation import anthropometry as an
from n2f_jax.evaluation import anthropometry_sheet, anthropometry_table, surveys
from tests.flame_jax.random_model import random_arrays


@pytest.fixture(scope="module")
def points(open_head):
    return an.caliper_points(open_head)


@pytest.fixture(scope="module")
def places(open_head, points):
    """Name → where the point lies on the mean head, metres."""
    mean = np.asarray(open_head.v_template, np.float64)
    return {name: point.on(mean)[0] for name, point in points.named.items()}


@pytest.fixture(scope="module")
def shapes(open_head):
    return 0.8 * np.random.default_rng(0).standard_normal((20, open_head.num_shape))


def test_lengths_are_those_of_the_decoded_heads(open_head, points, shapes):
    """Measured apart from the module's own arithmetic: on whole heads from the decoder."""
    measured = an.measure_dimensions(open_head, shapes[:3])
    assert set(measured) == set(an.DIMENSIONS) == set(surveys.PUBLISHED) - {surveys.SIZE}
    params = dataclasses.replace(
        FlameParams.neutral(open_head, (3,)), shape=jnp.asarray(shapes[:3], jnp.float32)
    )
    heads = np.asarray(jax.jit(flame_jax.decode)(open_head, params)[0], np.float64)
    for index, vertices in enumerate(heads):
        for dimension, (start, end) in an.BETWEEN.items():
            apart = points.named[start].on(vertices)[0] - points.named[end].on(vertices)[0]
            assert measured[dimension][index] == pytest.approx(np.sqrt((apart**2).sum()), abs=2e-6)
        tape = points.tape.on(vertices)
        around = sum(np.linalg.norm(tape[i] - tape[i - 1]) for i in range(len(tape)))
        assert measured[an.CIRCUMFERENCE][index] == pytest.approx(around, abs=1e-5)


def test_a_larger_head_is_larger_by_as_much(open_head, shapes):
    scaled = dataclasses.replace(
        open_head, v_template=1.1 * open_head.v_template, shapedirs=1.1 * open_head.shapedirs
    )
    before, after = (an.measure_dimensions(model, shapes) for model in (open_head, scaled))
    for dimension in an.DIMENSIONS:
        np.testing.assert_allclose(after[dimension], 1.1 * before[dimension], rtol=1e-5)
    np.testing.assert_allclose(an.overall_size(after), 1.1 * an.overall_size(before), rtol=1e-5)


def test_one_side_mirrors_the_other(places):
    pairs = [name for name in places if "left" in name]
    assert len(pairs) == 6
    for name in pairs:
        other = places[name.replace("left", "right")]
        np.testing.assert_allclose(places[name] * [-1, 1, 1], other, atol=2e-4)
        assert places[name][0] > 0.01


def test_midline_points_lie_in_the_middle_from_top_to_bottom(open_head, places):
    order = ["glabella", "sellion", "pronasale", "subnasale", "menton"]
    for name in [*order, "opisthocranion"]:
        assert abs(places[name][0]) < 1e-6
    heights = [places[name][1] for name in order]
    assert (np.diff(heights) < -0.005).all()
    assert places["pronasale"][2] == max(place[2] for place in places.values())
    assert places["sellion"][2] < min(places["glabella"][2], places["pronasale"][2])
    assert places["subnasale"][2] < places["pronasale"][2] - 0.01
    assert places["opisthocranion"][2] == min(place[2] for place in places.values())
    lower_lip = np.asarray(flame_jax.landmarks68(open_head, open_head.v_template))[57]
    assert places["menton"][1] < lower_lip[1] - 0.02


def test_side_points_lie_where_anatomy_has_them(open_head, places):
    p = {name.removeprefix("left "): place for name, place in places.items() if "right" not in name}
    assert p["euryon"][1] > p["pupil"][1] > p["zygion"][1]
    assert p["euryon"][0] > p["zygion"][0] > p["gonion"][0] > p["pupil"][0] > p["alare"][0]
    assert p["gonion"][0] > p["cheilion"][0] > p["alare"][0]
    assert p["subnasale"][1] < p["zygion"][1] < p["sellion"][1] + 0.01
    assert p["menton"][1] < p["gonion"][1] < p["subnasale"][1]
    assert p["subnasale"][1] - 0.002 < p["alare"][1] < p["pronasale"][1] + 0.01
    assert p["subnasale"][1] > p["cheilion"][1] > p["menton"][1]
    assert p["pronasale"][2] > p["alare"][2] > p["gonion"][2]
    eye = np.asarray(open_head.J_regressor[3]) @ np.asarray(open_head.v_template)  # where the eye turns
    np.testing.assert_allclose(p["pupil"], eye, atol=1e-4)


def test_the_tape_goes_round_once_and_outside_of_ears(open_head, points, places):
    tape = points.tape.on(np.asarray(open_head.v_template, np.float64))
    angle = np.unwrap(np.arctan2(tape[:, 2] - tape[:, 2].mean(), tape[:, 0]))
    steps = np.diff(angle)
    assert (steps > 0).all() or (steps < 0).all()
    assert 5.5 < abs(angle[-1] - angle[0]) < 2 * np.pi
    ears = np.concatenate([np.asarray(open_head.masks[f"{side}_ear"]) for side in ("left", "right")])
    assert not np.isin(points.tape.corners, ears).any()
    # Longer than the circle of its length, shorter than the box around it.
    length, width = np.ptp(tape[:, 2]), np.ptp(tape[:, 0])
    around = np.linalg.norm(tape - np.roll(tape, 1, axis=0), axis=-1).sum()
    assert np.pi * width < around < 2 * (length + width)


def test_deviations_grow_with_the_sampler(open_head):
    narrow, wide = (
        anthropometry_table.compare_with_surveys(open_head, 400, seed=3, beta_std=beta_std)
        for beta_std in (0.2, 0.4)
    )
    for a, b in zip(narrow, wide, strict=True):
        assert a.dimension == b.dimension
        assert b.deviation == pytest.approx(2 * a.deviation, rel=0.03)
        assert b.mean == pytest.approx(a.mean, rel=0.01)
    assert anthropometry_table.compare_with_surveys(open_head, 5, 0, 0.0)[0].deviation < 1e-9


def test_row_and_table():
    group = surveys.Group(10, 100.0, 3.0)
    published = surveys.Published(surveys.NIOSH, group, surveys.Group(20, 92.0, 3.0))
    assert published.mean == 96.0
    assert published.deviation == pytest.approx(5.0)  # √(3² + 4²)
    row = anthropometry_table.Row("nose breadth", 90.0, 10.0, published)
    assert row.difference == pytest.approx(-0.0625)
    assert row.deviation_ratio == pytest.approx(2.0)
    text = anthropometry_table.format_table([row])
    assert "| nose breadth | 90.0 ± 10.0 | 96.0 ± 5.0 | −6.2 % | × 2.00 |  | 11.1 / 5.2 % |" in text
    assert "100.0 ± 3.0 | 92.0 ± 3.0 | NIOSH 2003 |" in text


def test_size_drops_out_of_proportions(open_head):
    """Heads of one shape and many sizes have no proportions that vary; all their dimensions vary alike."""
    grown = open_head.shapedirs.at[:, :, 0].set(0.05 * open_head.v_template)
    one_size = dataclasses.replace(open_head, shapedirs=grown[:, :, :1])
    rows = anthropometry_table.compare_with_surveys(one_size, 500, seed=0, beta_std=1.0)
    for row in rows:
        assert row.deviation / row.mean == pytest.approx(0.05, rel=0.1)
        if row.dimension != surveys.SIZE:
            assert row.proportion_deviation < 1e-6
    with_ratio = {row.dimension for row in rows if row.proportion_ratio is not None}
    assert with_ratio == set(surveys.PROPORTIONS) == set(surveys.SIZE_DIMENSIONS)


def test_published_proportions_belong_to_the_published_lengths():
    """The logarithms' means add up to zero, and are those of the mean lengths but for the curve of the logarithm."""
    for sex in ("men", "women"):
        groups = {name: getattr(found, sex) for name, found in surveys.PROPORTIONS.items()}
        assert sum(group.mean for group in groups.values()) == pytest.approx(0.0, abs=1e-3)
        size = getattr(surveys.PUBLISHED[surveys.SIZE][0], sex).mean
        for name, group in groups.items():
            length = getattr(surveys.PUBLISHED[name][0], sex).mean
            assert group.mean == pytest.approx(np.log(length / size), abs=0.012)
            assert group.count == getattr(surveys.PUBLISHED[surveys.SIZE][0], sex).count


def test_published_figures_can_be_true():
    ranges = {  # centimetres
        "head length": (17, 21),
        "head breadth": (13, 17),
        "head circumference": (53, 60),
        "bizygomatic breadth": (12, 15),
        "bigonial breadth": (10, 13),
        "menton–sellion length": (10, 13),
        "subnasale–sellion length": (4, 6),
        "nose breadth": (3, 4.5),
        "nose protrusion": (1.5, 2.5),
        "lip length": (4.5, 6),
        "interpupillary distance": (5.5, 7),
        surveys.SIZE: (7, 10),
    }
    assert set(ranges) == set(surveys.PUBLISHED)
    for dimension, found in surveys.PUBLISHED.items():
        for published in found:
            low, high = ranges[dimension]
            for group in (published.men, published.women):
                assert 10 * low < group.mean < 10 * high
                assert 0.02 < group.deviation / group.mean < 0.15
                assert group.count > 1000
            assert published.men.mean > published.women.mean
            assert published.deviation > min(published.men.deviation, published.women.deviation)
        # Two surveys of one dimension agree.
        means = [published.mean for published in found]
        assert max(means) / min(means) < 1.03
    assert {name for name, found in surveys.PUBLISHED.items() if len(found) == 2} == (
        set(surveys.COLUMNS[surveys.NIOSH]) & set(surveys.COLUMNS[surveys.ANSUR])
    )


def test_a_survey_is_summarised_as_its_files_write_it(tmp_path):
    """Thousands separators, missing values, empty last rows, and one column in tenths of a millimetre."""
    columns = surveys.COLUMNS[surveys.NIOSH]
    with (tmp_path / "niosh.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["SUBNO", "SEX", *columns.values()])
        writer.writerow(["1", "1", *["100"] * len(columns)])
        writer.writerow(["2", "1", *["100"] * len(columns)])
        writer.writerow(["1,002", "1", "-9,999", *["400"] * (len(columns) - 1)])
        writer.writerow(["3", "2", *["1,689"] * len(columns)])
        writer.writerow(["4", "2", *["1,691"] * len(columns)])
        writer.writerow(["", "", *[""] * len(columns)])
    rows = summarise_surveys.read_niosh(tmp_path / "niosh.csv")
    result = summarise_surveys.summarise(surveys.NIOSH, rows, {})
    first, second = list(columns)[:2]
    assert result[second, "men"] == (3, 200.0, pytest.approx(np.sqrt(3) * 100))
    assert result[first, "men"] == (2, 100.0, 0.0)
    assert result[first, "women"] == (2, 1690.0, pytest.approx(np.sqrt(2)))
    assert result[surveys.SIZE, "men"][:2] == (2, pytest.approx(100.0))  # of those with every dimension
    assert result[surveys.SIZE, "women"][:2] == (2, pytest.approx(1690.0))
    assert result["log nose breadth/size", "women"] == (2, pytest.approx(0.0), pytest.approx(0.0))

    columns = surveys.COLUMNS[surveys.ANSUR]
    for name, value in (("men", "640"), ("women", "620")):
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="latin-1") as file:
            writer = csv.writer(file)
            writer.writerow(["SubjectId", *columns.values()])
            writer.writerow(["ñ", *[value] * len(columns)])
            writer.writerow(["2", *[value] * len(columns)])
    rows = summarise_surveys.read_ansur(tmp_path / "men.csv", tmp_path / "women.csv")
    result = summarise_surveys.summarise(surveys.ANSUR, rows, {"interpupillarybreadth": 0.1})
    assert result["interpupillary distance", "men"] == (2, pytest.approx(64.0), 0.0)
    assert result["head length", "women"] == (2, 620.0, 0.0)


def test_landmarks_and_four_regions_are_enough(open_head, places):
    """As FLAME has them: no mouth cavity, eye sockets, teeth or tongue marked as such."""
    masks = {region: open_head.masks[region] for region in an.REGIONS}
    bare = an.caliper_points(dataclasses.replace(open_head, masks=masks))
    for name, place in places.items():
        np.testing.assert_allclose(
            bare.named[name].on(np.asarray(open_head.v_template, np.float64))[0], place, atol=1e-9
        )


def test_a_model_without_what_it_takes_is_refused(open_head):
    with pytest.raises(an.AnthropometryError, match="no landmarks"):
        an.caliper_points(dataclasses.replace(open_head, landmarks=None))
    masks = {name: mask for name, mask in open_head.masks.items() if "ear" not in name}
    with pytest.raises(an.AnthropometryError, match="lacks the regions left_ear, right_ear"):
        an.caliper_points(dataclasses.replace(open_head, masks=masks))
    turned = dataclasses.replace(open_head, v_template=open_head.v_template * jnp.array([[1.0, -1.0, -1.0]]))
    with pytest.raises(an.AnthropometryError, match="has no sellion"):
        an.caliper_points(turned)
    with pytest.raises(ValueError, match="shape coefficients"):
        an.measure_dimensions(open_head, np.zeros((2, open_head.num_shape + 1)))
    with pytest.raises(ValueError, match="no standard deviation"):
        anthropometry_table.compare_with_surveys(open_head, 1, 0, 0.8)


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["anthropometry.py", "--heads", "50", "--beta-std", "0.5"])
    assert command.main() == 0
    printed = capsys.readouterr().out
    assert printed.startswith("50 heads of open-head, shape N(0, 0.5²), seed 0\n")
    assert printed.count("\n|") == 2 + sum(len(found) for found in surveys.PUBLISHED.values())
    np.savez(tmp_path / "random.npz", **random_arrays())
    monkeypatch.setattr(sys, "argv", ["anthropometry.py", "--head-model", str(tmp_path / "random.npz")])
    assert command.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert "lacks the regions" in error


@pytest.mark.medium
def test_the_picture_shows_points_and_tape(open_head):
    picture = anthropometry_sheet.anthropometry_sheet(open_head).astype(int)
    assert picture.shape == (anthropometry_sheet.CELL, 3 * anthropometry_sheet.CELL, 3)
    for cell in np.split(picture, 3, axis=1):
        red = (cell[..., 0] > 180) & (cell[..., 1:] < 60).all(axis=-1)
        assert red.sum() > 10 * 20  # more than ten points are seen
        assert ((cell[..., 2] > 150) & (cell[..., 0] < 90)).any()


def test_the_open_heads_people_are_as_large_and_as_different_as_surveys_found(open_head):
    rows = anthropometry_table.compare_with_surveys(open_head, 3000, seed=0, beta_std=open_head.shape_std)
    assert len({row.dimension for row in rows}) >= 12
    for row in rows:
        assert abs(row.difference) < 0.10, row.dimension
        assert 0.75 < row.deviation_ratio < 1.25, row.dimension
