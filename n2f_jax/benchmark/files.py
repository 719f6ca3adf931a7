"""The benchmark's folder: ground truth, and crops of it, for any method to read.

benchmark.json                 size, seed, conditions, what was controlled of each head, versions
regions.json                   region → vertices of the ground-truth meshes, as ``scripts/evaluate.py`` reads them
heads/head000.ply, .npy        mesh (metres, head frame) and its landmarks, seven or 68
inputs/CONDITION/head000.npz   the maps, landmarks and intrinsics of its crop
sheet.png                      some of them
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from PIL import Image
from tqdm import tqdm

import n2f_jax
from flame_jax import HeadModel
from flame_jax.files.outside import reason
from n2f_jax.benchmark.design import Scene, draw_scene, setting_of
from n2f_jax.benchmark.head import load_benchmark_coarse_mesh, load_benchmark_head
from n2f_jax.data.sampler import SyntheticConfig, draw_batch
from n2f_jax.evaluation.landmarks3d import SEVEN_OF_68
from n2f_jax.evaluation.regions import template_of
from n2f_jax.face_mesh.coarse_mesh import CoarseMesh
from n2f_jax.geometry.camera import Camera, intrinsics_matrix
from n2f_jax.mesh.writing import write_ply
from n2f_jax.preprocessing.open_sets import RENDERED
from n2f_jax.reconstruction.front_end_sheet import encode
from n2f_jax.render import HeadTopology
from n2f_jax.runtime.atomic_files import atomic_path, write_text
from n2f_jax.runtime.json_values import check_fields, is_list_of, is_number, is_path_within, is_whole_number
from n2f_jax.runtime.outside_values import read_arrays, read_json, told

DRAWN_AT_ONCE = 10
_SHEET_HEADS = 12


@dataclasses.dataclass(frozen=True)
class Condition:
    """How crops are drawn.

    Attributes:
        maps: fields of ``SyntheticConfig``.
        landmark_noise: σ of each landmark in units of the crop's side.
    """

    maps: dict[str, Any]
    landmark_noise: float

    @property
    def beyond_the_face(self) -> bool:
        """Whether normals are there of the whole head, for networks without segmentation: an occluder would hide
        parts of it that nobody draws, and the front end knows nothing but the face."""
        return not any(
            self.maps.get(name) for name in ("occluder_share", "front_end_share", "unmasked_share")
        )

    @property
    def segmented(self) -> bool:
        """Whether the mask is the face's; else it is one everywhere, and so are there normals."""
        return not self.maps.get("unmasked_share")


CONDITIONS = {
    "clean": Condition({}, 0.0),
    "noisy": Condition(
        {
            "normal_blur": 0.02,
            "normal_noise_deg": 5.0,
            "mirror_shift": 0.004,
            "eight_bit": True,
            "mask_erosion": 0.02,
            "mask_dilation": 0.02,
        },
        0.01,
    ),
    "occluded": Condition(
        {
            "normal_blur": 0.008,
            "normal_noise_deg": 3.0,
            "eight_bit": True,
            "occluder_share": 0.5,
            "bar_share": 0.3,
            "hair_share": 0.5,
            "lower_face_share": 0.2,
        },
        0.01,
    ),
    "front_end": Condition(
        {
            "front_end_share": 1.0,
            "point_noise": RENDERED.point_noise,
            "point_z_scale": RENDERED.point_z_scale,
        },
        0.01,
    ),
}
# The same heads and occluders, as nobody segmented them.
for _name in ("clean", "occluded"):
    _known = CONDITIONS[_name]
    CONDITIONS[f"{_name}_unmasked"] = Condition(_known.maps | {"unmasked_share": 1.0}, _known.landmark_noise)
_ON_NORMALS = ("normal_blur", "normal_noise_deg", "mirror_shift", "eight_bit")


class BenchmarkError(ValueError):
    """A folder that is no benchmark, or one of other settings; the message says which."""


@dataclasses.dataclass(frozen=True)
class StoredHead:
    """One head's crop as it is stored.

    Attributes:
        normals: ``(S, S, 3)`` unit, head frame; beyond the mask where the condition has them, else zero there.
        mask: ``(S, S)`` 0 or 1.
        uv: ``(S, S, 2)`` in [0, 1], or None.
        landmarks_2d: ``(68, 2)`` pixels of the crop, with the condition's error.
        true_landmarks_2d: without it.
        intrinsics: ``(3, 3)`` of the crop.
        rotation, translation: ``x_cam = R·x + t``, the truth.
    """

    normals: np.ndarray
    mask: np.ndarray
    uv: np.ndarray | None
    landmarks_2d: np.ndarray
    true_landmarks_2d: np.ndarray
    intrinsics: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray


def head_name(index: int) -> str:
    return f"head{index:03d}"


def write_benchmark(
    folder: str | Path,
    heads: int,
    *,
    seed: int = 0,
    size: int = 128,
    crop_scale: float = 1.4,
    progress: bool = True,
) -> None:
    """Draws and writes what is not there yet.

    Args:
        folder: made if needed.
        heads: a multiple of the design's 90 cells uses every cell alike.
        seed: of the heads.
        size: side of the crops in pixels.
        crop_scale: side of the crop over the longer side of the landmarks' box.
        progress: show a bar.

    Raises:
        BenchmarkError: the folder holds a benchmark of other settings.
    """
    folder = Path(folder)
    settings = {"heads": heads, "seed": seed, "size": size, "crop_scale": crop_scale}
    described = folder / "benchmark.json"
    there = read_settings(folder) if described.exists() else settings
    if any(there[key] != value for key, value in settings.items()):
        raise BenchmarkError(
            f"{folder} holds a benchmark of other settings: remove it, or name another folder"
        )
    model = load_benchmark_head()
    visible = Visible.of(model)
    for part in ("heads", *(f"inputs/{name}" for name in CONDITIONS)):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_text(folder / "regions.json", json.dumps({k: v.tolist() for k, v in visible.regions.items()}))
    mesh, topology = load_benchmark_coarse_mesh(), HeadTopology.from_model(model)
    controlled = []
    for first in tqdm(range(0, heads, DRAWN_AT_ONCE), desc="heads", unit="batch", disable=not progress):
        indices = jnp.arange(first, first + DRAWN_AT_ONCE)
        setting = setting_of(indices)
        names = [head_name(i) for i in range(first, min(first + DRAWN_AT_ONCE, heads))]
        values = {f.name: np.asarray(getattr(setting, f.name)) for f in dataclasses.fields(setting)}
        controlled += [
            {"name": name} | {key: round(float(value[row]), 4) for key, value in values.items()}
            for row, name in enumerate(names)
        ]
        if all((folder / f"inputs/{c}/{name}.npz").exists() for c in CONDITIONS for name in names):
            continue
        scene = draw_scene(model, indices, setting, seed=seed, size=size, crop_scale=crop_scale)
        vertices, points = jax.device_get((scene.vertices, scene.landmarks_3d))
        for name, head, landmarks in zip(names, vertices, points, strict=False):
            write_ply(folder / f"heads/{name}.ply", head[visible.vertices], visible.faces)
            with atomic_path(folder / f"heads/{name}.npy") as temporary:
                np.save(temporary, landmarks[list(SEVEN_OF_68)])
        for number, condition in enumerate(CONDITIONS):
            maps = jax.device_get(
                _draw(model, topology, mesh, scene, jnp.asarray(number), name=condition, size=size)
            )
            uv = maps.pop("uv", None)
            for row, name in enumerate(names):
                one = {key: value[row] for key, value in maps.items()}
                if uv is not None:
                    one["uv"] = uv[row].astype(np.float16)
                with atomic_path(folder / f"inputs/{condition}/{name}.npz") as temporary:
                    np.savez_compressed(temporary, allow_pickle=False, **one)
    content = {
        "version": n2f_jax.__version__,
        **settings,
        "conditions": {name: dataclasses.asdict(what) for name, what in CONDITIONS.items()},
        "controlled": controlled,
    }
    write_text(described, json.dumps(content, indent=1) + "\n")
    write_sheet(folder, list(CONDITIONS), [row["name"] for row in controlled][:_SHEET_HEADS])


@functools.partial(jax.jit, static_argnames=("name", "size"))
def _draw(
    model: HeadModel,
    topology: HeadTopology,
    mesh: CoarseMesh,
    scene: Scene,
    number: Array,
    *,
    name: str,
    size: int,
) -> dict[str, Array]:
    """The arrays of a head's file, B in front."""
    return draw_maps(
        scene.keys,
        scene.vertices,
        scene.camera,
        scene.landmarks_2d,
        number,
        model,
        topology,
        mesh,
        name,
        size,
    )


def draw_maps(
    keys: Key[Array, " B"],
    vertices: Float[Array, "B V 3"],
    camera: Camera,
    landmarks_2d: Float[Array, "B 68 2"],
    number: Array,
    model: HeadModel | None,
    topology: HeadTopology,
    mesh: CoarseMesh | None,
    name: str,
    size: int,
) -> dict[str, Array]:
    """What is stored of heads in one condition, B in front; ``StoredHead`` as it lies in a file.

    Args:
        keys: of the heads, for what is random.
        vertices: head frame, metres.
        camera: of the crops.
        landmarks_2d: true, pixels of the crops.
        number: of the condition.
        model, mesh: for the condition ``front_end`` alone.
        topology: of the vertices.
        name: of the condition.
        size: of the crops.
    """
    condition = CONDITIONS[name]
    channels = "normals" if condition.maps else "uv+normals"  # UV of clean maps alone
    config = SyntheticConfig(image_size=size, channels=channels, **condition.maps)
    draw = lambda config: draw_batch(  # noqa: E731
        keys, vertices, camera, model, topology, config, coarse_mesh=mesh
    )
    drawn = draw(config)
    normals = drawn["normals"]
    if condition.beyond_the_face:
        of_normals = {key: value for key, value in condition.maps.items() if key in _ON_NORMALS}
        normals = draw(SyntheticConfig(image_size=size, masked=False, **of_normals))["normals"]
    of_noise = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, 0x6C6D6B), number))(keys)
    noise = jax.vmap(lambda key: jax.random.normal(key, (68, 2)))(of_noise)
    maps = {
        "normals": jnp.round((normals + 1.0) * 127.5).astype(jnp.uint8),
        "mask": (drawn["mask"] > 0.5).astype(jnp.uint8),
        "landmarks_2d": landmarks_2d + condition.landmark_noise * size * noise,
        "true_landmarks_2d": landmarks_2d,
        "intrinsics": intrinsics_matrix(camera),
        "rotation": camera.rotation,
        "translation": camera.translation,
    }
    if "uv" in drawn:
        maps["uv"] = 0.5 * (drawn["uv"] + 1.0)
    return maps


@dataclasses.dataclass(frozen=True)
class Visible:
    """The part of the benchmark's mesh that a scanner reaches.

    Attributes:
        vertices: ``(n,)`` of the model's.
        faces: ``(m, 3)`` among them.
        regions: name → indices among them.
    """

    vertices: np.ndarray
    faces: np.ndarray
    regions: dict[str, np.ndarray]

    @classmethod
    def of(cls, model: HeadModel) -> Visible:
        template = template_of(model)
        inside = np.zeros(model.num_vertices, bool)
        inside[template.visible] = True
        faces = np.asarray(model.faces)
        faces = faces[inside[faces].all(axis=1)]
        vertices = np.unique(faces)
        number = np.full(model.num_vertices, -1)
        number[vertices] = np.arange(len(vertices))
        regions = {name: number[index] for name, index in template.regions.items()}
        return cls(vertices, number[faces], {name: index[index >= 0] for name, index in regions.items()})


_SETTINGS = {
    "heads": is_whole_number,
    "seed": is_whole_number,
    "size": is_whole_number,
    "crop_scale": is_number,
    "controlled": is_list_of(lambda row: isinstance(row, dict) and is_path_within(row.get("name"))),
    "of_meshes": lambda value: value is None or isinstance(value, bool),
}


def read_settings(folder: str | Path) -> dict[str, Any]:
    """``benchmark.json``.

    Raises:
        BenchmarkError: there is none, or it is damaged.
    """
    path = Path(folder) / "benchmark.json"
    try:
        content = check_fields(read_json(path), _SETTINGS)
        wanted = ("heads", "seed", "size", "crop_scale", "controlled")
        return {key: content[key] for key in wanted} | {"of_meshes": bool(content.get("of_meshes"))}
    except FileNotFoundError:
        raise BenchmarkError(f"{folder} is no benchmark: make one with scripts/make_benchmark.py") from None
    except (ValueError, KeyError) as error:
        raise BenchmarkError(f"{path} is damaged ({reason(error)}): make the benchmark again") from error


def head_names(settings: Mapping[str, Any], wanted: int | None = None, group: str = "") -> list[str]:
    """The first so many of a benchmark's heads, or of one group of them; all if None.

    Raises:
        BenchmarkError: no such group.
    """
    names = [row["name"] for row in settings["controlled"]]
    chosen = [name for name in names if not group or name.startswith(f"{group}/")]
    if not chosen:
        groups = sorted({name.rpartition("/")[0] for name in names} - {""})
        raise BenchmarkError(f"no heads of the group {group!r}; there are {', '.join(groups) or 'no groups'}")
    return chosen[:wanted]


def read_stored_head(path: str | Path) -> StoredHead:
    """One head's file, as unit normals and numbers.

    Raises:
        BenchmarkError: it is damaged, or not such a file.
        FileNotFoundError: there is none.
    """
    try:
        return _stored_head(read_arrays(path))
    except (ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(
            f"{told(path, error)} (one head of a benchmark: make the benchmark again)"
        ) from error


def _stored_head(arrays: dict[str, Any]) -> StoredHead:
    normals = arrays["normals"].astype(np.float32) / 127.5 - 1.0
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    # Nothing is stored as 127 or 128, a vector that is much too short.
    arrays["normals"] = np.where(length > 0.5, normals / np.maximum(length, 1e-6), 0.0).astype(np.float32)
    arrays["mask"] = arrays["mask"].astype(np.float32)
    arrays["uv"] = arrays["uv"].astype(np.float32) if "uv" in arrays else None
    return StoredHead(**arrays)


def read_head(folder: str | Path, condition: str, name: str) -> StoredHead:
    """One head of a benchmark."""
    return read_stored_head(Path(folder) / f"inputs/{condition}/{name}.npz")


def write_sheet(folder: Path, conditions: Sequence[str], names: Sequence[str]) -> None:
    """``sheet.png``: what methods are shown of some heads, a row a condition."""
    rows = []
    for condition in conditions:
        stored = [read_head(folder, condition, name) for name in names]
        rows.append(np.concatenate([encode(one.normals * one.mask[..., None]) for one in stored], axis=1))
    with atomic_path(folder / "sheet.png") as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary)
