"""The PyTorch module against the JAX network, alone where it runs. Needs PyTorch (``pip install .[torch]``)."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flame_jax
from flame_jax import HeadModel
from flame_jax.loading import head_model_from_arrays
from flame_jax.rotations import euler_to_matrix
from n2f_jax.export import torch_folder
from n2f_jax.face_mesh.embedding import face_mesh_embedding, places_of_correction
from n2f_jax.geometry.camera import Camera, frontal_rotation, project_camera_points, to_camera
from n2f_jax.models.correction import Scene
from n2f_jax.models.n2fnet import N2FNet, camera_from_output, n2fnet_config
from n2f_jax.models.parameters import flatten, from_dict, functional, map_with_path, to_dict
from n2f_jax.models.pretrained import HeadModelIdentity, InputSpec, Pretrained, from_pretrained
from n2f_jax.reconstruction.reconstructor import DEFAULT_CHECKPOINT
from tests.flame_jax.random_model import random_arrays
from tests.n2f_jax.export.test_torch_folder import CONFIGS, random_pretrained

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
FIELDS = ("shape", "expression", "jaw", "eyelids", "camera_rotation_6d", "camera_position")


def relative_error(actual, expected) -> float:
    actual, expected = np.asarray(actual), np.asarray(expected)
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def inputs(size: int, channels: int = 3, batch: int = 2):
    rng = np.random.default_rng(5)
    normals = rng.normal(size=(batch, size, size, channels)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    mask = (rng.uniform(size=(batch, size, size)) > 0.3).astype(np.float32)
    focal = np.array([3.5 * size, 5.0 * size][:batch], np.float32)
    centre = np.array([[0.4, 0.6], [1.5, -0.2]][:batch], np.float32) * size
    return normals, mask, focal, centre


def smooth_inputs(size: int):
    """An egg's normals. A correction reads maps between pixels, so white noise makes float32's last digits large: on it
    either framework is 1e-4 to 4e-4 from float64."""
    _, _, focal, centre = inputs(size)
    y, x = np.meshgrid(*[(np.arange(size) + 0.5) / size * 2 - 1] * 2, indexing="ij")
    x, y = x / 0.62, y / 0.8
    mask = x**2 + y**2 < 0.98
    normals = np.stack([x, -y, np.sqrt(1 - np.minimum(x**2 + y**2, 0.98))], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return *(np.stack([x, x]).astype(np.float32) for x in (normals, mask)), focal, centre


def mesh_points(head_model: HeadModel, angles, focal, centre, size: int) -> np.ndarray:
    """Where the points of mean heads in the middle of crops would be found, half a pixel off; Euler angles, radians."""
    metres_per_pixel = 0.21 / size
    position = np.concatenate([size / 2 - centre, focal[:, None]], axis=1) * np.float32(metres_per_pixel)
    turns = frontal_rotation(euler_to_matrix(jnp.asarray(angles, jnp.float32)))
    camera = Camera(turns, jnp.asarray(position), jnp.asarray(focal), jnp.asarray(centre))
    embedding = face_mesh_embedding(head_model)
    on_head = flame_jax.points_on_mesh(head_model.v_template[None], head_model.faces, *embedding)
    in_camera = to_camera(on_head, camera)
    depth = in_camera[..., 2:] / metres_per_pixel
    points = np.concatenate([project_camera_points(in_camera, camera), depth], axis=-1)
    noise = np.random.default_rng(2).normal(scale=0.5, size=points.shape)
    return (points + noise).astype(np.float32)


def check_same(pretrained, network, head_model, arrays, points=None) -> None:
    """Parameters, camera and vertices of both, each to ``TOLERANCE`` of its largest value."""
    normals, mask, focal, centre = arrays
    places = None if head_model is None else places_of_correction(head_model, pretrained.config.correction)
    apply, params = functional(pretrained.network)
    size = normals.shape[1]

    @jax.jit
    def ours(params, model, places):
        scene = Scene.of_crops(places, jnp.asarray(focal), jnp.asarray(centre), points)
        output = apply(params, normals, mask, scene)
        camera = camera_from_output(output, jnp.asarray(focal), jnp.asarray(centre), size)
        vertices = None if model is None else flame_jax.decode(model, output.flame_params())[0]
        return output, camera, vertices

    output, camera, vertices = ours(params, head_model, places)
    with torch.inference_mode():
        theirs = network(
            torch.from_numpy(normals.transpose(0, 3, 1, 2).copy()),
            *(torch.from_numpy(x) for x in (mask, focal, centre)),
            points=None if points is None else torch.from_numpy(points),
        )
    errors = {name: relative_error(getattr(theirs, name), getattr(output, name)) for name in FIELDS}
    errors["rotation"] = relative_error(theirs.rotation, camera.rotation)
    errors["translation"] = relative_error(theirs.translation, camera.translation)
    if vertices is None:
        assert theirs.vertices is None
    else:
        errors["vertices"] = relative_error(theirs.vertices, vertices)
    print(", ".join(f"{name} {error:.1e}" for name, error in errors.items()))
    assert all(error <= TOLERANCE for error in errors.values()), errors  # false of NaN, too


def export(folder, pretrained, head_model):
    from n2f_jax.export.torch_n2fnet import load

    return load(torch_folder.write_torch_folder(folder, pretrained, head_model))


@pytest.mark.parametrize("known", [False, True])
def test_shipped_checkpoint(tmp_path, open_head, known):
    pretrained = from_pretrained(DEFAULT_CHECKPOINT, open_head)
    arrays = smooth_inputs(128)
    points = mesh_points(open_head, [[0.1, 0.3, 0.0], [0.0, -0.4, 0.1]], *arrays[2:], 128) if known else None
    check_same(pretrained, export(tmp_path, pretrained, open_head), open_head, arrays, points)


def vit_l(head_model) -> Pretrained:
    """The paper's network, random where training would leave nothing zero."""
    config = n2fnet_config("L")
    module = nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path.endswith("periods"):
            return jnp.asarray(100.0 ** (np.arange(leaf.size) / leaf.size), jnp.float32)
        scale = (leaf.size // leaf.shape[-1]) ** -0.5 if path.endswith("kernel") else 0.3
        value = rng.standard_normal(leaf.shape, np.float32) * np.float32(scale)
        return jnp.asarray(value + np.float32(path.endswith(("scale", "gamma"))))

    tree = map_with_path(draw, to_dict(module))
    identity = HeadModelIdentity.of(head_model)
    return Pretrained(from_dict(module, tree), config, InputSpec(size=256, crop_scale=1.4), identity, {})


def test_vit_l(tmp_path, open_head):
    pretrained = vit_l(open_head)
    network = export(tmp_path, pretrained, open_head)
    check_same(pretrained, network, open_head, inputs(256, batch=1))
    del network
    back = torch_folder.read_torch_folder(tmp_path)
    before, after = flatten(to_dict(pretrained.network)), flatten(to_dict(back.network))
    assert all(np.array_equal(before[path], after[path]) for path in before)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_branch(tmp_path, open_head, name):
    changes = CONFIGS[name] | {"camera_parameterization": "translation" if "post" in name else "uvs"}
    pretrained = random_pretrained(open_head, **changes)
    check_same(pretrained, export(tmp_path, pretrained, None), None, inputs(32))


def test_head_model_with_pose_correctives():
    """The open head has none; a random model of FLAME's format has, and its jaw turns."""
    from n2f_jax.export.torch_n2fnet import HeadModel

    model = head_model_from_arrays(random_arrays(), "random")
    arrays = {name: torch.tensor(x) for name, x in torch_folder.head_model_arrays(model).items()}
    rng = np.random.default_rng(2)
    params = flame_jax.FlameParams.neutral(model, (3,))
    values = {
        "shape": rng.normal(size=(3, model.num_shape)),
        "expression": rng.normal(size=(3, model.num_expression)),
        "jaw": rng.normal(size=(3, 6)),
        "eyelids": rng.uniform(size=(3, 2)),
    }
    values = {name: value.astype(np.float32) for name, value in values.items()}
    params = flame_jax.FlameParams(**values, neck=params.neck, eyes=params.eyes)
    expected, _ = flame_jax.decode(model, params)
    actual = HeadModel(arrays)(*(torch.from_numpy(value) for value in values.values()))
    assert relative_error(actual, expected) <= 1e-5


@pytest.mark.parametrize(
    "rows", [[0, 0, 0, 0, 1, 0], [1, 0, 0, 2, 0, 0], [0.6, 0, 0.8, 0, 0, 0], [3, 1, 0.2, -1, 4, 0.5]]
)
def test_rotations_of_every_input(rows):
    from n2f_jax.export.torch_n2fnet import rotation_6d_to_matrix

    expected = flame_jax.rotations.rotation_6d_to_matrix(jnp.asarray(rows, jnp.float32))
    actual = rotation_6d_to_matrix(torch.tensor(rows, dtype=torch.float32))
    np.testing.assert_allclose(actual, expected, atol=1e-6)


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        allowed = ("n2f_jax", "n2f_jax.export", "n2f_jax.export.torch_n2fnet")
        if top in ("jax", "jaxlib", "flax", "flame_jax", "orbax", "trimesh", "cv2", "jaxtyping", "optax") or (
            top == "n2f_jax" and name not in allowed
        ):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
"""
RUN = """
import torch
network = load(sys.argv[1])
with torch.inference_mode():
    p = network(torch.zeros(1, 3, 32, 32), torch.ones(1, 32, 32), torch.tensor([90.0]), torch.tensor([[16.0, 16.0]]))
print(tuple(p.vertices.shape), tuple(p.translation.shape), "jax" in sys.modules)
"""


@pytest.mark.parametrize("where", ["package", "folder"])
def test_runs_where_only_torch_is(tmp_path, open_head, where):
    torch_folder.write_torch_folder(tmp_path, random_pretrained(open_head), open_head)
    module = "n2f_jax.export.torch_n2fnet" if where == "package" else "torch_n2fnet"
    path = str(Path(torch_folder.__file__).parents[2]) if where == "package" else str(tmp_path)
    program = BLOCKED + f"sys.path.insert(0, {path!r})\nfrom {module} import load\n" + RUN
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[0] == f"(1, {open_head.num_vertices}, 3) (1, 3) False"


def test_what_is_wrong_with_a_folder_is_said(tmp_path, open_head):
    from n2f_jax.export.torch_n2fnet import FolderError, load

    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load(tmp_path)
    torch_folder.write_torch_folder(tmp_path, random_pretrained(open_head))
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-40])
    with pytest.raises(FolderError, match="truncated or damaged"):
        load(tmp_path)
    weights.write_bytes(whole)
    (tmp_path / "config.json").write_text('{"format": "something else"}')
    with pytest.raises(FolderError, match="does not describe"):
        load(tmp_path)


def test_trained_further_in_pytorch_comes_back(tmp_path, open_head):
    from n2f_jax.export.torch_n2fnet import save

    network = export(tmp_path, random_pretrained(open_head), open_head)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    before = network.flame.output.weight.detach().clone()
    network(torch.ones(1, 3, 32, 32), torch.ones(1, 32, 32)).vertices.square().sum().backward()
    optimizer.step()
    save(network, tmp_path)
    back = flatten(to_dict(torch_folder.read_torch_folder(tmp_path).network))
    assert not torch.equal(before, network.flame.output.weight)
    np.testing.assert_array_equal(back["flame/output/kernel"], network.flame.output.weight.detach().numpy().T)


def test_onnx_of_the_shipped_checkpoint(tmp_path, open_head):
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    onnxruntime = pytest.importorskip("onnxruntime")
    from n2f_jax.export.torch_onnx import input_names, output_names, write_onnx

    pretrained = from_pretrained(DEFAULT_CHECKPOINT, open_head)
    network = export(tmp_path, pretrained, open_head)
    path = write_onnx(tmp_path / "model.onnx", network, pretrained.inputs.size)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [x.name for x in session.get_outputs()] == output_names(network)
    normals, mask, focal, centre = smooth_inputs(128)
    channels_first = normals.transpose(0, 3, 1, 2).copy()
    for batch in (1, 2):  # any batch size, also one that it was not exported with
        arrays = (channels_first, mask, focal, centre, np.full((2, 468, 3), np.nan, np.float32))
        # Without a correction the network takes no points.
        feed = {name: x[:batch] for name, x in zip(input_names(network), arrays, strict=False)}
        with torch.inference_mode():
            expected = network(*(torch.from_numpy(x) for x in feed.values()))
        got = dict(zip(output_names(network), session.run(None, feed), strict=True))
        errors = {name: relative_error(value, getattr(expected, name)) for name, value in got.items()}
        print(errors)
        assert all(error <= TOLERANCE for error in errors.values()), errors
