"""The open benchmark's heads as a set, and what methods predict of them as files for the evaluator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import flame_jax
from flame_jax import FlameParams, HeadModel
from n2f_jax.benchmark.design import draw_scene, setting_of
from n2f_jax.benchmark.files import (
    CONDITIONS,
    DRAWN_AT_ONCE,
    BenchmarkError,
    StoredHead,
    head_names,
    read_head,
    read_settings,
)
from n2f_jax.benchmark.head import load_benchmark_head
from n2f_jax.benchmark.methods import (
    MEAN,
    NEAREST,
    OWN_MASKS,
    UV_PLACES,
    Crops,
    Method,
    NearestHead,
    Prediction,
    make_methods,
)
from n2f_jax.benchmark.run import HeadSet, run_methods
from n2f_jax.evaluation.landmarks import normalized_mean_error
from n2f_jax.evaluation.landmarks3d import SEVEN_OF_68, seven_landmarks
from n2f_jax.geometry.camera import project, to_camera
from n2f_jax.models.pretrained import Pretrained
from n2f_jax.reconstruction.reconstructor import DEFAULT_REFINE_FACE_MESH
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.outside_values import read_array


class StoredHeads:
    """Heads of a benchmark's folder in one condition.

    Args:
        folder: of ``write_benchmark`` or ``mesh_heads.write_mesh_benchmark``.
        condition: of ``files.CONDITIONS``.
        names: of the heads.

    Raises:
        BenchmarkError: no benchmark.
    """

    def __init__(self, folder: str | Path, condition: str, names: Sequence[str]):
        self.folder, self.condition, self.names = Path(folder), condition, names
        self._model, self._decode = flame_jax.load_open_head(), jax.jit(flame_jax.decode)

    def __len__(self) -> int:
        return len(self.names)

    def crops(self, index: int) -> Crops:
        return crops_of(self._stored(index), CONDITIONS[self.condition].beyond_the_face)

    def figures(self, index: int, prediction: Prediction) -> dict[str, float]:
        """Errors of landmarks and of the head's distance; that of the mesh is the evaluator's (``tables.measure``)."""
        nme = float("nan")
        if prediction.camera is not None:
            pixels = np.asarray(project(self._landmarks(prediction), prediction.camera))[0]
            nme = normalized_mean_error(pixels, self._stored(index).true_landmarks_2d)["all"]
        return {"nme_percent": nme, "distance_ratio": self.distance_ratio(index, prediction)}

    def distance_ratio(self, index: int, prediction: Prediction) -> float:
        """How far the predicted face is from its camera, over how far the true one is: means of seven landmarks.

        NaN where a method predicts no camera.
        """
        if prediction.camera is None:
            return float("nan")
        seven = np.asarray(to_camera(self._landmarks(prediction), prediction.camera))[0, list(SEVEN_OF_68), 2]
        true = seven_landmarks(read_array(self.folder / f"heads/{self.names[index]}.npy"))
        stored = self._stored(index)
        return float(seven.mean() / (true @ stored.rotation.T + stored.translation)[:, 2].mean())

    def _landmarks(self, prediction: Prediction) -> jax.Array:
        vertices, _ = self._decode(self._model, prediction.params)
        return flame_jax.landmarks68(self._model, vertices)

    def _stored(self, index: int) -> StoredHead:
        return read_head(self.folder, self.condition, self.names[index])


def crops_of(stored: StoredHead, beyond_the_face: bool) -> Crops:
    """One head's file as crops, B = 1."""
    row = lambda x: jnp.asarray(x, jnp.float32)[None]  # noqa: E731
    return Crops(
        normals=row(stored.normals),
        mask=row(stored.mask),
        landmarks=row(stored.landmarks_2d),
        focal=row(stored.intrinsics[0, 0]),
        principal_point=row(stored.intrinsics[:2, 2]),
        uv=None if stored.uv is None else row(stored.uv),
        beyond_the_face=beyond_the_face,
    )


class PredictionFolder:
    """Predictions as the evaluator reads them: ``METHOD/CONDITION/heads/NAME.npz``."""

    def __init__(self, folder: str | Path, model: HeadModel):
        self.folder, self.model = Path(folder), model
        self._decode = jax.jit(flame_jax.decode)

    def path(self, method: str, condition: str, name: str) -> Path:
        return self.folder / method / condition / "heads" / f"{name}.npz"

    def has(self, method: str, condition: str, name: str) -> bool:
        return self.path(method, condition, name).exists()

    def write(
        self,
        method: str,
        condition: str,
        name: str,
        prediction: Prediction,
        *,
        nme_percent: float = float("nan"),
        distance_ratio: float = float("nan"),
        seconds: float = 0.0,
    ) -> None:
        """One head, B = 1."""
        vertices, _ = self._decode(self.model, prediction.params)
        landmarks = flame_jax.landmarks68(self.model, vertices)
        path = self.path(method, condition, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            np.savez(
                temporary,
                vertices=np.asarray(vertices[0], np.float32),
                faces=np.asarray(self.model.faces).astype(np.int32),
                landmarks_3d=np.asarray(landmarks[0], np.float32),
                nme_percent=np.float32(nme_percent),
                distance_ratio=np.float32(distance_ratio),
                seconds=np.float32(seconds),
            )


def write_predictions(
    folder: str | Path,
    out: str | Path,
    networks: Mapping[str, Pretrained],
    conditions: Sequence[str],
    *,
    fits: Sequence[str] = (),
    heads: int | None = None,
    adam_heads: int = 24,
    uv_places: bool = False,
    own_masks: bool = False,
    progress: bool = True,
) -> None:
    """What the mean head, networks and fits predict of every head; files that are there stay.

    Args:
        folder: of ``write_benchmark``.
        out: a ``PredictionFolder``.
        networks: name → network; fits start from the first.
        conditions: of ``files.CONDITIONS``.
        fits: of ``methods.FITS``; those from a network are left out where there is none.
        heads: the first so many; all if None.
        adam_heads: the first so many for Adam.
        uv_places: also the networks' answers with UV maps inverted (``methods.make_methods``).
        own_masks: also those with masks predicted, likewise.
        progress: show bars.

    Raises:
        BenchmarkError: no benchmark, or networks that do not fit it.
    """
    settings = read_settings(folder)
    check_networks(networks, settings["size"], settings["crop_scale"])
    model = flame_jax.load_open_head()
    methods = make_methods(
        model, networks, steps=[DEFAULT_REFINE_FACE_MESH], uv_places=uv_places, own_masks=own_masks
    )
    variants = (f"{name}{kind}" for kind in (UV_PLACES, OWN_MASKS) for name in networks)
    wanted = (MEAN, *networks, *variants, *fits)
    methods = {name: methods[name] for name in wanted if name in methods}
    names = head_names(settings, heads)
    sets = {condition: StoredHeads(folder, condition, names) for condition in conditions}
    predict_all(sets, methods, names, PredictionFolder(out, model), adam_heads=adam_heads, progress=progress)


def predict_all(
    sets: Mapping[str, HeadSet],
    methods: Mapping[str, Method],
    names: Sequence[str],
    predictions: PredictionFolder,
    *,
    adam_heads: int = 24,
    progress: bool = True,
) -> None:
    """Every method on every head of every condition, into files; what is there stays."""

    def finish(condition: str, method: str, index: int, prediction: Prediction, seconds: float) -> None:
        if method == MEAN:  # its camera is the average one, and predicts nothing
            prediction = prediction._replace(camera=None)
        figures = sets[condition].figures(index, prediction)
        predictions.write(method, condition, names[index], prediction, **figures, seconds=seconds)

    run_methods(
        sets,
        methods,
        finish,
        done=lambda condition, method, index: predictions.has(method, condition, names[index]),
        slow_heads=adam_heads,
        progress=progress,
    )


def check_networks(networks: Mapping[str, Pretrained], size: int, crop_scale: float) -> None:
    """Raises BenchmarkError where a network does not fit the benchmark's crops."""
    for name, saved in networks.items():
        inputs = saved.inputs
        if (inputs.size, inputs.crop_scale, inputs.normal_frame) != (size, crop_scale, "head"):
            raise BenchmarkError(
                f"{name} takes crops of {inputs.size} pixels, {inputs.crop_scale} times the landmarks' "
                f"box, normals of the {inputs.normal_frame}'s frame; the benchmark has {size} and "
                f"{crop_scale}: make one with --size and --crop-scale"
            )


def write_nearest(folder: str | Path, out: str | Path, heads: int | None = None) -> None:
    """``NearestHead`` as a method; the same in every condition, so it is there once (``clean``)."""
    settings = read_settings(folder)
    model = flame_jax.load_open_head()
    predictions = PredictionFolder(out, model)
    names = head_names(settings, heads)
    todo = [index for index, name in enumerate(names) if not predictions.has(NEAREST, "clean", name)]
    if not todo:
        return
    nearest, finer = NearestHead(model), load_benchmark_head()
    for first in range(0, len(todo), DRAWN_AT_ONCE):
        indices = jnp.asarray(todo[first : first + DRAWN_AT_ONCE])
        drawn = {name: settings[name] for name in ("seed", "size", "crop_scale")}
        truth = draw_scene(finer, indices, setting_of(indices), **drawn).params
        resting = dataclasses.replace(
            FlameParams.neutral(finer, indices.shape), shape=truth.shape, expression=truth.expression
        )
        prediction = nearest(flame_jax.decode(finer, resting)[0], truth.jaw, truth.eyelids)
        for row, index in enumerate(indices.tolist()):
            one = jax.tree.map(lambda x, row=row: x[row : row + 1], prediction)
            predictions.write(NEAREST, "clean", names[index], one)
