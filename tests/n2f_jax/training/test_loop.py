"""The loop as a whole: it learns, it freezes, it survives being killed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import flame_jax
from n2f_jax.cli.train import main
from n2f_jax.models.parameters import flatten, to_dict
from n2f_jax.models.pretrained import InputSpec, from_pretrained, save_pretrained
from n2f_jax.training import loop, setup
from n2f_jax.training.loop import EXIT_RESUME_ME, NotFiniteError, train
from n2f_jax.training.metric_log import read_json_lines
from n2f_jax.training.optimizers import build_optimizer
from n2f_jax.training.step import best_params, initial_state, make_train_step, record_best
from tests.n2f_jax.training.config_file import read_config

from .conftest import SMALL_RUN, make_objective

pytestmark = pytest.mark.medium

REPOSITORY = Path(__file__).parents[3]


def _weights(folder):
    tree = to_dict(from_pretrained(folder).network)
    return {path: np.asarray(leaf) for path, leaf in flatten(tree).items()}


def _assert_same(a, b):
    assert a.keys() == b.keys()
    for path in a:
        assert a[path].tobytes() == b[path].tobytes(), path


class Runs:
    """Runs the loop; runs of one config, but for where it starts and how it is saved, share their jitted programs.

    That takes a third of the time. A process of its own, which has to make them again, is killed and resumed below.
    """

    def __init__(self):
        self.made = {}

    def _once(self, name, make):
        def remembered(*args, **settings):
            if (self.config, name) not in self.made:
                self.made[self.config, name] = make(*args, **settings)
            return self.made[self.config, name]

        return remembered

    def __call__(self, config, workdir):
        described = config.to_dict() | {"init_from": bool(config.init_from), "save_dtype": ""}
        self.config = json.dumps(described, sort_keys=True, default=str)
        with (
            mock.patch.object(loop, "make_train_step", self._once("step", loop.make_train_step)),
            mock.patch.object(setup, "validation", self._once("validation", setup.validation)),
        ):
            return train(config, workdir)


@pytest.fixture(scope="module")
def run():
    return Runs()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_run, run):
    """Stage 1 and, from its result, stage 2, run to their ends without a break.

    The first is saved in float32, the second asked for bfloat16, which would round what it must leave alone.
    """
    root = tmp_path_factory.mktemp("runs")
    for stage in (1, 2):
        changes = {"init_from": str(root / "stage1" / "best"), "save_dtype": "bfloat16"} if stage == 2 else {}
        assert run(small_run(stage, changes), root / f"stage{stage}") == 0
    return root


def test_a_run_leaves_what_it_says(finished):
    run = finished / "stage1"
    lines = read_json_lines(run / "metrics.jsonl")
    assert [line["step"] for line in lines if line["split"] == "train"] == list(range(1, 13))
    validation = [line for line in lines if line["split"] == "validation"]
    assert [line["step"] for line in validation] == [4, 8, 12]
    assert {"loss", "face_mm", "nose_mm", "face_ratio", "landmarks_percent", "rotation_degrees"} <= set(
        validation[0]
    )
    assert all(np.isfinite(value) for line in lines for key, value in line.items() if key != "split")
    assert {"normals_degrees", "mask_iou", "shape_rms", "jaw_degrees", "eyelids_error"} <= set(validation[0])
    (events,) = (run / "tensorboard").glob("events.out.tfevents.*")
    assert events.read_bytes().count(b"validation/heads") == 3
    report = (run / "report.html").read_text()
    assert report.count("data:image/png;base64,") == 2
    assert "<th>face, mm</th>" in report and "&quot;batch_size&quot;: 4" in report
    for name in ("curves.png", "worst.png"):
        assert np.asarray(Image.open(run / name)).std() > 1.0
    resolved = json.loads((run / "config.json").read_text())
    assert resolved["batch_size"] == SMALL_RUN["batch_size"]
    assert resolved["optimizer"]["rates"]["flame"] == 1.5e-3
    # The network that is written is that of the best validation.
    notes = from_pretrained(run / "best").notes
    best = min(validation, key=lambda line: line["face_mm"])
    assert (notes["best_step"], notes["best_face_mm"]) == (best["step"], pytest.approx(best["face_mm"]))


def test_a_stage_that_starts_from_another_says_where_it_starts(finished):
    lines = read_json_lines(finished / "stage2" / "metrics.jsonl")
    validation = [line for line in lines if line["split"] == "validation"]
    assert [line["step"] for line in validation] == [0, 4, 8, 12]
    before = read_json_lines(finished / "stage1" / "metrics.jsonl")
    assert min(line["face_mm"] for line in before if line["split"] == "validation") == pytest.approx(
        validation[0]["face_mm"], rel=1e-6
    )


def test_stage_2_moves_the_camera_module_and_not_a_bit_else(finished):
    before, after = _weights(finished / "stage1" / "best"), _weights(finished / "stage2" / "best")
    frozen = [path for path in before if not path.startswith("camera/")]
    _assert_same({path: before[path] for path in frozen}, {path: after[path] for path in frozen})
    assert any((before[path] != after[path]).any() for path in before if path.startswith("camera/"))
    # It could fail: rounded, as was asked for, these would differ.
    rounded = [p for p in frozen if (before[p] != before[p].astype("bfloat16").astype("float32")).any()]
    assert len(rounded) > 10


def test_what_stage_2_leaves_alone_is_saved_in_bfloat16_where_that_loses_nothing(
    small_run, initialised, toy_head, run, tmp_path
):
    """As the checkpoint that ships is made: stage 1 saved in bfloat16, so stage 2 trains the camera of that network."""
    config, params, _ = initialised
    network = setup.model_config(config.model)
    inputs = InputSpec(size=network.input_size, crop_scale=1.4)
    save_pretrained(
        tmp_path / "one",
        params,
        network,
        head_model=toy_head,
        inputs=inputs,
        dtype=read_config(REPOSITORY / "configs/stage1.py", "small").save_dtype,
    )
    # As many steps as stage 2 above: its programs serve.
    changes = {"init_from": str(tmp_path / "one"), "save_dtype": "bfloat16"}
    assert run(small_run(2, changes), tmp_path / "run") == 0
    before, after = _weights(tmp_path / "one"), _weights(tmp_path / "run" / "best")
    frozen = [path for path in before if not path.startswith("camera/")]
    _assert_same({path: before[path] for path in frozen}, {path: after[path] for path in frozen})
    assert any((before[path] != after[path]).any() for path in before if path.startswith("camera/"))
    description = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert description["weights"]["dtype"] == "bfloat16"


def test_stage_1_leaves_the_camera_module_alone(finished, initialised):
    _, params, _ = initialised
    start = {path: np.asarray(leaf) for path, leaf in flatten(params).items()}
    after = _weights(finished / "stage1" / "best")
    camera = [path for path in start if path.startswith("camera/")]
    _assert_same({path: start[path] for path in camera}, {path: after[path] for path in camera})
    assert all((start[p] != after[p]).any() for p in start if p.startswith("flame/output"))


@pytest.fixture(scope="module")
def skipping_step(initial, toy_head):
    """A step that skips what is not finite, and the state it starts from."""
    config, params, groups = initial
    optimizer, _ = build_optimizer(config.optimizer, groups, 200)
    step = make_train_step(make_objective(config), optimizer, groups, seed=0, skip_not_finite=True)
    return step, lambda: initial_state(params, optimizer, groups), setup.build_assets(config, toy_head)


def test_a_batch_can_be_fitted(skipping_step):
    """The same batch again and again: its loss all but vanishes, which a wrong gradient or update would not do."""
    step, start, assets = skipping_step
    state = start()
    seen = []
    for _ in range(150):
        # The step's number is what the batch is drawn by; the optimiser counts for itself.
        first = jax.device_put(np.int32(0), state["step"].sharding)
        state, metrics = step(state | {"step": first}, assets)
        seen.append(metrics["loss"])
    seen = [float(loss) for loss in seen]
    assert int(state["skipped"]) == 0
    assert seen[-1] < 0.1 * seen[0]


def test_resuming_in_the_middle_gives_the_same_numbers(finished, small_run, run, tmp_path, monkeypatch):
    """Stopped by SIGTERM after any step, the run goes on to the same parameters and the same metrics file."""
    config = small_run(1)
    # Ask for the stop from inside, when five steps have been logged.

    class StopsAtFive(loop.MetricLog):
        def write(self, step, split, values):
            super().write(step, split, values)
            if step == 5 and split == "train":
                os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "MetricLog", StopsAtFive)
        assert run(config, tmp_path) == EXIT_RESUME_ME
    assert not (tmp_path / "best").exists()
    assert run(config, tmp_path) == 0
    _assert_same(_weights(tmp_path / "best"), _weights(finished / "stage1" / "best"))
    assert (tmp_path / "metrics.jsonl").read_text() == (finished / "stage1" / "metrics.jsonl").read_text()


def test_a_finished_run_started_again_only_writes_the_network(finished, small_run, tmp_path):
    """Also on fewer devices than it ran on."""
    before = (finished / "stage1" / "metrics.jsonl").read_text()
    assert train(small_run(1, {"parallel.devices": 1}), finished / "stage1") == 0
    assert (finished / "stage1" / "metrics.jsonl").read_text() == before


def test_another_config_in_the_same_folder_is_refused(finished, small_run):
    with pytest.raises(setup.SetupError, match=r"optimizer\.rates\.flame: 0\.0015 there, 0\.01 now"):
        train(small_run(1, {"optimizer.rates.flame": 1e-2}), finished / "stage1")


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(small_run, run, tmp_path, monkeypatch):
    """Parameters overflow before the third step, as after an absurd update; the error names step, terms and samples,
    and the batch is kept."""

    def stop_if_not_finite(state, *args):
        real_check(state, *args)
        if int(state["step"]) == 2:
            state["params"] = jax.tree.map(lambda leaf: leaf * np.float32(1e30), state["params"])

    real_check = loop.stop_if_not_finite
    monkeypatch.setattr(loop, "stop_if_not_finite", stop_if_not_finite)
    with pytest.raises(NotFiniteError, match=r"^step 3: not finite: .* of sample 0, 1, 2, 3 ") as error:
        run(small_run(1), tmp_path)
    (path,) = tmp_path.glob("not_finite_step_*.npz")
    assert path.name == "not_finite_step_3.npz"
    assert str(path) in str(error.value)
    with np.load(path) as kept:
        assert kept["batch/normals"].shape == (4, 32, 32, 3)
        assert np.isfinite(kept["batch/normals"]).all() and kept["batch/mask"].any()
        assert kept["batch/params/shape"].shape == (4, SMALL_RUN["model.num_shape"])
        assert not np.isfinite(kept["terms/loss"]).any()


def test_the_average_follows_the_parameters(skipping_step, initial, toy_head):
    """By hand; and it is what is validated and kept."""
    config, params, groups = initial
    optimizer, _ = build_optimizer(config.optimizer, groups, 200)
    step = make_train_step(make_objective(config), optimizer, groups, seed=0, average_decay=0.5)
    state, assets = initial_state(params, optimizer, groups, averaged=True), skipping_step[2]
    name = "flame/output/bias"
    expected = np.asarray(state["average"][name])
    for number in range(7):
        state, _ = step(state, assets)
        decay = min(0.5, (number + 1) / (number + 10))
        expected = decay * expected + (1 - decay) * np.asarray(flatten(state["params"])[name])
    np.testing.assert_allclose(state["average"][name], expected, rtol=1e-5, atol=1e-8)
    assert (flatten(state["params"])[name] != state["average"][name]).any()
    kept = flatten(best_params(record_best(state, groups, 1.0), groups))
    np.testing.assert_array_equal(kept[name], state["average"][name])


def test_a_step_that_is_not_finite_can_be_skipped(skipping_step):
    """NaN among the frozen parameters of one step: nothing moves, the step is counted, and the run goes on."""
    step, start, assets = skipping_step
    bad_assets = dataclasses.replace(
        assets, model=dataclasses.replace(assets.model, v_template=assets.model.v_template * jnp.nan)
    )
    before = {path: np.asarray(leaf) for path, leaf in flatten(start()["params"]).items()}
    state, _ = step(start(), bad_assets)
    assert (int(state["skipped"]), int(state["stopped_at"]), int(state["step"])) == (1, -1, 1)
    _assert_same({path: np.asarray(leaf) for path, leaf in flatten(state["params"]).items()}, before)
    state, metrics = step(state, assets)
    assert (int(state["skipped"]), int(state["step"])) == (1, 2)
    assert np.isfinite(float(metrics["loss"]))
    assert any((np.asarray(leaf) != before[path]).any() for path, leaf in flatten(state["params"]).items())


@pytest.mark.slow
def test_the_joint_baseline_trains_everything_by_both_losses(request, toy_head_path, tmp_path):
    config = read_config(request.config.rootpath / "configs" / "ablations" / "joint.py", "small")
    config.head_model = str(toy_head_path)
    config.update_from_flattened_dict(SMALL_RUN | {"total_steps": 4})
    assert train(config, tmp_path) == 0
    lines = [line for line in read_json_lines(tmp_path / "metrics.jsonl") if line["split"] == "train"]
    assert {"beta", "theta", "psi", "gamma", "normals", "mask", "landmarks"} <= set(lines[0])
    model = flame_jax.load_head_model(toy_head_path)
    start = {path: np.asarray(leaf) for path, leaf in flatten(setup.initial_params(config, model)).items()}
    after = _weights(tmp_path / "best")
    for part in ("backbone/patch_embedding/", "backbone/blocks/", "flame/", "camera/"):
        assert any((start[path] != after[path]).any() for path in start if path.startswith(part)), part


def _overrides(config_path, toy_head_path, **changes):
    settings = SMALL_RUN | {"head_model": str(toy_head_path)} | changes
    return [f"--config={config_path}:small", *(f"--config.{key}={value}" for key, value in settings.items())]


def _start(workdir, toy_head_path, **changes):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [
            sys.executable,
            str(REPOSITORY / "scripts" / "train.py"),
            *_overrides(REPOSITORY / "configs" / "stage1.py", toy_head_path, **changes),
            f"--workdir={workdir}",
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _kill_after(process, workdir, lines):
    """SIGKILL once the metrics file has so many lines; returns whether the run was still going."""
    path = Path(workdir) / "metrics.jsonl"
    while process.poll() is None:
        if path.is_file() and path.read_text().count("\n") >= lines:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(0.005)
    process.communicate()
    return False


def test_kill_9_then_the_same_command_ends_with_the_same_numbers(finished, toy_head_path, tmp_path):
    """A real process, killed between two checkpoints, then run to its end."""
    assert _kill_after(_start(tmp_path, toy_head_path), tmp_path, lines=6)
    assert not (tmp_path / "best").exists()
    process = _start(tmp_path, toy_head_path)
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    _assert_same(_weights(tmp_path / "best"), _weights(finished / "stage1" / "best"))
    assert (tmp_path / "metrics.jsonl").read_text() == (finished / "stage1" / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_kill_9_again_and_again(finished, toy_head_path, tmp_path):
    """Killed at another moment of its life each time, start-up and saving included, for twenty times."""
    for attempt in range(20):
        process = _start(tmp_path, toy_head_path)
        time.sleep(2.0 + 0.9 * attempt)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = _start(tmp_path, toy_head_path)
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    _assert_same(_weights(tmp_path / "best"), _weights(finished / "stage1" / "best"))
    assert (tmp_path / "metrics.jsonl").read_text() == (finished / "stage1" / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/stage1.py"], "--config.backbone_weights=PATH"),
        (["--config=configs/stage1.py:small", "--config.optimizer.ratse.flame=1"], "ratse"),
        (["--config=configs/stage1.py:smal"], "paper and small, not 'smal'"),
        (["--config=configs/stage2.py:small"], "--config.init_from=<stage 1's workdir>/best"),
        (["--config=configs/stage2.py:small", "--config.init_from=/nowhere"], "no folder /nowhere"),
    ],
)
def test_what_cannot_start_says_why(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    assert main([*arguments, f"--workdir={tmp_path / 'run'}"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and message in printed
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_devices_are_the_two_virtual_ones():
    """The runs above are compared bit by bit with subprocesses: both must see the same devices."""
    assert jax.device_count() == 2
