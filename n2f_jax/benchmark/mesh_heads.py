"""A benchmark of any head meshes: the same crops as the open benchmark's, and photo-like pictures for the whole way.

benchmark.json                       settings; what was controlled of each head; its picture's focal length
heads/NAME.ply, .npy                 mesh (metres, head frame) and its 68 landmarks
heads/NAME.regions.npz               region → vertices of its visible skin, as ``scripts/evaluate.py`` reads them
inputs/CONDITION/NAME.npz            the maps, landmarks and intrinsics of its crop
photos/LOOK/NAME.png                 the head as a photograph, in grey or in a skin's colour
sheet.png, photos.jpg                some of them
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from PIL import Image
from tqdm import tqdm

import flame_jax
import n2f_jax
from flame_jax import HeadModel
from n2f_jax.benchmark.design import Setting, draw_view, erroneous_crop, setting_of
from n2f_jax.benchmark.files import CONDITIONS, BenchmarkError, draw_maps, read_settings, write_sheet
from n2f_jax.benchmark.methods import MEAN, NEAREST, Crops, Prediction, make_methods
from n2f_jax.benchmark.open_heads import PredictionFolder, StoredHeads, check_networks, predict_all
from n2f_jax.benchmark.run import HeadSet
from n2f_jax.data.images import read_image
from n2f_jax.data.sampler import SyntheticConfig
from n2f_jax.evaluation.landmarks3d import read_landmarks68
from n2f_jax.evaluation.layouts import LayoutError, list_samples
from n2f_jax.evaluation.mesh_annotation import MeshAnnotation, annotate, annotator, upright
from n2f_jax.evaluation.mesh_landmarks import find_landmarks
from n2f_jax.evaluation.units import METRES_PER
from n2f_jax.fitting.registration import Registrar
from n2f_jax.geometry.camera import project
from n2f_jax.geometry.crop import crop_camera, to_crop
from n2f_jax.geometry.focal import Focal
from n2f_jax.mesh.cleaning import clean
from n2f_jax.mesh.reading import read_mesh
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.mesh.writing import write_ply
from n2f_jax.models.pretrained import Pretrained
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.runtime.atomic_files import atomic_path, write_text
from n2f_jax.runtime.outside_values import read_array
from n2f_jax.visualization.portrait import FacePaint, portrait, random_look

MESH_CONDITIONS = ("clean", "noisy", "occluded")
LOOKS = ("grey", "skin")
# The same as conditions.
PHOTOS = {f"{look} picture": look for look in LOOKS}
STEPS = (2, 12)
PHOTO_SIZE = 768
_ZOOM = 2
_STREAM = 0x4D455348
_SHEET_HEADS = 12


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """One mesh as ground truth.

    Attributes:
        mesh: metres, head frame.
        landmarks: ``(68, 3)`` of it, placed as ours are.
        annotation: regions, visible skin, face mask, by vertex.
    """

    mesh: TriangleMesh
    landmarks: Float[np.ndarray, "68 3"]
    annotation: MeshAnnotation


class MeshReader:
    """Meshes to ground truth; of several of one topology the first is annotated, and the others take it over.

    Args:
        unit: of ``evaluation.units.METRES_PER``.
    """

    def __init__(self, unit: str = "m"):
        if unit not in METRES_PER:
            raise ValueError(f"unit {unit!r}; there are {', '.join(METRES_PER)}")
        self._metres = METRES_PER[unit]
        self._annotations: list[MeshAnnotation] = []
        self._registrar = functools.cache(annotator)

    def __call__(
        self, mesh: TriangleMesh, landmarks: Float[np.ndarray, "68 3"] | None = None, name: str = "mesh"
    ) -> GroundTruth:
        """One mesh.

        Args:
            mesh: any topology and pose, in the unit.
            landmarks: on it; rows of NaN where not known. None: they are found in pictures of it.
            name: for messages.

        Raises:
            MeshError, AlignmentError: it cannot be used; the message says why.
        """
        mesh = clean(mesh, name)[0]
        annotation = next((one for one in self._annotations if one.is_of(mesh)), None)
        if annotation is None:
            if landmarks is None:
                landmarks = find_landmarks(mesh, name)
            annotation, _ = annotate(mesh, landmarks, self._registrar())
            self._annotations.append(annotation)
        frame = upright(annotation.landmarks_on(mesh.vertices), self._metres)
        placed = TriangleMesh(frame.apply(mesh.vertices), mesh.faces)
        return GroundTruth(placed, annotation.landmarks_on(placed.vertices), annotation)


def list_meshes(folder: str | Path) -> list[tuple[str, Path, Path | None]]:
    """Name (with its subfolder), mesh, and the file of landmarks beside it, of every mesh under a folder.

    Raises:
        BenchmarkError: none.
    """
    try:
        _, samples = list_samples(folder, "plain")
    except LayoutError as error:
        raise BenchmarkError(f"{folder}: no meshes: {error}") from error
    return [(sample.name, sample.truth, sample.landmarks) for sample in samples]


def write_mesh_benchmark(
    meshes: str | Path,
    folder: str | Path,
    *,
    unit: str = "m",
    seed: int = 0,
    size: int = 128,
    crop_scale: float = 1.4,
    progress: bool = True,
    say: Callable[[str], None] = tqdm.write,
) -> int:
    """Draws and writes what is not there yet. A mesh that cannot be used is left out with a line that says why.

    Args:
        meshes: folder of meshes, landmarks beside them (7, 51 or 68) where there are some.
        folder: made if needed.
        unit: of the meshes.
        seed: of cameras, looks and errors.
        size: side of the crops in pixels.
        crop_scale: side of the crop over the longer side of the landmarks' box.
        progress: show a bar.
        say: called with a line for every mesh that is left out.

    Returns:
        How many heads there are.

    Raises:
        BenchmarkError: no mesh can be used, or the folder holds a benchmark of other settings.
    """
    folder = Path(folder)
    listed = list_meshes(meshes)
    settings = {"seed": seed, "size": size, "crop_scale": crop_scale}
    described = folder / "benchmark.json"
    if described.exists():
        there = read_settings(folder)
        if not there["of_meshes"] or any(there[key] != value for key, value in settings.items()):
            raise BenchmarkError(f"{folder} holds a benchmark of other settings: name another folder")
    reader, controlled = MeshReader(unit), []
    for index, (name, path, landmarks) in enumerate(
        tqdm(listed, desc="meshes", unit="mesh", disable=not progress)
    ):
        try:
            points = None if landmarks is None else read_landmarks68(landmarks)
            head = reader(read_mesh(path), points, str(path))
        except (ValueError, OSError) as error:
            say(f"{name}: left out: {error}")
            continue
        setting = setting_of(jnp.asarray([index]))
        controlled.append(_write_head(folder, name, index, head, setting, settings))
    if not controlled:
        raise BenchmarkError(f"{meshes}: not one mesh can be used")
    content = {
        "version": n2f_jax.__version__,
        "of_meshes": True,
        "heads": len(controlled),
        **settings,
        "conditions": {name: dataclasses.asdict(CONDITIONS[name]) for name in MESH_CONDITIONS},
        "controlled": controlled,
    }
    write_text(described, json.dumps(content, indent=1) + "\n")
    names = [row["name"] for row in controlled][:_SHEET_HEADS]
    write_sheet(folder, MESH_CONDITIONS, names)
    _write_photo_sheet(folder, names)
    return len(controlled)


def _write_head(
    folder: Path,
    name: str,
    index: int,
    head: GroundTruth,
    setting: Setting,
    settings: dict,
) -> dict:
    """Files of one head; its row of ``benchmark.json``."""
    size, crop_scale, seed = settings["size"], settings["crop_scale"], settings["seed"]
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _STREAM), index)
    camera, shift, scale, map_key = _view(key, setting)
    row = {"name": name} | {
        field.name: round(float(getattr(setting, field.name)[0]), 4) for field in dataclasses.fields(setting)
    }
    row["photo_focal"] = round(float(camera.focal), 3)
    paths = [folder / f"heads/{name}.ply", folder / f"heads/{name}.npy", folder / f"heads/{name}.regions.npz"]
    paths += [folder / f"inputs/{condition}/{name}.npz" for condition in MESH_CONDITIONS]
    paths += [folder / f"photos/{look}/{name}.png" for look in LOOKS]
    if all(path.exists() for path in paths):
        return row
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_ply(paths[0], head.mesh.vertices, head.mesh.faces)
    with atomic_path(paths[1]) as temporary:
        np.save(temporary, head.landmarks.astype(np.float32))
    with atomic_path(paths[2]) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **head.annotation.regions)
    batch = jax.tree.map(lambda x: jnp.asarray(x)[None], (map_key, camera, shift, scale))
    vertices, landmarks = (jnp.asarray(x, jnp.float32)[None] for x in (head.mesh.vertices, head.landmarks))
    for number, condition in enumerate(MESH_CONDITIONS):
        maps = jax.device_get(
            _draw(
                *batch,
                vertices,
                landmarks,
                number,
                head.annotation.topology,
                condition=condition,
                size=size,
                crop_scale=crop_scale,
            )
        )
        with atomic_path(folder / f"inputs/{condition}/{name}.npz") as temporary:
            np.savez_compressed(
                temporary, allow_pickle=False, **{k: v[0] for k, v in maps.items() if k != "uv"}
            )
    paint = FacePaint.of(head.mesh, head.annotation.model_on(head.mesh.vertices), flame_jax.load_open_head())
    for number, look in enumerate(LOOKS):
        rng = np.random.default_rng([seed, index, number])
        picture = portrait(head.mesh, camera, PHOTO_SIZE, random_look(rng, look), paint)
        with atomic_path(folder / f"photos/{look}/{name}.png") as temporary:
            Image.fromarray(picture).save(temporary)
    return row


@jax.jit
def _view(key, setting: Setting):
    """Camera of the picture, the crop's error, and a key for the maps."""
    camera_key, angle_key, crop_key, map_key = jax.random.split(key, 4)
    # A portrait: the middle of what the sampler's camera sees. Its principal point is the picture's centre, as
    # photographs' are taken to be.
    config = SyntheticConfig(s_orig=_ZOOM * PHOTO_SIZE, principal_std=0.0)
    at = jax.tree.map(lambda x: x[0], setting)
    camera, shift, scale = draw_view(camera_key, angle_key, crop_key, at, config)
    camera = dataclasses.replace(camera, principal_point=jnp.full(2, 0.5 * PHOTO_SIZE))
    return camera, shift, scale, map_key


@functools.partial(jax.jit, static_argnames=("condition", "size", "crop_scale"))
def _draw(keys, camera, shift, scale, vertices, landmarks, number, topology, *, condition, size, crop_scale):
    pixels = project(landmarks, camera)
    crop = erroneous_crop(pixels, shift, scale, crop_scale)
    camera, pixels = crop_camera(camera, crop, size), to_crop(pixels, crop, size)
    return draw_maps(keys, vertices, camera, pixels, number, None, topology, None, condition, size)


def _write_photo_sheet(folder: Path, names: Sequence[str]) -> None:
    rows = []
    for look in LOOKS:
        pictures = [Image.open(folder / f"photos/{look}/{name}.png").resize((256, 256)) for name in names]
        rows.append(np.concatenate([np.asarray(picture) for picture in pictures], axis=1))
    with atomic_path(folder / "photos.jpg") as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, format="JPEG", quality=85)


class MeshPhotos:
    """The pictures of a benchmark's heads, through a front end: the whole way of a photograph.

    Its focal length is given, as a photograph's EXIF data gives it.

    Args:
        folder: of ``write_mesh_benchmark``.
        look: of ``LOOKS``.
        names: of the heads.
        reconstructor: its front end and network.
    """

    def __init__(self, folder: str | Path, look: str, names: Sequence[str], reconstructor: Reconstructor):
        self.folder, self.look, self.names = Path(folder), look, names
        self._reconstructor = reconstructor
        self._truth = StoredHeads(folder, MESH_CONDITIONS[0], names)
        self._focal = {row["name"]: row["photo_focal"] for row in read_settings(folder)["controlled"]}
        self._crops = functools.lru_cache(maxsize=32)(self._make_crops)

    def __len__(self) -> int:
        return len(self.names)

    def crops(self, index: int) -> Crops | None:
        return self._crops(index)

    def _make_crops(self, index: int) -> Crops | None:
        name = self.names[index]
        image, _ = read_image(self.folder / f"photos/{self.look}/{name}.png")
        faces = self._reconstructor.detect(image)
        if not faces:
            return None
        focal = Focal(self._focal[name], "given")
        return Crops.of_face(faces[0], image.shape[:2], focal, self._reconstructor.inputs.size)

    def figures(self, index: int, prediction: Prediction) -> dict[str, float]:
        """The error of the head's distance."""
        return {"distance_ratio": self._truth.distance_ratio(index, prediction)}


def write_mesh_predictions(
    folder: str | Path,
    out: str | Path,
    networks: Mapping[str, Pretrained],
    checkpoint: str | Path,
    names: Sequence[str],
    *,
    conditions: Sequence[str] = (*MESH_CONDITIONS, *PHOTOS),
    adam_heads: int = 24,
    progress: bool = True,
    model: HeadModel | None = None,
) -> None:
    """What every method predicts of the heads of a mesh benchmark; files that are there stay.

    On maps: the mean head, networks, Gauss–Newton (2 and 12 steps) and Adam from the first network. On pictures: the
    mean head, and the first network through the free front end without and with as many steps. The nearest head of
    the model is registered to the truth, once.

    Args:
        folder: of ``write_mesh_benchmark``.
        out: a ``PredictionFolder``.
        networks: name → network.
        checkpoint: folder of the first one.
        names: of the heads.
        conditions: of ``MESH_CONDITIONS`` and ``PHOTOS``.
        adam_heads: the first so many for Adam.
        progress: show bars.
        model: the networks' head model; None for the one that ships.
    """
    settings = read_settings(folder)
    check_networks(networks, settings["size"], settings["crop_scale"])
    model = flame_jax.load_open_head() if model is None else model
    predictions = PredictionFolder(out, model)
    first = next(iter(networks))
    fits = [f"Gauss-Newton from network, {count} steps" for count in STEPS]
    of_maps: dict[str, HeadSet] = {
        condition: StoredHeads(folder, condition, names)
        for condition in conditions
        if condition in MESH_CONDITIONS
    }
    if of_maps:
        methods = make_methods(model, networks, steps=STEPS)
        methods = {name: methods[name] for name in (MEAN, *networks, *fits, "Adam from network")}
        predict_all(of_maps, methods, names, predictions, adam_heads=adam_heads, progress=progress)
    looks = [condition for condition in conditions if condition in PHOTOS]
    if looks:
        reconstructor = Reconstructor.from_pretrained(checkpoint, model, refine=0)
        of_photos: dict[str, HeadSet] = {
            look: MeshPhotos(folder, PHOTOS[look], names, reconstructor) for look in looks
        }
        methods = make_methods(model, networks, photographs=True, steps=STEPS)
        methods = {name: methods[name] for name in (MEAN, first, *fits)}
        predict_all(of_photos, methods, names, predictions, progress=progress)
    if MESH_CONDITIONS[0] in conditions:
        _write_nearest(Path(folder), predictions, names, progress)


def _write_nearest(folder: Path, predictions: PredictionFolder, names: Sequence[str], progress: bool) -> None:
    """The model's head that lies nearest to each mesh: registration at the true size."""
    todo = [name for name in names if not predictions.has(NEAREST, MESH_CONDITIONS[0], name)]
    if not todo:
        return
    registrar = Registrar(predictions.model)
    for name in tqdm(todo, desc=NEAREST, unit="head", disable=not progress):
        mesh = read_mesh(folder / f"heads/{name}.ply")
        found = registrar(mesh, read_array(folder / f"heads/{name}.npy"))
        params = jax.tree.map(lambda x: x[None], found.params)
        predictions.write(NEAREST, MESH_CONDITIONS[0], name, Prediction(params, None))
