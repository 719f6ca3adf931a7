"""One command for a network of a head model of one's own, on the toy head: plan, time, training, use."""

import contextlib
import dataclasses
import io
import json

import numpy as np
import pytest

from n2f_jax.cli import train as command
from n2f_jax.cli.train import main
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.face_mesh.embedding import coarse_mesh_on, face_mesh_embedding
from n2f_jax.fitting.correspondence_cache import kept_correspondence
from n2f_jax.frontends.base import Frontend, FrontendFace
from n2f_jax.geometry import landmark_crop
from n2f_jax.models.face_mesh_places import FaceMeshPlaces, places_from_arrays
from n2f_jax.models.folders import PretrainedError
from n2f_jax.models.parameters import flatten, to_dict
from n2f_jax.models.pretrained import FACE_MESH_FILE, InputSpec, from_pretrained, save_pretrained
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.training import calibrating, loop, own_network, setup
from n2f_jax.training.loop import BEST, EXIT_RESUME_ME
from n2f_jax.training.metric_log import read_json_lines
from n2f_jax.training.setup import SetupError
from tests.n2f_jax.other_head import gnm_of_true_size

from .conftest import SMALL_RUN

pytestmark = pytest.mark.medium

OF_THE_PLAN = (
    *("data.front_end_share", "stage_share", "total_steps", "optimizer.warmup_steps"),
    *("model.num_shape", "model.num_expression"),
)
# Degradations, each of which takes its time to compile; they have tests of their own.
OFF = (
    *("normal_blur", "normal_noise_deg", "mirror_shift", "mask_dilation", "mask_erosion", "bar_share"),
    *("hair_share", "lower_face_share", "occluder_share", "unmasked_share", "point_noise", "point_z_scale"),
)
TINY = {key: value for key, value in SMALL_RUN.items() if key not in OF_THE_PLAN}


@pytest.fixture(scope="module")
def places(toy_head):
    """The face mesh spread over the front of the toy head, whose frame is turned against the open head's by 5°."""
    mesh = load_coarse_mesh()
    vertices, faces = np.asarray(toy_head.v_template), np.asarray(toy_head.faces)
    middles = vertices[faces].mean(axis=1)
    front = np.flatnonzero(middles[:, 2] > 0.02)
    spread = np.ptp(middles[front, :2], axis=0) / np.ptp(mesh.reference[:, :2], axis=0)
    wanted = (mesh.reference[:, :2] - mesh.reference[:, :2].mean(axis=0)) * spread
    wanted = wanted + middles[front, :2].mean(axis=0)
    nearest = np.linalg.norm(middles[front, None, :2] - wanted[None], axis=-1).argmin(axis=0)
    turn = np.array([[1, 0, 0], [0, np.cos(0.09), -np.sin(0.09)], [0, np.sin(0.09), np.cos(0.09)]])
    return FaceMeshPlaces(
        front[nearest].astype(np.int32), np.full((468, 3), 1 / 3, np.float32), turn.astype(np.float32)
    )


def test_the_plan_says_what_is_trained(toy_head, tmp_path):
    stages = own_network.plan_stages("small", toy_head, "toy.npz", tmp_path, share=0.5)
    assert [(one.name, one.preset) for one in stages] == [
        (name, f"{name}:small") for name in ("stage1", "stage2", "correction")
    ]
    assert stages[2].settings["total_steps"] == 650
    assert stages[2].settings["init_from"] == str(tmp_path / "stage2" / "best")
    assert all(one.settings["model.num_shape"] == toy_head.num_shape for one in stages)
    paper = own_network.plan_stages(
        "paper", toy_head, "toy.npz", tmp_path, backbone_weights="dino.safetensors"
    )
    assert [one.preset for one in paper] == ["stage1:paper", "stage2:paper"]
    assert paper[0].settings["backbone_weights"] == "dino.safetensors"
    assert "total_steps" not in paper[0].settings  # the paper's own
    with pytest.raises(SetupError, match="--backbone-weights PATH"):
        own_network.plan_stages("paper", toy_head, "toy.npz", tmp_path)
    with pytest.raises(SetupError, match="above 0"):
        own_network.plan_stages("small", toy_head, "toy.npz", tmp_path, share=0.0)


@pytest.mark.parametrize(
    ("platform", "memory", "weights", "variant", "why"),
    [
        ("cpu", 0, True, "small", "no GPU"),
        ("gpu", 12e9, True, "small", "the paper's takes 28"),
        ("gpu", 60e9, False, "small", "--backbone-weights"),
        ("gpu", 60e9, True, "paper", "60 GB"),
    ],
)
def test_the_hardware_chooses_the_variant(monkeypatch, platform, memory, weights, variant, why):
    class Device:
        device_kind = "a device"

        def memory_stats(self):
            return {"bytes_limit": memory}

    Device.platform = platform
    monkeypatch.setattr(own_network.jax, "devices", lambda: [Device()])
    chosen, reason = own_network.choose_variant(weights)
    assert chosen == variant and why in reason


def test_durations_are_said_as_one_would():
    assert [own_network.duration(x) for x in (4.2, 600, 4000, 90000)] == [
        "4 s",
        "10 min",
        "1 h 07 min",
        "25 h 00 min",
    ]


def test_a_step_is_timed(small_run, toy_head):
    measured = own_network.measure_step(small_run(1), toy_head, None, steps=2)
    assert 0.0 < measured.step < 60.0 and measured.compiling > 0.0


def test_the_face_mesh_lies_on_the_model_in_its_frame(toy_head, places):
    mesh = coarse_mesh_on(places)
    np.testing.assert_array_equal(mesh.embedding_faces, places.faces)
    assert mesh.head_triangles <= toy_head.num_faces
    own = load_coarse_mesh()
    np.testing.assert_allclose(mesh.reference, own.reference @ places.rotation.T, atol=1e-6)
    assert face_mesh_embedding(toy_head) is None
    np.testing.assert_array_equal(face_mesh_embedding(toy_head, places)[0], places.faces)


def untrained(config, folder, model, places):
    """What ``train`` leaves of a stage, without its steps."""
    setup.check(config, model)
    folder.mkdir(parents=True, exist_ok=True)
    setup.save_resolved(config, folder)
    network, data = setup.model_config(config.model), setup.sampler_config(config.data)
    params = setup.params_from_run(config.init_from, network, model) if config.init_from else None
    save_pretrained(
        folder / BEST,
        params or setup.random_params(network, 0),
        network,
        head_model=model,
        inputs=InputSpec(size=network.input_size, crop_scale=data.crop_scale),
        notes={"stage": folder.name},
        face_mesh=places,
    )
    return 0


@pytest.fixture(scope="module")
def patched(places):
    """What costs minutes replaced: the correspondence, the measuring, and most kinds of input."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "laid_over", lambda model, path: (model, places))
        # One setting of one kind is enough to see that it is there.
        patch.setattr(calibrating, "SETTINGS", {"face_mesh_v2": calibrating.SETTINGS["face_mesh_v2"]})
        patch.setattr(own_network, "measure_step", lambda *_: own_network.StepTime(1.0, 0.5))
        yield patch


def arguments_of(toy_head_path, out):
    return [
        *("--head-model", str(toy_head_path), "--out", str(out)),
        *("--steps-share", "0.002", "--calibration-heads", "32"),
        *(f"--config.{key}={value}" for key, value in TINY.items()),
        *("--config.parallel.devices=1", "--config.validation.every=100", "--config.data.point_errors=v2"),
        *(f"--config.data.{name}=0" for name in OFF),
        *("--config.model.correction.num_normals=12", "--config.model.correction.num_points=12"),
    ]


@pytest.fixture(scope="module")
def trained(patched, toy_head_path, tmp_path_factory):
    """The command's arguments, and its output folder; the stages' steps are left out."""
    out = tmp_path_factory.mktemp("own") / "network"
    patched.setattr(own_network, "train", untrained)
    arguments = arguments_of(toy_head_path, out)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(arguments) == 0
    return arguments, out, said.getvalue()


def check_network(out, toy_head, places):
    saved = from_pretrained(out, toy_head)
    assert set(saved.calibration) == {"face_mesh_v2"} and saved.config.correction is not None
    assert saved.notes["stages"] == {"stage1": 9, "stage2": 2, "correction": 8}
    for name, value in places.arrays().items():
        np.testing.assert_array_equal(getattr(saved.face_mesh, name), value)


def test_one_command_ends_in_a_network(trained, toy_head, toy_head_path, places, capsys, monkeypatch):
    arguments, out, said = trained
    assert "variant: small (cpu, no GPU)" in said
    assert "stage1: 9 steps of 4 heads, 0.50 s each as measured: 6 s" in said
    assert "expected: 12 s" in said and f"--checkpoint {out} --head-model {toy_head_path}" in said
    check_network(out, toy_head, places)
    # Again: nothing is done twice.
    monkeypatch.setattr(own_network, "train", lambda *_: pytest.fail("trains again"))
    monkeypatch.setattr(own_network, "calibrations", lambda *_, **__: pytest.fail("calibrates again"))
    assert main(arguments) == 0
    assert "correction: done" in capsys.readouterr().out
    # Other settings are another network.
    assert main([*arguments, "--config.batch_size=8"]) == 2
    assert "holds a run of another config" in capsys.readouterr().err
    assert main([*arguments, "--config.batchsize=8"]) == 2
    assert "no stage has such a field" in capsys.readouterr().err


@pytest.mark.slow
def test_all_stages_are_trained(patched, toy_head_path, toy_head, places, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(own_network, "train", loop.train)
    assert main(arguments_of(toy_head_path, tmp_path / "network")) == 0
    check_network(tmp_path / "network", toy_head, places)
    rows = [
        read_json_lines(tmp_path / "network" / name / "metrics.jsonl")
        for name in ("stage1", "stage2", "correction")
    ]
    assert [max(row["step"] for row in part) for part in rows] == [9, 2, 8]
    # Each stage starts from the one before: its frozen parts are that one's.
    first, second = (
        flatten(to_dict(from_pretrained(tmp_path / "network" / name / BEST).network))
        for name in ("stage1", "stage2")
    )
    assert all(np.array_equal(first[path], second[path]) for path in first if path.startswith("backbone"))


def test_a_run_that_was_stopped_is_gone_on_with(trained, monkeypatch, capsys, tmp_path):
    arguments, out, _ = trained
    asked = []

    def stopped(config, folder, model, places):
        asked.append(folder.name)
        return EXIT_RESUME_ME

    monkeypatch.setattr(own_network, "train", stopped)
    arguments = [str(tmp_path) if argument == str(out) else argument for argument in arguments]
    assert main(arguments) == EXIT_RESUME_ME
    assert asked == ["stage1"] and not (tmp_path / "config.json").exists()


@dataclasses.dataclass
class OneFace(Frontend):
    """Sees the same face in every picture, as the free front end would."""

    face: FrontendFace
    name: str = "face_mesh"
    landmarks: str = "v2"

    def detect(self, images, sources):
        return [[self.face] for _ in images]


def test_the_network_reads_a_photograph(trained, toy_head, toy_head_path, places):
    _, out, _ = trained
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(20, 80, (68, 2)).astype(np.float32)
    normals = rng.normal(size=(32, 32, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    face = FrontendFace(
        normals=normals,
        mask=np.ones((32, 32), np.float32),
        crop=landmark_crop(landmarks, 1.4),
        landmarks_68=landmarks,
        score=1.0,
        points_468=rng.uniform(20, 80, (468, 3)).astype(np.float32),
    )
    reconstructor = Reconstructor.from_pretrained(out, toy_head, OneFace(face), refine=0, batch_size=1)
    ((head,),) = reconstructor.reconstruct([np.zeros((100, 100, 3), np.uint8)])
    assert head.shape.shape == (toy_head.num_shape,) and np.isfinite(head.vertices).all()
    # The network was trained on the model's frame, and the face mesh's normals are in the open head's.
    np.testing.assert_allclose(head.input_normals, normals @ places.rotation.T, atol=1e-6)
    assert reconstructor.maps == "face_mesh_v2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"faces": np.full(468, 10**6, np.int32)}, "faces lie outside"),
        ({"faces": np.zeros(467, np.int32)}, "faces is missing"),
        ({"barycentric": np.full((468, 3), np.nan, np.float32)}, "not finite"),
        ({"rotation": np.ones((3, 3), np.float32)}, "rotation is none"),
    ],
)
def test_damaged_places_are_refused(trained, toy_head, tmp_path, change, message):
    saved = from_pretrained(trained[1], toy_head)
    with pytest.raises(ValueError, match=message):
        places_from_arrays(saved.face_mesh.arrays() | change, toy_head.num_faces)


def test_a_missing_file_of_places_is_named(trained, toy_head, tmp_path):
    for path in trained[1].glob("*.*"):
        if path.name != FACE_MESH_FILE and path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert json.loads((tmp_path / "config.json").read_text())["face_mesh"]["file"] == FACE_MESH_FILE
    with pytest.raises(PretrainedError, match=FACE_MESH_FILE):
        from_pretrained(tmp_path, toy_head)


def test_wrong_use_is_one_line(toy_head_path, tmp_path, capsys):
    for arguments, message in (
        ([], "one of: --head-model"),
        (["--head-model", str(toy_head_path)], "--out DIR is missing"),
        (["--config", "stage1:small"], "--workdir DIR is missing"),
        (
            ["--head-model", str(toy_head_path), "--out", "x", "--config", "stage1:small"],
            "one of: --head-model",
        ),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def test_a_model_without_landmarks_cannot_be_laid_over(open_head, toy_head):
    bare = dataclasses.replace(toy_head, landmarks=None)
    with pytest.raises(ValueError, match="has no landmarks, by which one model is laid over another"):
        kept_correspondence(open_head, bare, None)


@pytest.mark.slow
def test_stage_1_takes_a_gnm_head_of_true_size(open_head, tmp_path):
    arrays, text = gnm_of_true_size(open_head)
    np.savez(tmp_path / "gnm_head.npz", **arrays)
    (tmp_path / "head_sparse_68.txt").write_text(text, encoding="utf-8")
    fields = SMALL_RUN | {
        "head_model": tmp_path,
        "model.num_shape": 253,
        "model.num_expression": 383,
        "parallel.devices": 1,
    }
    run = tmp_path / "run"
    flags = [f"--config.{key}={value}" for key, value in fields.items()]
    assert main(["--config", "stage1:small", "--workdir", str(run), *flags]) == 0
    losses = [row["loss"] for row in read_json_lines(run / "metrics.jsonl") if row["split"] == "train"]
    assert len(losses) == 12 and np.isfinite(losses).all()
    identity = from_pretrained(run / BEST).head_model
    assert (identity.num_vertices, identity.num_faces) == (17_821, 35_404)
