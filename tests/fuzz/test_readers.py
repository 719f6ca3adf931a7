"""Readers of outside files on damaged ones: what they raise is their own class of errors, in one line, in bounds.

`make fuzz` runs them long (FUZZ_EXAMPLES); the fast tests a little of each.
"""

import functools
import hashlib
import io
import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save as save_tensors

from flame_jax import HeadModelError, load_head_model
from flame_jax.files.contents import FileError, read
from n2f_jax.data.images import ImageError, read_image
from n2f_jax.data.pts import PtsError, read_pts
from n2f_jax.frontends.pixel3dmm.tracking import TrackingError, read_frame
from n2f_jax.mesh.reading import read_mesh
from n2f_jax.mesh.triangle_mesh import MeshError
from n2f_jax.models.folders import PretrainedError, read_description, read_safetensors, read_weights
from n2f_jax.models.n2fnet import n2fnet_config
from n2f_jax.models.pretrained import HeadModelIdentity, InputSpec, describe, parse_description
from tests.archives import zipped

from ..flame_jax.files.flame_folder import landmark_dict, model_dict
from ..flame_jax.files.torch_programs import tensor_program
from ..flame_jax.gnm_file import gnm_arrays, landmark_text
from ..flame_jax.random_model import random_arrays
from ..n2f_jax.frontends.pixel3dmm.test_tracking import frame_dict
from .limits import check, fuzzed
from .mutations import damaged

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="n2f-fuzz-") as path:
        yield Path(path)


def _npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _npz(arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


@functools.cache
def _arrays():
    return random_arrays(0, 20, 12)


@functools.cache
def _pickles():
    plain = {
        "a": np.arange(6.0),
        "s": scipy.sparse.csc_matrix(np.eye(3)),
        "l": [1, "x", (2, 3)],
        "o": {1: None},
    }
    values = plain, model_dict(_arrays()), landmark_dict(_arrays())
    return [
        *(pickle.dumps(value, protocol) for value in values for protocol in (0, 2, 4)),
        b"\x80\x02]" + tensor_program("FloatStorage", np.ones((2, 3), np.float32)) + b"a.",
        np.array(plain, object).dumps(),
    ]


@functools.cache
def _meshes(kind):
    mesh = trimesh.creation.icosphere(subdivisions=1)
    options = {"ascii ply": {"encoding": "ascii"}}.get(kind, {})
    suffix = kind.split()[-1]
    content = mesh.export(file_type="stl_ascii" if kind == "ascii stl" else suffix, **options)
    return [content if isinstance(content, bytes) else content.encode()]


MESHES = ["ascii ply", "binary ply", "ascii stl", "binary stl", "off", "obj", "glb"]


@pytest.mark.parametrize("kind", MESHES)
@given(st.data())
@fuzzed
def test_meshes(folder, kind, data):
    path = folder / f"mesh.{kind.split()[-1]}"
    path.write_bytes(data.draw(damaged(_meshes(kind))))
    check(f"mesh, {kind}", lambda: read_mesh(path), MeshError)


@given(st.data())
@fuzzed
def test_mesh_archives(folder, data):
    arrays = [_npy(np.eye(3)), _npy(np.arange(3)), _npy(np.zeros((0, 3))), _npy(np.array(["x"]))]
    content = zipped({f"{name}.npy": data.draw(damaged(arrays)) for name in ("vertices", "faces")})
    (folder / "mesh.npz").write_bytes(data.draw(damaged([content])) if data.draw(st.booleans()) else content)
    check("mesh, npz", lambda: read_mesh(folder / "mesh.npz"), MeshError)


@given(st.data())
@fuzzed
def test_pickles(folder, data):
    (folder / "model.pkl").write_bytes(data.draw(damaged(_pickles())))
    check("pickle", lambda: read(folder / "model.pkl"), FileError)


@given(st.data())
@fuzzed
def test_arrays_and_safetensors(folder, data):
    tensors = save_tensors({"a": np.eye(3, dtype=np.float32), "b": np.arange(4)})
    samples = [_npy(np.eye(3)), _npz({"a": np.eye(3)}), _npy(np.array({"a": 1}, object)), tensors]
    (folder / "model.npy").write_bytes(data.draw(damaged(samples)))
    check("npy, npz, safetensors", lambda: read(folder / "model.npy"), FileError)


@given(st.data())
@fuzzed
def test_head_models(folder, data):
    """Whole archives with one array that is damaged, or another's."""
    arrays = {key: np.asarray(value) for key, value in _arrays().items()}
    name = data.draw(st.sampled_from(sorted(arrays)))
    others = [*map(_npy, arrays.values()), _npy(np.array(3.5)), _npy(np.array("x"))]
    entries = {f"{key}.npy": _npy(value) for key, value in arrays.items()}
    entries[f"{name}.npy"] = data.draw(damaged([data.draw(st.sampled_from(others))]))
    (folder / "head.npz").write_bytes(zipped(entries))
    check("head model, npz", lambda: load_head_model(folder / "head.npz"), HeadModelError)


@given(st.data())
@fuzzed
def test_gnm_heads(folder, data):
    """Archives of GNM's schema with one array that is damaged, or another's, and damaged landmarks beside them."""
    arrays = gnm_arrays(vertices=20, triangles=12, identity=3, expression=2)
    text = landmark_text(arrays["triangles"]).encode()
    name = data.draw(st.sampled_from(sorted(arrays)))
    others = [*map(_npy, arrays.values()), _npy(np.array(3.5)), _npy(np.array("x"))]
    entries = {f"{key}.npy": _npy(value) for key, value in arrays.items()}
    entries[f"{name}.npy"] = data.draw(damaged([data.draw(st.sampled_from(others))]))
    home = folder / "gnm"
    home.mkdir(exist_ok=True)
    (home / "gnm_head.npz").write_bytes(zipped(entries))
    (home / "head_sparse_68.txt").write_bytes(
        data.draw(damaged([text])) if data.draw(st.booleans()) else text
    )
    check("GNM head, npz and txt", lambda: load_head_model(home), HeadModelError)


@given(st.data())
@fuzzed
def test_tracked_frames(folder, data):
    program = data.draw(damaged([pickle.dumps(frame_dict(), p) for p in (2, 4)]))
    content = zipped({"a/data.pkl": program, "a/version": b"3\n"})
    (folder / "a.frame").write_bytes(data.draw(damaged([content])) if data.draw(st.booleans()) else content)
    check(".frame", lambda: read_frame(folder / "a.frame"), TrackingError)


@given(st.data())
@fuzzed
def test_landmark_files(folder, data):
    sample = b"version: 1\nn_points: 3\n{\n1.5 2.5\n3 4\n-5 6e1\n}\n"
    (folder / "a.pts").write_bytes(data.draw(damaged([sample])))
    check(".pts", lambda: read_pts(folder / "a.pts"), PtsError)


@functools.cache
def _description():
    described = describe(
        n2fnet_config("tiny"), InputSpec(128, 1.4), HeadModelIdentity("h", 9, 9, 300, 100, {"f": "0"})
    )
    return json.dumps({"format": "x", "format_version": 1, **described}, indent=1).encode()


@given(st.data())
@fuzzed
def test_descriptions_of_networks(folder, data):
    (folder / "config.json").write_bytes(data.draw(damaged([_description()])))
    check(
        "config.json",
        lambda: parse_description(read_description(folder, "x", 1), "config.json"),
        PretrainedError,
    )


@given(st.data())
@fuzzed
def test_weights_of_networks(folder, data):
    sample = save_tensors({"a": np.eye(3, dtype=np.float32), "b": np.arange(4, dtype=np.int32)})
    content = data.draw(damaged([sample]))
    (folder / "w.safetensors").write_bytes(content)
    entry = {"file": "w.safetensors", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    check("safetensors", lambda: read_weights(folder, entry), PretrainedError)
    check("safetensors", lambda: read_safetensors(folder / "w.safetensors"), PretrainedError)


@functools.cache
def _pictures():
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    found = []
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"):
        stream = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}
        Image.fromarray(array[..., :3] if kind in ("JPEG", "PPM", "BMP") else array).save(
            stream, kind, **options
        )
        found.append(stream.getvalue())
    return found


@given(st.data())
@fuzzed
def test_images(folder, data):
    (folder / "a.image").write_bytes(data.draw(damaged(_pictures())))
    check("image", lambda: read_image(folder / "a.image"), ImageError)
