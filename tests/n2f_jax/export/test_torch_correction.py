"""The correction on the surface in PyTorch: JAX's numbers, and back bit for bit. Needs PyTorch."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

import flame_jax
from flame_jax.rotations import euler_to_matrix
from n2f_jax.export import torch_folder
from n2f_jax.face_mesh.embedding import places_of_correction
from n2f_jax.geometry.camera import Camera, frontal_rotation, project_camera_points, to_camera
from n2f_jax.geometry.pose import align_camera
from n2f_jax.models.calibration import Calibration
from n2f_jax.models.correction import CorrectionConfig, Scene
from n2f_jax.models.folders import MissingPretrainedError, PretrainedError
from n2f_jax.models.n2fnet import N2FNet, camera_from_output, n2fnet_config
from n2f_jax.models.parameters import from_dict, functional, map_with_path, to_dict
from n2f_jax.models.pretrained import HeadModelIdentity, InputSpec, Pretrained, save_pretrained
from tests.n2f_jax.export.test_torch_folder import assert_same_parameters, random_pretrained
from tests.n2f_jax.export.test_torch_n2fnet import (
    BLOCKED,
    FIELDS,
    TOLERANCE,
    inputs,
    mesh_points,
    relative_error,
)

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.medium

SIZE, BATCH = 64, 4
SMALL = CorrectionConfig(passes=2, num_normals=24, num_points=16, width=32, blocks=1)


def random_calibration(unknowns: int) -> dict[str, Calibration]:
    rng = np.random.default_rng(3)
    shapes = ((unknowns,), (unknowns, unknowns), (unknowns, unknowns))
    return {"normals": Calibration(*(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes))}


@pytest.fixture(scope="module")
def pretrained(open_head) -> Pretrained:
    """Answers near the mean head in the middle of the crop; corrections of a few millimetres and degrees."""
    config = n2fnet_config("tiny", width=64, depth=1, num_heads=1, mlp_width=64, input_size=SIZE)
    config = dataclasses.replace(config, correction=SMALL)
    network = N2FNet(config, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(1)

    def draw(path, leaf):  # the last layers start at zero, and so do biases
        scale = 0.004 if "output" in path and "attention" not in path else 0.05
        return jnp.asarray(leaf) + jnp.asarray(rng.normal(scale=scale, size=leaf.shape), jnp.float32)

    tree = map_with_path(draw, to_dict(network))
    return Pretrained(
        from_dict(nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0))), tree),
        config,
        InputSpec(size=SIZE, crop_scale=1.4),
        HeadModelIdentity.of(open_head),
        {"steps": 3},
        random_calibration(config.num_shape + config.num_expression + 5),
    )


@pytest.fixture(scope="module")
def folder(pretrained, open_head, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "torch"
    return torch_folder.write_torch_folder(folder, pretrained, open_head, "net7")


@pytest.fixture(scope="module")
def crops():
    arrays = inputs(SIZE, batch=2)
    return tuple(np.concatenate([x, x[::-1]]) for x in arrays)


@pytest.fixture(scope="module")
def points(open_head, crops):
    """Of turned heads: all known; half of them; two of those that are looked at; none."""
    _, _, focal, centre = crops
    angles = [[0.1, 0.3, 0.0], [0.0, -0.4, 0.1], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    found = mesh_points(open_head, angles, focal, centre, SIZE)
    numbers = np.asarray(places_of_correction(open_head, SMALL).numbers)
    found[1, np.random.default_rng(4).permutation(468)[:234]] = np.nan
    found[2, np.setdiff1d(np.arange(468), numbers[:2])] = np.nan
    found[3] = np.nan
    return found


def of_jax(pretrained, open_head, crops, points):
    normals, mask, focal, centre = (jnp.asarray(x) for x in crops)
    apply, params = functional(pretrained.network)

    @jax.jit
    def answer(params, model, places):
        output = apply(params, normals, mask, Scene.of_crops(places, focal, centre, points))
        camera = camera_from_output(output, focal, centre, SIZE)
        vertices, _ = flame_jax.decode(model, output.flame_params())
        return output, camera, vertices

    output, camera, vertices = answer(params, open_head, places_of_correction(open_head, SMALL))
    expected = {name: getattr(output, name) for name in FIELDS}
    expected |= {"rotation": camera.rotation, "translation": camera.translation, "vertices": vertices}
    return expected, output.earlier[0]


def for_torch(crops, points=None):
    normals, *rest = crops
    arrays = [normals.transpose(0, 3, 1, 2).copy(), *rest, *([] if points is None else [points])]
    return [torch.from_numpy(np.ascontiguousarray(x)) for x in arrays]


@pytest.mark.parametrize("known", [True, False])
def test_the_numbers_are_those_of_jax(pretrained, folder, open_head, crops, points, known):
    from n2f_jax.export.torch_n2fnet import load

    given = points if known else None
    expected, first = of_jax(pretrained, open_head, crops, given)
    network = load(folder)
    with torch.inference_mode():
        found = network(*for_torch(crops, given))
        plain = network(*for_torch(crops)[:2])
    errors = {name: relative_error(getattr(found, name), value) for name, value in expected.items()}
    print(", ".join(f"{name} {error:.1e}" for name, error in errors.items()))
    assert all(error <= TOLERANCE for error in errors.values()), errors  # false of NaN, too
    # Without intrinsics nothing is corrected; and a correction is something.
    assert relative_error(plain.shape, first.shape) <= TOLERANCE and plain.translation is None
    assert np.abs(expected["shape"] - first.shape).max(axis=1).min() > 0.02
    moved = np.abs(expected["rotation"] - np.asarray(plain.rotation)).max(axis=(1, 2))
    assert moved.min() > 1e-3 and (not known or moved[:2].min() > 0.1)


def test_unknown_points_are_as_none(folder, crops, points):
    from n2f_jax.export.torch_n2fnet import load

    network = load(folder)
    with torch.inference_mode():
        without = network(*for_torch(crops))
        unknown = network(*for_torch(crops, np.full_like(points, np.nan)))
    assert all(torch.equal(a, b) for a, b in zip(without, unknown, strict=True))


@pytest.mark.parametrize("start", [0.0, 2.5])
def test_cameras_are_aligned_as_in_jax(open_head, start):
    """From a start nearby, and from one that is so far off that the other start wins; and on too few points."""
    from n2f_jax.export import torch_correction

    rng = np.random.default_rng(0)
    heads = np.asarray(open_head.v_template)[rng.permutation(3000)[:20]]
    heads = np.repeat(heads[None], 3, axis=0)
    turns = frontal_rotation(euler_to_matrix(jnp.asarray(rng.normal(scale=0.3, size=(3, 3)), jnp.float32)))
    at = [jnp.asarray(x, jnp.float32) for x in ([[0.0, 0.01, 0.6]] * 3, [200.0] * 3, [[32.0, 30.0]] * 3)]
    truth = Camera(turns, *at)
    targets = np.asarray(project_camera_points(to_camera(heads, truth), truth))
    targets = (targets + rng.normal(scale=0.3, size=targets.shape)).astype(np.float32)
    weights = (rng.uniform(size=(3, 20)) > 0.3).astype(np.float32)
    weights[2, 2:] = 0.0
    turned = euler_to_matrix(jnp.asarray([[0.1, start, 0.1]] * 3, jnp.float32)) @ turns
    camera = dataclasses.replace(truth, rotation=turned, translation=truth.translation * 1.1)
    expected = jax.jit(jax.vmap(align_camera))(heads, targets, camera, weights)
    fields = [np.array(getattr(camera, field.name)) for field in dataclasses.fields(camera)]
    found = torch_correction.align_camera(
        torch.from_numpy(heads),
        torch.from_numpy(targets),
        torch_correction.Camera(*map(torch.from_numpy, fields)),
        torch.from_numpy(weights),
    )
    np.testing.assert_allclose(found.rotation, expected.rotation, atol=TOLERANCE)
    np.testing.assert_allclose(found.translation, expected.translation, atol=TOLERANCE)
    np.testing.assert_allclose(found.rotation[:2], turns[:2], atol=0.1)
    np.testing.assert_array_equal(found.rotation[2], turned[2])


def test_there_and_back_is_bit_identical(pretrained, folder, open_head, tmp_path):
    """Calibration and all: the same files as ``save_pretrained`` writes of the network itself."""
    torch_folder.save_back(folder, tmp_path / "back")
    save_pretrained(
        tmp_path / "direct",
        pretrained.network,
        pretrained.config,
        head_model=open_head,
        inputs=pretrained.inputs,
        notes=pretrained.notes,
        calibration=pretrained.calibration,
    )
    names = sorted(path.name for path in (tmp_path / "direct").iterdir())
    assert names == ["calibration.safetensors", "config.json", "model.safetensors"]
    for name in names:
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "direct" / name).read_bytes(), name


def test_trained_further_it_comes_back_without_its_calibration(
    pretrained, folder, open_head, crops, points, tmp_path
):
    from n2f_jax.export.torch_n2fnet import load, save

    torch_folder.write_torch_folder(tmp_path, pretrained)
    network = load(tmp_path)
    save(network, tmp_path)
    assert torch_folder.read_torch_folder(tmp_path).calibration.keys() == {"normals"}
    network(*for_torch(crops, points)).shape.square().sum().backward()
    part = network.correction.point_tokens.place
    assert part.grad.abs().max() > 0 and network.backbone.norm.weight.grad.isfinite().all()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    save(network, tmp_path)
    back = torch_folder.read_torch_folder(tmp_path)
    np.testing.assert_array_equal(back.network.correction.point_tokens.place[...], part.detach().numpy())
    assert not back.calibration


def test_a_missing_calibration_is_a_missing_file(tmp_path, pretrained, open_head):
    """One error class and one name of the file, as for checkpoints of ours."""
    torch_folder.write_torch_folder(tmp_path, pretrained, open_head)
    path = tmp_path / "calibration.safetensors"
    path.unlink()
    with pytest.raises(MissingPretrainedError) as caught:
        torch_folder.read_torch_folder(tmp_path)
    assert str(caught.value).count(str(path)) == 1


def test_it_runs_where_only_torch_is(folder):
    program = f"{BLOCKED}\nsys.path.insert(0, '.')\nimport torch\nfrom torch_n2fnet import load\n" + (
        f"n, m = torch.zeros(1, 3, {SIZE}, {SIZE}), torch.ones(1, {SIZE}, {SIZE})\n"
        "p = load('.')(n, m, torch.tensor([200.0]), torch.tensor([[32.0, 32.0]]), torch.ones(1, 468, 3))\n"
        "print(tuple(p.shape.shape), 'jax' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == "False"


def test_card_says_how_to_call_it_with_points(folder):
    card = (folder / "README.md").read_text()
    for text in ("24 places", "(B, 468, 3)", "principal_point, points)", "`surface_places.safetensors`"):
        assert text in card


def test_without_a_correction_nothing_is_added(open_head, tmp_path):
    from n2f_jax.export.torch_n2fnet import load

    plain = random_pretrained(open_head)
    torch_folder.write_torch_folder(tmp_path, plain)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors", "torch_n2fnet.py"]
    assert json.loads((tmp_path / "config.json").read_text()).keys().isdisjoint({"places", "calibration"})
    assert not any("correction" in key for key in load_file(tmp_path / "model.safetensors"))
    assert "points" not in (tmp_path / "README.md").read_text()
    assert_same_parameters(torch_folder.read_torch_folder(tmp_path).network, plain.network)
    with pytest.raises(ValueError, match="points need a network with a correction"):
        load(tmp_path)(torch.zeros(1, 3, 32, 32), torch.ones(1, 32, 32), points=torch.zeros(1, 468, 3))


def test_the_head_model_is_asked_for(pretrained, tmp_path):
    other = dataclasses.replace(pretrained.head_model, name="flame2020", sha256={})
    with pytest.raises(PretrainedError, match="surface of 'flame2020': this head model is needed"):
        torch_folder.write_torch_folder(tmp_path, dataclasses.replace(pretrained, head_model=other))


def test_wrong_points_are_refused(folder, crops):
    from n2f_jax.export.torch_n2fnet import load

    with pytest.raises(ValueError, match=r"\(4, 468, 2\); \(B, 468, 3\)"):
        load(folder)(*for_torch(crops, np.zeros((4, 468, 2), np.float32)))


@pytest.mark.slow
def test_onnx(folder, crops, points, tmp_path):
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    onnxruntime = pytest.importorskip("onnxruntime")
    from n2f_jax.export.torch_n2fnet import load
    from n2f_jax.export.torch_onnx import input_names, output_names, write_onnx

    network = load(folder)
    path = write_onnx(tmp_path / "model.onnx", network, SIZE)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [x.name for x in session.get_inputs()] == input_names(network)
    for count, given in ((1, points), (4, points), (4, np.full_like(points, np.nan))):
        tensors = [x[:count] for x in for_torch(crops, given)]
        with torch.inference_mode():
            expected = network(*tensors)
        feed = {name: x.numpy() for name, x in zip(input_names(network), tensors, strict=True)}
        got = dict(zip(output_names(network), session.run(None, feed), strict=True))
        scales = {name: float(getattr(expected, name).abs().max()) for name in got}
        if count == 1:  # a single crop may have its eyes open: eyelids of about nothing
            scales["eyelids"] = 1.0
        errors = {
            name: float(np.abs(value - getattr(expected, name).numpy()).max()) / scales[name]
            for name, value in got.items()
        }
        print(count, scales["eyelids"], errors)
        assert all(error <= TOLERANCE for error in errors.values()), errors
