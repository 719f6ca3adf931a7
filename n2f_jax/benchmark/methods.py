"""What is measured on the benchmark: networks, the mean head, fits from either, and the nearest head of the model."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Int
from tqdm import tqdm

import flame_jax
from flame_jax import FlameParams, HeadModel
from n2f_jax.benchmark.design import draw_scene, setting_of
from n2f_jax.benchmark.files import (
    CONDITIONS,
    DRAWN_AT_ONCE,
    BenchmarkError,
    Seen,
    count_heads,
    head_name,
    read_head,
    read_settings,
)
from n2f_jax.benchmark.head import load_benchmark_head
from n2f_jax.evaluation.landmarks import normalized_mean_error
from n2f_jax.evaluation.regions import template_of
from n2f_jax.fitting.adam import AdamConfig
from n2f_jax.fitting.fitters import Answer, Fitters, compiled_network
from n2f_jax.fitting.gauss_newton import GaussNewtonConfig
from n2f_jax.fitting.observations import Anchors, Observation
from n2f_jax.fitting.starts import mean_start
from n2f_jax.geometry.camera import project
from n2f_jax.models.input_channels import join_maps, maps_of
from n2f_jax.models.n2fnet import N2FNetConfig
from n2f_jax.models.pretrained import Pretrained
from n2f_jax.runtime.atomic_files import atomic_path

FITS = ("Adam from mean", "Adam from network", "Gauss-Newton from mean", "Gauss-Newton from network")
MEAN, NEAREST = "mean head", "nearest head of the model"
# Adam is timed one head at a time on so many; its answers come from batches.
_TIMED_ADAM = 2
_ADAM_BATCH = 8
# How exactly the nearest head of the model is to meet the vertices, metres; below it the prior decides.
_NEAREST_STD = 2e-4


class Networks:
    """Loaded networks, each a jitted function of what it was trained on.

    Args:
        loaded: name → network.
    """

    def __init__(self, loaded: Mapping[str, Pretrained]):
        self.loaded = dict(loaded)
        self._calls = {name: compiled_network(saved) for name, saved in self.loaded.items()}

    def can(self, name: str, seen: Seen, beyond_the_face: bool) -> bool:
        """Whether the condition has what the network is shown."""
        inputs = self.loaded[name].inputs
        return (inputs.masked or beyond_the_face) and (
            "uv" not in maps_of(inputs.channels) or seen.uv is not None
        )

    def __call__(self, name: str, seen: Sequence[Seen]) -> Answer:
        inputs = self.loaded[name].inputs
        mask = np.stack([one.mask for one in seen])
        mask = mask if inputs.masked else np.ones_like(mask)
        maps = {"normals": np.stack([one.normals for one in seen]) * mask[..., None]}
        if "uv" in maps_of(inputs.channels):
            maps["uv"] = (2.0 * np.stack([one.uv for one in seen]) - 1.0) * mask[..., None]
        focal, centre = _intrinsics(seen)
        return self._calls[name](join_maps(maps, inputs.channels), jnp.asarray(mask), focal, centre)

    def check(self, size: int, crop_scale: float) -> None:
        """Raises BenchmarkError where a network does not fit the benchmark's crops."""
        for name, saved in self.loaded.items():
            if (saved.inputs.size, saved.inputs.crop_scale, saved.inputs.normal_frame) != (
                size,
                crop_scale,
                "head",
            ):
                raise BenchmarkError(
                    f"{name} takes crops of {saved.inputs.size} pixels, {saved.inputs.crop_scale} times the landmarks' "
                    f"box, normals of the {saved.inputs.normal_frame}'s frame; the benchmark has {size} and "
                    f"{crop_scale}: make one with --size and --crop-scale"
                )


class Fits:
    """The two optimisers on the open head, and the mean head that they may start from."""

    def __init__(self, model: HeadModel, config: N2FNetConfig):
        self.model, self._config = model, config
        fitters = Fitters(model, Anchors.landmarks68(model), GaussNewtonConfig(), AdamConfig())
        self._optimisers = {"Gauss-Newton": fitters.gauss_newton, "Adam": fitters.adam}

    def mean(self, seen: Sequence[Seen]) -> Answer:
        return mean_start(self.model, *_intrinsics(seen), self._config)

    def __call__(self, optimiser: str, seen: Sequence[Seen], start: Answer) -> Answer:
        """``optimiser``: Adam or Gauss-Newton."""
        mask = np.stack([one.mask for one in seen])
        observed = Observation(
            jnp.asarray(np.stack([one.normals for one in seen]) * mask[..., None]),
            jnp.asarray(mask),
            jnp.asarray(np.stack([one.landmarks_2d for one in seen])),
        )
        return self._optimisers[optimiser](observed, start)


def _intrinsics(seen: Sequence[Seen]) -> tuple[Array, Array]:
    matrices = np.stack([one.intrinsics for one in seen]).astype(np.float32)
    return jnp.asarray(matrices[:, 0, 0]), jnp.asarray(matrices[:, :2, 2])


class NearestHeads:
    """The open head's coefficients that come nearest to the ground truth, jaw and lids known: least squares over the
    visible vertices of the resting head, under the prior that coefficients are N(0, 1)."""

    def __init__(self, model: HeadModel):
        self.model, self._finer = model, load_benchmark_head()
        self._visible = template_of(model).visible
        basis = np.concatenate([np.asarray(model.shapedirs), np.asarray(model.exprdirs)], axis=-1)
        self._rows = basis.astype(np.float64)[self._visible].reshape(3 * len(self._visible), -1)
        normal = self._rows.T @ self._rows / _NEAREST_STD**2 + np.eye(self._rows.shape[1])
        self._factor = scipy.linalg.cho_factor(normal)

    def __call__(self, indices: Int[Array, " B"], seed: int, size: int, crop_scale: float) -> FlameParams:
        """Of the benchmark's heads by number."""
        setting = setting_of(indices)
        scene = draw_scene(self._finer, indices, setting, seed=seed, size=size, crop_scale=crop_scale)
        resting = dataclasses.replace(
            FlameParams.neutral(self._finer, indices.shape),
            shape=scene.params.shape,
            expression=scene.params.expression,
        )
        shaped, _ = flame_jax.decode(self._finer, resting)
        offset = np.asarray(shaped, np.float64)[:, self._visible]
        offset -= np.asarray(self.model.v_template, np.float64)[self._visible]
        right = self._rows.T @ offset.reshape(len(offset), -1).T / _NEAREST_STD**2
        found = scipy.linalg.cho_solve(self._factor, right).T
        return dataclasses.replace(
            FlameParams.neutral(self.model, indices.shape),
            shape=jnp.asarray(found[:, : self.model.num_shape], jnp.float32),
            expression=jnp.asarray(found[:, self.model.num_shape :], jnp.float32),
            jaw=scene.params.jaw,
            eyelids=scene.params.eyelids,
        )


class Answers:
    """Writes answers as predictions for the evaluator: ``METHOD/CONDITION/heads/head000.npz``."""

    def __init__(self, folder: Path, model: HeadModel):
        self.folder, self.model = folder, model
        self._decode = jax.jit(flame_jax.decode)

    def path(self, method: str, condition: str, index: int) -> Path:
        return self.folder / method / condition / "heads" / f"{head_name(index)}.npz"

    def write(
        self,
        method: str,
        condition: str,
        indices: Sequence[int],
        seen: Sequence[Seen],
        answer: tuple,
        seconds: float = 0.0,
    ) -> None:
        """``answer``: parameters and camera; no camera where there is none to measure."""
        params, camera = answer
        vertices, _ = self._decode(self.model, params)
        landmarks = flame_jax.landmarks68(self.model, vertices)
        pixels = None if camera is None else np.asarray(project(landmarks, camera))
        faces = np.asarray(self.model.faces)
        for row, (index, one) in enumerate(zip(indices, seen, strict=False)):
            error = np.nan
            if pixels is not None:
                error = normalized_mean_error(pixels[row], one.true_landmarks_2d)["all"]
            path = self.path(method, condition, index)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                np.savez(
                    temporary,
                    vertices=np.asarray(vertices[row], np.float32),
                    faces=faces.astype(np.int32),
                    landmarks_3d=np.asarray(landmarks[row], np.float32),
                    nme_percent=np.float32(error),
                    seconds=np.float32(seconds),
                )


def run_methods(
    folder: str | Path,
    out: str | Path,
    networks: Mapping[str, Pretrained],
    conditions: Sequence[str],
    *,
    fit_from: str = "",
    fits: Sequence[str] = (),
    heads: int | None = None,
    adam_heads: int = 24,
    progress: bool = True,
) -> None:
    """Answers to every head of the benchmark; what lies under ``out`` already stays.

    Every network and Gauss–Newton is run and timed head by head (batch 1); Adam, which takes a hundred times as long,
    does the first ``adam_heads`` in batches and is timed on two of them.

    Args:
        folder: of ``write_benchmark``.
        out: ``METHOD/CONDITION/heads/head000.npz`` go here.
        networks: name → network.
        conditions: of ``files.CONDITIONS``.
        fit_from: the network that fits start from; "" leaves out those that start from one.
        fits: of ``FITS``.
        heads: the first so many; all if None.
        adam_heads: the first so many for Adam.
        progress: show a bar.

    Raises:
        BenchmarkError: no benchmark, or networks that do not fit it.
    """
    settings = read_settings(folder)
    count = count_heads(settings, heads)
    model = flame_jax.load_open_head()
    loaded = Networks(networks)
    loaded.check(settings["size"], settings["crop_scale"])
    answers = Answers(Path(out), model)
    config = next(iter(networks.values())).config if networks else N2FNetConfig()
    run = _Run(Path(folder), answers, loaded, Fits(model, config), fit_from)
    for condition in conditions:
        for index in tqdm(range(count), desc=condition, unit="head", disable=not progress):
            run.one_head(condition, index, [fit for fit in fits if not fit.startswith("Adam")])
        for fit in (fit for fit in fits if fit.startswith("Adam")):
            run.adam(
                condition, fit, min(adam_heads, count), timed=condition == conditions[0], progress=progress
            )


class _Run:
    """The state of ``run_methods``."""

    def __init__(self, folder: Path, answers: Answers, networks: Networks, fits: Fits, fit_from: str):
        self.folder, self.answers, self.networks, self.fits = folder, answers, networks, fits
        self.fit_from = fit_from
        self._warm: set[str] = set()

    def one_head(self, condition: str, index: int, fits: Sequence[str]) -> None:
        names = [MEAN, *self.networks.loaded, *filter(self._has_start, fits)]
        todo = [name for name in names if not self.answers.path(name, condition, index).exists()]
        if not todo:
            return
        whole = CONDITIONS[condition].beyond_the_face
        seen = read_head(self.folder, condition, index)
        for name in todo:
            if name == MEAN:
                self.answers.write(MEAN, condition, [index], [seen], (self.fits.mean([seen])[0], None))
            elif name in fits:
                optimiser = name.partition(" from ")[0]
                call = functools.partial(self.fits, optimiser, [seen], self._start(name, [seen]))
                self._timed(name, condition, index, seen, call)
            elif self.networks.can(name, seen, whole):
                self._timed(name, condition, index, seen, functools.partial(self.networks, name, [seen]))

    def adam(self, condition: str, fit: str, count: int, *, timed: bool, progress: bool) -> None:
        if not self._has_start(fit):
            return
        heads = [read_head(self.folder, condition, index) for index in range(count)]
        todo = [i for i in range(count) if not self.answers.path(fit, condition, i).exists()]
        for index in [i for i in todo if timed and i < _TIMED_ADAM]:
            seen = [heads[index]]
            call = functools.partial(self.fits, "Adam", seen, self._start(fit, seen))
            self._timed(fit, condition, index, heads[index], call)
            todo.remove(index)
        for first in tqdm(
            range(0, len(todo), _ADAM_BATCH), desc=f"{condition}: {fit}", unit="batch", disable=not progress
        ):
            indices = todo[first : first + _ADAM_BATCH]
            # One program: a batch that is not full repeats its first head.
            seen = [heads[i] for i in [*indices, *[indices[0]] * (_ADAM_BATCH - len(indices))]]
            answer = self.fits("Adam", seen, self._start(fit, seen))
            self.answers.write(fit, condition, indices, seen, answer)

    def _has_start(self, fit: str) -> bool:
        return not fit.endswith("from network") or bool(self.fit_from)

    def _start(self, fit: str, seen: Sequence[Seen]) -> Answer:
        return self.networks(self.fit_from, seen) if fit.endswith("from network") else self.fits.mean(seen)

    def _timed(self, method: str, condition: str, index: int, seen: Seen, call: Callable[[], Answer]) -> None:
        if method not in self._warm:  # compiles, or fetches what an earlier run compiled
            jax.block_until_ready(call())
            self._warm.add(method)
        begin = time.perf_counter()
        answer = jax.block_until_ready(call())
        self.answers.write(method, condition, [index], [seen], answer, time.perf_counter() - begin)


def write_nearest(folder: str | Path, out: str | Path, heads: int | None = None) -> None:
    """``NearestHeads`` of the benchmark as a method; the same in every condition, so it is there once (``clean``)."""
    settings = read_settings(folder)
    model = flame_jax.load_open_head()
    answers = Answers(Path(out), model)
    todo = [
        index
        for index in range(count_heads(settings, heads))
        if not answers.path(NEAREST, "clean", index).exists()
    ]
    if not todo:
        return
    nearest = NearestHeads(model)
    for first in range(0, len(todo), DRAWN_AT_ONCE):
        indices = todo[first : first + DRAWN_AT_ONCE]
        params = nearest(jnp.asarray(indices), settings["seed"], settings["size"], settings["crop_scale"])
        seen = [read_head(folder, "clean", index) for index in indices]
        answers.write(NEAREST, "clean", indices, seen, (params, None))
