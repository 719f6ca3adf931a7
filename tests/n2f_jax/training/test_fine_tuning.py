"""Training on stored faces: the same loop, fed from disk."""

import signal
from pathlib import Path

import numpy as np
import pytest

from n2f_jax.data.preprocessed import list_faces, read_face
from n2f_jax.data.pseudo_truth import PseudoTruth, truth_path, write_truth
from n2f_jax.data.pts import write_pts
from n2f_jax.models.parameters import flatten, to_dict
from n2f_jax.models.pretrained import HeadModelIdentity, from_pretrained, save_pretrained
from n2f_jax.training import loop, setup
from n2f_jax.training.loop import EXIT_RESUME_ME, train
from n2f_jax.training.metric_log import read_json_lines
from n2f_jax.training.optimizers import build_optimizer
from n2f_jax.training.parallel import Layout
from n2f_jax.training.setup import SetupError
from n2f_jax.training.step import initial_state, make_train_step
from tests.n2f_jax.training.config_file import read_config

from ..data.stored import random_face, write_folder
from .conftest import NUM_EXPRESSION, NUM_SHAPE, SMALL_RUN, make_objective

pytestmark = pytest.mark.medium

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def faces(tmp_path_factory, toy_head):
    """Twelve images, a face each, with pseudo ground truth; and a folder of .pts files like the images'."""
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(5)
    landmarks = np.stack(np.meshgrid(np.linspace(8, 32, 17), np.linspace(8, 32, 4)), axis=-1).reshape(68, 2)
    keys = {
        f"images/{i}.jpg": [
            random_face(i, landmarks_68=landmarks.astype(np.float32), crop=np.array([0.0, 0.0, 40.0]))
        ]
        for i in range(12)
    }
    ids = write_folder(root / "stored", keys)
    for (name,) in ids.values():
        truth = PseudoTruth(
            shape=rng.normal(size=NUM_SHAPE).astype(np.float32),
            expression=rng.normal(size=NUM_EXPRESSION).astype(np.float32),
            jaw=np.array([1, 0, 0, 0, 1, 0], np.float32),
            eyelids=np.zeros(2, np.float32),
            rotation=np.diag([1.0, -1.0, -1.0]).astype(np.float32),
            translation=np.array([0, 0, 1], np.float32),
            intrinsics=np.array([[48, 0, 20], [0, 48, 20], [0, 0, 1]], np.float32),
            head_model=HeadModelIdentity.of(toy_head),
            method="made up",
            version="0",
        )
        write_truth(truth_path(root / "stored", name), truth)
    (root / "images").mkdir()
    for key in keys:
        write_pts((root / key).with_suffix(".pts"), landmarks + 0.5)
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory, toy_head, toy_head_path, request):
    """A saved network to start from."""
    config = read_config(request.config.rootpath / "configs/stage1.py", "small")
    config.head_model = str(toy_head_path)
    config.update_from_flattened_dict(SMALL_RUN)
    folder = tmp_path_factory.mktemp("start") / "best"
    network = setup.model_config(config.model)
    params = setup.initial_params(config, toy_head)
    save_pretrained(
        folder,
        params,
        network,
        head_model=toy_head,
        inputs=loop.InputSpec(size=network.input_size, crop_scale=1.4),
        notes={},
        dtype="float32",
    )
    return folder


@pytest.fixture
def fine_tuning(request, faces, start, toy_head_path):
    """``fine_tuning(stage, **changes)``: the small fine-tuning config, shrunk to the toy head and its faces."""

    def make(stage, changes=None):
        config = read_config(request.config.rootpath / f"configs/finetune_stage{stage}.py", "small")
        config.head_model = str(toy_head_path)
        own = {
            "init_from": str(start),
            "stored.folder": str(faces / "stored"),
            "stored.annotations": str(faces / "images") if stage == 2 else "",
            "stored.part": "all",
            "stored.validation_part": "all",
            "total_steps": 6,
            "validation.every": 3,
        }
        config.update_from_flattened_dict(SMALL_RUN | own | (changes or {}))
        return config

    return make


def _weights(folder):
    return {
        path: np.asarray(leaf) for path, leaf in flatten(to_dict(from_pretrained(folder).network)).items()
    }


def _long_enough(fine_tuning):
    config = fine_tuning(1, {"total_steps": 12, "optimizer.warmup_steps": 1, "save_dtype": "float32"})
    config.optimizer.rates = {name: 3e-3 for name in config.optimizer.rates}
    return config


def test_stage_1_learns_from_pseudo_ground_truth(fine_tuning, start, tmp_path):
    assert train(_long_enough(fine_tuning), tmp_path / "run") == 0
    lines = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    validation = [line for line in lines if line["split"] == "validation"]
    losses = [line["loss"] for line in validation]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.96 * losses[0]
    assert {"face_mm", "shape_rms", "landmarks_percent", "mask_iou"} <= set(validation[0])
    assert "data:image/png;base64" in (tmp_path / "run" / "report.html").read_text()
    before, after = _weights(start), _weights(tmp_path / "run" / "best")
    assert all((before[path] == after[path]).all() for path in after if path.startswith("camera/"))


@pytest.mark.slow
def test_it_resumes_to_the_same_numbers(fine_tuning, tmp_path, monkeypatch):
    config = _long_enough(fine_tuning)
    assert train(config, tmp_path / "whole") == 0
    write = loop.MetricLog.write

    def write_and_ask_to_stop(self, step, split, values):
        write(self, step, split, values)
        if step == 5:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop.MetricLog, "write", write_and_ask_to_stop)
    assert train(config, tmp_path / "parts") == EXIT_RESUME_ME
    monkeypatch.setattr(loop.MetricLog, "write", write)
    assert read_json_lines(tmp_path / "parts" / "metrics.jsonl")[-1]["step"] == 5
    assert train(config, tmp_path / "parts") == 0
    one, two = _weights(tmp_path / "whole" / "best"), _weights(tmp_path / "parts" / "best")
    assert all(one[path].tobytes() == two[path].tobytes() for path in one)
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "parts/metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_stage_2_learns_from_annotated_landmarks(fine_tuning, start, tmp_path):
    config = fine_tuning(2, {"optimizer.warmup_steps": 1, "save_dtype": "float32"})
    assert config.loss.lambda_lmk == 10_000.0
    assert train(config, tmp_path / "run") == 0
    lines = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    validation = [line for line in lines if line["split"] == "validation"]
    assert validation[-1]["landmarks"] < validation[0]["landmarks"]
    assert "face_mm" not in validation[0]  # no head is known
    before, after = _weights(start), _weights(tmp_path / "run" / "best")
    moved = {path.split("/")[0] for path in before if (before[path] != after[path]).any()}
    assert moved == {"camera"}


@pytest.mark.slow
def test_two_devices_share_a_stored_batch(fine_tuning, toy_head):
    """Two devices, two accumulation steps: one device's gradient."""
    from n2f_jax.training.optimizers import assign_groups

    config = fine_tuning(1)
    config.optimizer.name, config.optimizer.rates = "adam", {name: 1e-3 for name in config.optimizer.rates}
    params = setup.initial_params(config, toy_head)
    groups = assign_groups([tuple(row) for row in config.optimizer.groups], list(flatten(params)))
    stored = setup.stored_faces(config, toy_head)
    results = []
    for layout, turns in ((Layout.of_devices(1), 1), (Layout.of_devices(2), 2)):
        optimizer, _ = build_optimizer(config.optimizer, groups, 20)
        step = make_train_step(
            make_objective(config), optimizer, groups, seed=0, layout=layout, accumulation_steps=turns
        )
        state = initial_state(params, optimizer, groups, layout)
        assets = layout.place(setup.build_assets(config, toy_head))
        feed = stored.feed(0, layout)
        for _ in range(2):
            state, metrics = step(state, assets, next(feed))
        results.append((flatten(state["params"]), float(metrics["loss"])))
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)
    for path, leaf in results[0][0].items():
        np.testing.assert_allclose(leaf, results[1][0][path], rtol=1e-4, atol=2e-5, err_msg=path)


def test_what_is_trained_on_is_what_is_stored(fine_tuning, faces, toy_head):
    """A batch's maps are those of a stored face of the folder, at the network's crop."""
    config = fine_tuning(1)
    stored = setup.stored_faces(config, toy_head)
    batch = stored.pipeline.batch_at(0)
    size = config.model.input_size
    assert batch["normals"].shape == (4, size, size, 3)
    tilts = [read_face(faces / "stored" / f"{name}.face.zip") for name in list_faces(faces / "stored")]
    # Landmarks span 24 of the stored 40 pixels; 1.4 times that is the crop, whose middle is the stored one's.
    middle = np.stack([face.normals[20, 20] for face in tilts])
    for normals in batch["normals"]:
        nearest = np.abs(middle - normals[size // 2, size // 2]).max(axis=-1).min()
        assert nearest < 0.05
    np.testing.assert_allclose(batch["landmarks_2d"][0].min(axis=0), size * 0.2 / 1.4, atol=1e-3)


@pytest.mark.parametrize("stage", [1, 2])
def test_stored_maps_are_turned_into_the_head_models_frame(fine_tuning, toy_head, monkeypatch, stage):
    config, turn, asked = fine_tuning(stage), np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], np.float32), []
    plain = setup.stored_faces(config, toy_head)
    monkeypatch.setattr(setup, "map_rotations", lambda *about: asked.append(about) or {"made up": turn})
    turned = setup.stored_faces(config, toy_head, "places")
    assert asked == [(toy_head, "places")]
    for a, b in (
        (plain.pipeline.batch_at(0), turned.pipeline.batch_at(0)),
        (plain.validation[0], turned.validation[0]),
    ):
        np.testing.assert_allclose(a["normals"] @ turn.T, b["normals"], atol=1e-6)
        assert np.abs(a["normals"] - b["normals"]).max() > 0.5


def test_what_is_compared_with_photographs_has_the_jaw_line_that_is_seen(fine_tuning, small_run):
    assert [setup.objective(fine_tuning(stage)).contour for stage in (1, 2)] == ["dynamic"] * 2
    assert [setup.objective(small_run(stage)).contour for stage in (1, 2)] == ["static"] * 2


def test_stage_2_holds_faces_out_of_what_it_trains_on(fine_tuning, toy_head, monkeypatch):
    """Of the parts that the config itself names."""
    config = fine_tuning(2, {"stored.part": "own-train", "stored.validation_part": "own-validation"})
    own = read_config(REPOSITORY / "configs/finetune_stage2.py", "small").stored
    assert (own.part, own.validation_part) == (config.stored.part, config.stored.validation_part)
    trained = []
    monkeypatch.setattr(setup, "make_pipeline", lambda dataset, *_: trained.append(dataset))
    trained.append(setup.stored_faces(config, toy_head).validation)
    faces = [{part.id(i) for i in range(len(part))} for part in trained]
    assert [len(found) for found in faces] == [11, 1] and not faces[0] & faces[1]
    # The paper's: no test part of 300W chooses the network.
    paper = read_config(REPOSITORY / "configs/finetune_stage2.py", "paper").stored
    assert (paper.part, paper.validation_part) == ("train", "validation")


def test_missing_folders_are_named(fine_tuning, toy_head, tmp_path):
    with pytest.raises(SetupError, match=r"--config\.stored\.folder"):
        setup.stored_faces(fine_tuning(1, {"stored.folder": ""}), toy_head)
    with pytest.raises(SetupError, match=r"preprocess\.py"):
        setup.stored_faces(fine_tuning(1, {"stored.folder": str(tmp_path)}), toy_head)
    with pytest.raises(SetupError, match="no face"):
        setup.stored_faces(fine_tuning(2, {"stored.annotations": str(tmp_path)}), toy_head)
