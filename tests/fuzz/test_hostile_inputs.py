"""Files that strangers give the evaluation, the benchmark, the front ends and conversion: the smallest that once went
wrong, and damaged ones at random. Each reader raises its own errors, in one line that names the file, in bounds.
"""

import hashlib
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save as save_tensors

from n2f_jax.benchmark.files import BenchmarkError, read_settings, read_stored_head
from n2f_jax.benchmark.ict_facekit import load_ict_facekit
from n2f_jax.evaluation.frames import find_frame
from n2f_jax.evaluation.landmarks import read_ljson
from n2f_jax.evaluation.landmarks3d import LandmarkError, read_landmark_vertices, read_landmarks68
from n2f_jax.evaluation.layouts import LayoutError, read_krt
from n2f_jax.evaluation.predictions import PredictionError, read_landmarks_2d, read_prediction
from n2f_jax.evaluation.public_photos import PhotoListError, read_dlib_landmarks, read_photo_list
from n2f_jax.evaluation.regions import RegionError, read_regions
from n2f_jax.evaluation.truths import read_camera
from n2f_jax.frontends.files import FrontendFileError
from n2f_jax.frontends.pixel3dmm.folder import Pixel3dmmFolder
from n2f_jax.frontends.tflite_file import TfliteError
from n2f_jax.frontends.tflite_graph import TfliteGraph
from n2f_jax.mesh.triangle_mesh import MeshError
from n2f_jax.models.conversion import ConversionError
from n2f_jax.models.dinov3_files import read_dinov3
from n2f_jax.models.folders import PretrainedError
from n2f_jax.models.pretrained import HeadModelIdentity, read_face_mesh
from n2f_jax.reconstruction.arkit_files import ArkitTableError, read_weights
from n2f_jax.reconstruction.head_file import KEYS as HEAD_KEYS
from n2f_jax.reconstruction.head_file import load_parameters
from n2f_jax.runtime.outside_values import OutsideValueError
from n2f_jax.runtime.torch_file import write_torch_file
from n2f_jax.tracking.frame_files import read_one_frame
from n2f_jax.tracking.other_frames import OtherTrackError
from n2f_jax.tracking.shards import read_shard
from n2f_jax.tracking.track_file import KEYS as TRACK_KEYS
from n2f_jax.tracking.track_file import load_track
from n2f_jax.tracking.vhap_files import read_vhap_folder, read_vhap_tracked
from n2f_jax.viewer.sources import open_source
from n2f_jax.visualization.mesh_sheet import read_textured_mesh
from tests.archives import zipped
from tests.n2f_jax.frontends.tflite_files import sound as tflite_network

from .limits import check, fuzzed
from .mutations import damaged

pytestmark = pytest.mark.timeout(3600)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**arrays):
    return zipped({f"{name}.npy": npy(np.asarray(array)) for name, array in arrays.items()})


def text(value):
    return json.dumps(value).encode()


def png(shape=(4, 4, 3)):
    stream = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


BOMB = zipped({"vertices.npy": npy(np.zeros(0)) + bytes(400 << 20)})
DEEP = b"[" * 100_000
TRIANGLE = {"vertices": np.eye(3), "faces": [[0, 1, 2]]}
KRT = b"camera\n1 0 0\n0 1 0\n0 0 1\n0 0 0 0 0\n1 0 0 0\n0 1 0 0\n0 0 1 0\n\n"
HEADS = {"heads": 1, "seed": 0, "size": 8, "crop_scale": 1.4, "controlled": [{"name": "00000"}]}
XML = b'<a><image file="x.jpg"><box left="0" top="0" width="5" height="5">%s</box></image></a>' % b"".join(
    b'<part name="%02d" x="1" y="2"/>' % i for i in range(68)
)
TEXTURED = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n"


def pixel3dmm(path):
    """Reads the folder that one file lies in; the others are sound."""
    folder = Pixel3dmmFolder(path.parents[1] if path.parent.name == "rgb" else path.parent)
    return folder.read("00000", (40, 60))


def pixel3dmm_folder(root):
    sound = {"p3dmm/normals/00000.png": png(), "seg_og/00000.png": png(), "PIPnet_landmarks/00000.npy": None}
    for name, data in sound.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(npy(np.full((98, 2), 0.5)) if data is None else data)


def huggingface(path):
    return read_dinov3(path.parent)


def huggingface_folder(root):
    root.mkdir(parents=True, exist_ok=True)
    tensors = {"embeddings.cls_token": np.zeros((1, 1, 8), np.float32)}
    (root / "model.safetensors").write_bytes(save_tensors(tensors))


LENGTHS = {"T": 2, "S": 3, "E": 2, "F": 1}
_SIZES = {"V": 4, "F": 1, "S": 3, "E": 2, "P": 0, "I": 0}
HEAD = {
    **{key: np.zeros([_SIZES.get(n, n) for n in shape], np.float32) for key, (shape, _) in HEAD_KEYS.items()},
    "rotation": np.diag([1.0, -1.0, -1.0]),
    "translation": np.array([0.0, 0.0, 1.0]),
    "intrinsics": np.array([[9.0, 0, 4], [0, 9, 3], [0, 0, 1]]),
    "image_size": np.array([6, 8]),
    "crop": np.array([0.0, 0.0, 5.0]),
    "frontend": "none",
    "source": "photo.png",
}
TRACK = {key: np.zeros(tuple(LENGTHS.get(n, n) for n in shape)) for key, (shape, _) in TRACK_KEYS.items()} | {
    **{key: "x" for key in ("focal_source", "head_model", "head_model_sha256", "frontend", "checkpoint")},
    **{"source": "x", "version": "1", "seconds": [0.0, 0.1], "status": [1, 0]},
}
SHARD = {
    **{name: np.zeros((2, *shape)) for name, shape in {"points": (468, 3), "landmarks": (68, 2)}.items()},
    **{name: np.zeros(2) for name in ("score", "confidence", "focal")},
    **{
        name: np.zeros((2, n))
        for name, n in {"crop": 3, "region_confidence": 6, "closure": 2, "gaze": 3, "blendshapes": 51}.items()
    },
    **{"irises": np.zeros((2, 10, 2)), "appearance": np.zeros((2, 4)), "answer": np.zeros((2, 8))},
    **{"frame": [0, 1], "start": 0, "seconds": [0.0, 0.1], "thumbnails": np.zeros((2, 18, 32, 3), np.uint8)},
}


VHAP_FRAME = {
    **{"timestep_index": 0, "camera_index": 0, "cx": 4, "cy": 3, "fl_x": 9.0, "fl_y": 9.0, "w": 8, "h": 6},
    **{"transform_matrix": np.eye(4).tolist(), "flame_param_path": "flame_param/00000.npz"},
}
VHAP_ROW = {
    **{
        name: np.zeros((1, n))
        for name, n in {"translation": 3, "rotation": 3, "neck_pose": 3, "jaw_pose": 3}.items()
    },
    **{"eyes_pose": np.zeros((1, 6)), "shape": np.zeros(4), "expr": np.zeros((1, 3))},
}

VHAP_TRACKED = VHAP_ROW | {"focal_length": [1.5], "image_size": [6, 8]}


def vhap(path):
    """Reads the folder that one file lies in; the other is sound."""
    return read_vhap_folder(path.parents[1] if path.parent.name == "flame_param" else path.parent)


def vhap_folder(root):
    (root / "flame_param").mkdir(parents=True, exist_ok=True)
    (root / "transforms.json").write_bytes(text({"frames": [VHAP_FRAME]}))
    (root / "flame_param/00000.npz").write_bytes(npz(**VHAP_ROW))


def vhap_frames(**changes):
    return text({"frames": [VHAP_FRAME | changes]})


def metrical(**changes):
    """A frame of metrical-tracker with one thing else; None leaves it out."""
    groups = {
        "flame": {
            **{"exp": np.zeros((1, 3)), "shape": np.zeros((1, 4)), "eyelids": np.zeros((1, 2))},
            **{"jaw": np.eye(3)[None, :2].reshape(1, 6), "eyes": np.tile(np.eye(3)[:2].reshape(-1), 2)[None]},
        },
        "opencv": {"R": np.eye(3)[None], "t": np.ones((1, 3)), "K": np.eye(3)[None]},
    }
    whole = groups | {"img_size": np.array([6, 8]), "frame_id": "00003"}
    for name, value in changes.items():
        group = next((part for part in groups.values() if name in part), whole)
        group[name] = value
    whole = {name: value for name, value in whole.items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        write_torch_file(Path(folder) / "a.frame", whole)
        return (Path(folder) / "a.frame").read_bytes()


# name → (reader of a path, its errors, sound files, files that once went wrong)
def face_mesh(path):
    """A network's places of the face mesh; its description has the file's own hash, as a stranger's would."""
    data = path.read_bytes()
    entry = {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return read_face_mesh(path.parent, {"face_mesh": entry}, HeadModelIdentity("", 3, 1, 1, 1, {}))


def places(**changes):
    arrays = {
        "faces": np.zeros(468, np.int32),
        "barycentric": np.full((468, 3), 1 / 3, np.float32),
        "rotation": np.eye(3, dtype=np.float32),
    }
    return save_tensors({name: value for name, value in (arrays | changes).items() if value is not None})


READERS = {
    "landmarks.npy": (
        read_landmarks68,
        LandmarkError,
        [npy(np.arange(21.0).reshape(7, 3))],
        [npy(np.full((7, 3), "x")), npy(np.ones((7, 3), complex)), npy(np.full((7, 3), np.inf))],
    ),
    "landmarks.json": (
        read_landmarks68,
        LandmarkError,
        [text(np.arange(21.0).reshape(7, 3).tolist())],
        [DEEP, text([[10**400] * 3] * 7), text({"a": 1}), text([[None] * 3] * 7), text("x\ny")],
    ),
    "landmarks.txt": (
        read_landmarks68,
        LandmarkError,
        [b"1 2 3\n4 5 6\n7 8 10\n" * 17],
        [b"x\n" * 9, b"", b"1 2\n3\n"],
    ),
    # The last would be searched through again from each of its million tags.
    "landmarks.pp": (
        read_landmarks68,
        LandmarkError,
        [b'<point x="1" y="2" z="3"/>\n<point x="1" y="2" z="4"/>' + b'<point x="1" y="3" z="3"/>' * 5],
        [b'<point x="a\nb" y="1" z="1"/>', b"<point " * 1_000_000],
    ),
    "weights.csv": (
        read_weights,
        (ArkitTableError, OutsideValueError),
        [b"name,jawOpen,EyeBlinkLeft\na,0.5,0\nb,1,0.25\n"],
        [
            b"",
            b"name\n",
            b"jawOpen\n1e999\n",
            b"jawOpen\nnan\n",
            b"jawOpen\n" + b"0\n" * 600_000,
            b'"' + b"a" * 200_000,
        ],
    ),
    "vertices.json": (
        read_landmark_vertices,
        LandmarkError,
        [text(list(range(68)))],
        [
            DEEP,
            text([10**30] * 7),
            text([float("inf")] * 7),
            text([None] * 7),
            text({"a": 1}),
            text([[1], 2]),
        ],
    ),
    "vertices.npy": (
        read_landmark_vertices,
        LandmarkError,
        [npy(np.arange(51))],
        [npy(np.full(7, np.nan)), npy(np.array(["1"] * 7)), npy(np.zeros(7, "i4,i4"))],
    ),
    "regions.json": (
        lambda path: read_regions(path, 9),
        RegionError,
        [text({"face": [0, 1, 2], "nose": [8]})],
        [
            DEEP,
            text({"face": [10**30]}),
            text({"face": "abc"}),
            text([1]),
            text({"face": [-1]}),
            text({"face": None}),
        ],
    ),
    "regions.npz": (
        lambda path: read_regions(path, 9),
        RegionError,
        [npz(face=[0, 1, 2])],
        [BOMB, npz(face=["a"]), npz(face=[np.nan]), b"PK\x03\x04", npy(np.eye(2))],
    ),
    "prediction.npz": (
        read_prediction,
        PredictionError,
        [npz(**TRIANGLE), npz(**TRIANGLE, rotation=np.eye(3), translation=np.zeros(3))],
        [
            BOMB,
            b"PK\x03\x04",
            npz(vertices=np.eye(3)),
            npz(vertices=["x"] * 3, faces=[[0, 1, 2]]),
            npz(vertices=np.zeros(4), faces=[[0, 1, 2]]),
            npz(vertices=np.eye(3), faces=[[0, 1, 9]]),
            npz(vertices=np.eye(3), faces=[[0, 1, np.nan]]),
            npz(**TRIANGLE, landmarks_3d=np.zeros((2, 3))),
            npz(**TRIANGLE, rotation=["x"], translation=[0]),
            npz(shape=["x"]),
            npz(vertices=np.zeros((3, 3), "i4,i4"), faces=[[0, 1, 2]]),
        ],
    ),
    "points.npy": (
        read_landmarks_2d,
        PredictionError,
        [npy(np.ones((68, 2)))],
        [npy(np.array(["x"])), b"\x93NUMPY"],
    ),
    "points.npz": (
        read_landmarks_2d,
        PredictionError,
        [npz(landmarks_2d=np.ones((68, 2)))],
        [BOMB, npz(landmarks_2d=["x"]), b""],
    ),
    "points.ljson": (
        read_ljson,
        ValueError,
        [text({"groups": {"a": {"landmarks": {"points": [[1, 2]] * 68}}}})],
        [
            DEEP,
            text(None),
            text({"groups": 3}),
            text({"groups": [{"landmarks": {"points": [[10**400, 1]]}}]}),
        ],
    ),
    "a.camera.json": (
        lambda path: read_camera(path, 1.0),
        MeshError,
        [
            text({"Rt": np.eye(4).tolist(), "projection": "orthographic"}),
            text([np.eye(3).tolist(), np.eye(3, 4).tolist()]),
        ],
        [
            DEEP,
            text(3),
            text([]),
            text({"Rt": [10**400] * 12}),
            text({"Rt": [1, 2, 3, 4]}),
            text({"head_centre": [1]}),
            text({"Rt": [[float("nan")] * 4] * 3}),
            text({"projection": "a\nb"}),
        ],
    ),
    "KRT": (read_krt, LayoutError, [KRT], [b"\xff" * 8, KRT[:30], KRT.replace(b"0", b"x\r")]),
    "photos.json": (
        read_photo_list,
        PhotoListError,
        [
            text(
                {
                    "repository": "a/b",
                    "commit": "0" * 40,
                    "photographs": [{"path": "a.jpg", "split": "choosing"}],
                }
            )
        ],
        [DEEP, text({"repository": 3, "commit": "0" * 40, "photographs": []}), b"\xff", text([])],
    ),
    "landmarks.xml": (
        read_dlib_landmarks,
        PhotoListError,
        [XML],
        [b'<?xml version="1.0" encoding="x"?><a/>', XML[:80], XML.replace(b'"1"', b'"a&#10;b"')],
    ),
    "crop_ymin_ymax_xmin_xmax.npy": (
        pixel3dmm,
        FrontendFileError,
        [npy(np.array([0, 40, 0, 40]))],
        [
            npy(np.array([0, np.inf, 0, np.inf])),
            npy(np.array(4)),
            npy(np.array(["0"] * 4)),
            npy(np.array([1j] * 4)),
            b"",
        ],
    ),
    "rgb/00000.png": (
        pixel3dmm,
        FrontendFileError,
        [png((40, 60, 3))],
        [b"", png()[:20], png((40, 60, 3))[:30]],
    ),
    "config.json": (
        huggingface,
        (PretrainedError, ConversionError),
        [text({"model_type": "dinov3_vit"})],
        [
            DEEP,
            b"\xff",
            text([]),
            text({"format": "n2f-jax/dinov3", "format_version": 1, "backbone": {"width": -1}, "source": {}}),
            text({"format": "n2f-jax/dinov3", "format_version": 1, "backbone": [], "source": {}}),
            text({"format": "n2f-jax/dinov3", "format_version": 1, "source": {}}),
        ],
    ),
    "benchmark.json": (
        lambda path: read_settings(path.parent),
        BenchmarkError,
        [text(HEADS)],
        [
            DEEP,
            text([]),
            text(HEADS | {"controlled": [{}]}),
            text(HEADS | {"controlled": [{"name": "../../x"}]}),
            text(HEADS | {"size": "big"}),
            text(HEADS | {"heads": None}),
            b"\xff",
        ],
    ),
    "face_mesh.safetensors": (
        face_mesh,
        PretrainedError,
        [places()],
        [
            b"",
            places(faces=np.ones(468, np.int32)),
            places(faces=np.zeros((468, 3), np.int32)),
            places(barycentric=np.full((468, 3), np.nan, np.float32)),
            places(rotation=np.ones((3, 3), np.float32)),
            places(rotation=None),
        ],
    ),
    "stored.npz": (
        read_stored_head,
        BenchmarkError,
        [],
        [BOMB, b"", npz(normals=["x"]), npz(**TRIANGLE), b"PK\x05\x06"],
    ),
    "ict.npz": (
        load_ict_facekit,
        MeshError,
        [],
        [BOMB, npz(neutral=["x"]), npz(neutral=np.eye(3)), b"PK\x05\x06"],
    ),
    "track.npz": (
        load_track,
        ValueError,
        [npz(**TRACK)],
        [
            npz(**TRACK | {"status": [1, 9]}),
            npz(**TRACK | {"seconds": [1.0, 1.0]}),
            npz(**TRACK | {"rotation": np.full((2, 3, 3), np.nan)}),
            npz(**TRACK | {"expression": np.zeros((3, 2))}),
            npz(**TRACK | {"expression": np.full((2, 2), "x")}),
            npz(**TRACK | {"shape": np.full(3, np.inf)}),
            npz(seconds=np.zeros(2)),
            BOMB,
        ],
    ),
    "transforms.json": (
        vhap,
        OtherTrackError,
        [vhap_frames(), vhap_frames(timestep_index_original=7, seconds=0.25)],
        [
            DEEP,
            text([]),
            text({"frames": []}),
            text({"frames": [VHAP_FRAME, VHAP_FRAME]}),
            text({"frames": [3]}),
            vhap_frames(timestep_index=10**30),
            vhap_frames(timestep_index_original=10**9),
            vhap_frames(flame_param_path="../../etc/x.npz"),
            vhap_frames(flame_param_path="/etc/passwd"),
            vhap_frames(fl_x=0),
            vhap_frames(w=10**400),
            vhap_frames(cx="4"),
            vhap_frames(transform_matrix=[[1, 0], [0]]),
            vhap_frames(transform_matrix=np.zeros((4, 4)).tolist()),
            vhap_frames(transform_matrix=[[10**400] * 4] * 4),
        ],
    ),
    "flame_param/00000.npz": (
        vhap,
        OtherTrackError,
        [npz(**VHAP_ROW), npz(**VHAP_ROW, static_offset=np.ones((1, 5, 3)))],
        [
            BOMB,
            b"",
            npz(**{name: value for name, value in VHAP_ROW.items() if name != "expr"}),
            npz(**VHAP_ROW | {"rotation": np.zeros((2, 3))}),
            npz(**VHAP_ROW | {"expr": np.full((1, 3), np.inf)}),
            npz(**VHAP_ROW | {"shape": np.zeros(1 << 20)}),
            npz(**VHAP_ROW | {"shape": np.array(["x"])}),
            npz(**VHAP_ROW, static_offset=np.full((1, 5, 3), np.nan)),
        ],
    ),
    "tracked_flame_params_0.npz": (
        read_vhap_tracked,
        OtherTrackError,
        [npz(**VHAP_TRACKED)],
        [
            BOMB,
            b"",
            npz(**VHAP_ROW),
            npz(**VHAP_TRACKED | {"expr": np.zeros((0, 3))}),
            npz(**VHAP_TRACKED | {"expr": np.zeros(3)}),
            npz(**VHAP_TRACKED | {"rotation": np.zeros((2, 3))}),
            npz(**VHAP_TRACKED | {"rotation": np.full((1, 3), np.nan)}),
            npz(**VHAP_TRACKED | {"focal_length": [0.0]}),
            npz(**VHAP_TRACKED | {"image_size": [6]}),
            npz(**VHAP_TRACKED | {"shape": ["x"]}),
        ],
    ),
    "00003.frame": (
        read_one_frame,
        OtherTrackError,
        [metrical()],
        [
            BOMB,
            b"",
            b"PK\x05\x06",
            metrical(img_size=None),
            metrical(img_size=np.array([0, 8])),
            metrical(frame_id="1" * 40),
            metrical(frame_id=-1),
            metrical(exp=np.full((1, 3), np.nan)),
            metrical(exp=np.zeros((2, 3))),
            metrical(jaw=np.zeros((1, 6))),
            metrical(R=np.zeros((1, 3, 3))),
            metrical(K=np.zeros((1, 3, 3))),
            metrical(t="x"),
            metrical(opencv="x"),
            metrical(n2f={"frame": 3}),
            metrical(
                n2f={"frame": 0, "frames": 1, "seconds": np.array(np.inf), "frame_rate": np.array(25.0)}
            ),
        ],
    ),
    "000000.npz": (
        read_shard,
        OutsideValueError,
        [npz(**SHARD)],
        [
            npz(**SHARD | {"frame": [0, 5]}),
            npz(**SHARD | {"frame": [1, 0]}),
            npz(**SHARD | {"seconds": np.zeros(0)}),
            npz(**SHARD | {"points": np.zeros((2, 467, 3))}),
            npz(**SHARD | {"thumbnails": np.zeros((2, 1 << 10, 3))}),
            BOMB,
        ],
    ),
    "head.npz": (
        load_parameters,
        ValueError,
        [],
        [BOMB, npz(vertices=np.eye(3)), b"", b"PK\x05\x06", npy(np.eye(2))],
    ),
    "looked_at.npz": (
        lambda path: open_source(path).head(0),
        ValueError,
        [npz(**HEAD)],
        [
            npz(**HEAD | {"rotation": np.full((3, 3), np.nan)}),
            npz(**HEAD | {"translation": np.zeros(3)}),
            npz(**HEAD | {"intrinsics": np.full((3, 3), "x")}),
            npz(**HEAD | {"image_size": [1e30, 4]}),
            npz(**HEAD | {"shape": np.full(3, np.inf)}),
            npz(**HEAD | {"confidence": "high"}),
            BOMB,
        ],
    ),
    # Its constants, its tensors and its operators: made too many, cut off, or of another file.
    "network.tflite": (
        TfliteGraph,
        TfliteError,
        [tflite_network()],
        [
            b"",
            b"\x08\x00\x00\x00TFL3",
            tflite_network()[:200],
            tflite_network().replace(b"\x30\x00\x00\x00", b"\xff\xff\xff\x7f"),
            b"\xff\xff\xff\xffTFL3" + bytes(64),
        ],
    ),
    "textured.obj": (
        read_textured_mesh,
        MeshError,
        [TEXTURED],
        [b"v 0 0\n", TEXTURED.replace(b"vt 0 0", b"vt a b")],
    ),
    "textured.ply": (
        read_textured_mesh,
        MeshError,
        [trimesh.creation.icosphere(subdivisions=0).export(file_type="ply")],
        [trimesh.creation.icosphere(subdivisions=0).export(file_type="ply")[:300]],
    ),
}
SURROUNDINGS = {pixel3dmm: pixel3dmm_folder, huggingface: huggingface_folder, vhap: vhap_folder}


def place(root, name, data):
    """The file, and what its reader expects beside it."""
    reader = READERS[name][0]
    if reader in SURROUNDINGS:
        SURROUNDINGS[reader](root)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


CASES = [(name, number) for name, (_, _, _, wrong) in READERS.items() for number in range(len(wrong))]


@pytest.mark.parametrize(("name", "number"), CASES, ids=[f"{name}-{number}" for name, number in CASES])
def test_the_smallest_that_went_wrong(tmp_path, name, number):
    reader, error, _, wrong = READERS[name]
    path = place(tmp_path, name, wrong[number])
    with pytest.raises(error) as raised:
        check(name, lambda: reader(path), ())
    message = str(raised.value)
    # A description is of its folder.
    assert str(path) in message or str(path.parent) in message or name == "config.json"
    assert "\n" not in message and len(message) < 1000


@pytest.mark.parametrize("name", [name for name, (_, _, sound, _) in READERS.items() if sound])
def test_sound_ones_are_read(tmp_path, name):
    reader, error, sound, _ = READERS[name]
    for data in sound:
        path = place(tmp_path, name, data)
        if name == "config.json":  # nothing else of a network is there
            with pytest.raises(error, match="missing"):
                reader(path)
        else:
            reader(path)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="n2f-fuzz-") as path:
        yield Path(path)


@pytest.mark.parametrize("name", [name for name, (_, _, sound, _) in READERS.items() if sound])
@given(st.data())
@fuzzed
def test_damaged_ones(folder, name, data):
    reader, error, sound, wrong = READERS[name]
    samples = sound + [content for content in wrong if 0 < len(content) < 10_000]
    path = place(folder / name.replace("/", " "), name, data.draw(damaged(samples)))
    # Networks of ours have a config.json too (``test_readers``).
    check("config.json, DINOv3" if name == "config.json" else name, lambda: reader(path), error)


def test_frames_of_a_bomb_are_not_unpacked(tmp_path):
    (tmp_path / "clip.npz").write_bytes(BOMB)
    check("frames", lambda: find_frame(tmp_path, "clip/003", {"vertices": 2}), ())


@pytest.mark.parametrize(
    "names", [{"a": 3}, {"a": ["x"]}, {"a": "../model.safetensors"}, {"a": "x/y"}, ["a"], {"a": ""}], ids=str
)
def test_an_index_names_files_of_its_folder(tmp_path, names):
    (tmp_path / "model.safetensors.index.json").write_bytes(text({"weight_map": names}))
    with pytest.raises(PretrainedError, match=r"index\.json"):
        read_dinov3(tmp_path)
