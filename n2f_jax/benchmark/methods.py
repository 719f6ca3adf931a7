"""Methods that predict heads from crops: the mean head, networks, and fits by Gauss–Newton or Adam from either.

A method is a name in the table of ``make_methods`` and a function of ``Crops``; a new one is one more entry. All share
the compiled networks and optimisers. ``run.run_methods`` runs them on any set of heads.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

import flame_jax
from flame_jax import FlameParams, HeadModel
from n2f_jax.evaluation.regions import template_of
from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS
from n2f_jax.face_mesh.embedding import face_mesh_embedding, places_of_correction
from n2f_jax.fitting.adam import AdamConfig, AdamTables, fit_adam
from n2f_jax.fitting.gauss_newton import GaussNewtonConfig, fit_images, gauss_newton_steps
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.observations import Anchors, Observation
from n2f_jax.fitting.prior import AnswerModel
from n2f_jax.fitting.starts import mean_start
from n2f_jax.frontends import DEFAULT_LANDMARKS
from n2f_jax.frontends.base import FrontendFace
from n2f_jax.geometry.camera import Camera, to_camera
from n2f_jax.geometry.focal import Focal
from n2f_jax.models.correction import Scene
from n2f_jax.models.face_mask import predict_masks
from n2f_jax.models.input_channels import join_maps, maps_of
from n2f_jax.models.n2fnet import N2FNetConfig, camera_from_output
from n2f_jax.models.parameters import functional
from n2f_jax.models.pretrained import Pretrained
from n2f_jax.models.uv_places import places_in_uv_map, texture_places
from n2f_jax.reconstruction.face_batch import FaceBatch
from n2f_jax.reconstruction.reconstructor import DEFAULT_REFINE, DEFAULT_REFINE_FACE_MESH, Reconstructor

MEAN, NEAREST = "mean head", "nearest head of the model"
# After a network's name.
UV_PLACES, OWN_MASKS = ", UV as places", ", masks predicted"
FITS = (
    *("Adam from mean", "Adam from network", "Gauss-Newton from mean", "Gauss-Newton from network"),
    f"Gauss-Newton from network, {DEFAULT_REFINE_FACE_MESH} steps",
)
# How exactly the nearest head of the model is to meet the vertices, metres; below it the prior decides.
_NEAREST_STD = 2e-4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Crops:
    """What methods are given: B crops of S pixels. A pytree.

    Attributes:
        normals: unit, head frame; beyond the mask where ``beyond_the_face``.
        mask: 0 or 1.
        landmarks: the 68, pixels of the crop; NaN where not found.
        focal, principal_point: of the crops' cameras, pixels of the crop.
        points: the face mesh's points, pixels of the crop and depth (``FaceBatch.points``), where a front end found
            them.
        scores: of ARKit's units, where a front end gives them.
        activations: of its landmark network, likewise.
        uv: in [0, 1], where a front end gives it.
        beyond_the_face: whether ``normals`` are those of the whole head, for networks without segmentation (static).
    """

    normals: Float[Array, "B S S 3"]
    mask: Float[Array, "B S S"]
    landmarks: Float[Array, "B 68 2"]
    focal: Float[Array, " B"]
    principal_point: Float[Array, "B 2"]
    points: Float[Array, "B 468 3"] | None = None
    scores: Float[Array, "B 51"] | None = None
    activations: Float[Array, "B 2 D"] | None = None
    uv: Float[Array, "B S S 2"] | None = None
    beyond_the_face: bool = dataclasses.field(default=False, metadata={"static": True})

    @classmethod
    def of_face(cls, face: FrontendFace, image_size: tuple[int, int], focal: Focal, size: int) -> Crops:
        """What a front end found in a photograph, B = 1, as ``Reconstructor`` shows it to the network.

        Args:
            face: the front end's.
            image_size: (height, width) of the photograph.
            focal: of the photograph.
            size: of the network's input.
        """
        batch = FaceBatch.of_faces([face], [image_size], [focal], size=size, channels="normals", padded_to=1)
        return cls(
            batch.normals,
            batch.mask,
            batch.landmarks,
            batch.focal,
            batch.principal_point,
            batch.points,
            jnp.asarray(batch.scores),
            jnp.asarray(batch.activations),
        )

    @property
    def face_normals(self) -> Float[Array, "B S S 3"]:
        """Zero outside the mask."""
        return self.normals * self.mask[..., None]

    @property
    def mesh_points(self) -> Float[Array, "B 468 3"]:
        """NaN where there are none."""
        if self.points is not None:
            return self.points
        return jnp.full((len(self.mask), NUM_POINTS, 3), jnp.nan, jnp.float32)


class Prediction(NamedTuple):
    """B heads and the cameras of their crops; no camera where a method does not predict one."""

    params: FlameParams
    camera: Camera | None


@dataclasses.dataclass(frozen=True)
class Method:
    """One way from crops to heads.

    Attributes:
        predict: the function.
        accepts: whether crops hold what it needs.
        slow: whether it is run on a few heads only (Adam takes a hundred times as long as the others).
    """

    predict: Callable[[Crops], Prediction]
    accepts: Callable[[Crops], bool] = lambda crops: True
    slow: bool = False

    def __call__(self, crops: Crops) -> Prediction:
        return self.predict(crops)


def make_methods(
    model: HeadModel,
    networks: Mapping[str, Pretrained],
    *,
    photographs: bool = False,
    steps: Sequence[int] = (),
    uv_places: bool = False,
    own_masks: bool = False,
) -> dict[str, Method]:
    """The mean head, the networks, and fits from the mean head and from the first network.

    Args:
        model: the head model.
        networks: name → network.
        photographs: the crops are of photographs. Their landmarks' contour is that of the view, so fits leave it out
            and take the face mesh's points where they are embedded in the model; the network's camera is aligned with
            all of these, as ``Reconstructor`` does.
        steps: also Gauss–Newton from the network with so many steps, as ``Gauss-Newton from network, 2 steps``.
        uv_places: also networks with a correction that is told where the crops' UV maps, inverted, say that the face
            mesh's points are, as ``network, UV as places``.
        own_masks: also masked networks on crops that nobody segmented, with the mask that their normals tell
            (``models.face_mask``), as ``network, masks predicted``.

    Returns:
        name → method. Fits are those of ``FITS``.
    """
    config = next(iter(networks.values())).config if networks else N2FNetConfig()
    known = next((saved.face_mesh for saved in networks.values()), None)
    embedding = face_mesh_embedding(model, known) if photographs else None
    anchors = Anchors.photograph(model, embedding) if photographs else Anchors.landmarks68(model)
    tables = functools.cache(lambda: HeadTables.from_model(model))
    adam_tables = functools.cache(lambda: AdamTables.from_model(model))
    fit, descend = (jax.jit(function, static_argnames="config") for function in (fit_images, fit_adam))

    def mean(crops: Crops) -> Prediction:
        return Prediction(*mean_start(model, crops.focal, crops.principal_point, config))

    first = next(iter(networks.values()), None)

    @functools.cache
    def answers() -> AnswerModel:
        return AnswerModel.make(tables(), first.calibration.get("normals") if first else None)

    def gauss_newton(start: Method, config: GaussNewtonConfig, answered: bool, crops: Crops) -> Prediction:
        points = crops.landmarks
        if embedding is not None:
            points = jnp.concatenate([points, crops.mesh_points[..., :2]], axis=1)
        observed = Observation(crops.face_normals, crops.mask, points)
        params, camera = start(crops)
        prior = None
        if answered:
            prior = answers().prior(params)
            params = prior.heads(model.num_shape)
        return Prediction(*fit(tables(), anchors, observed, params, camera, config=config, prior=prior)[:2])

    def adam(start: Method, crops: Crops) -> Prediction:
        observed = Observation(crops.face_normals, crops.mask, crops.landmarks)
        return Prediction(*descend(model, adam_tables(), observed, *start(crops), config=AdamConfig())[:2])

    make_network = functools.partial(_pipeline if photographs else _network, model)
    methods = {MEAN: Method(mean)} | {name: make_network(saved) for name, saved in networks.items()}
    if uv_places:
        corrected = {name: saved for name, saved in networks.items() if saved.config.correction is not None}
        methods |= {f"{name}{UV_PLACES}": _uv_places(model, saved) for name, saved in corrected.items()}
    if own_masks:
        masked = {name: saved for name, saved in networks.items() if saved.inputs.masked}
        methods |= {f"{name}{OWN_MASKS}": _own_masks(methods[name]) for name in masked}
    starts = {"mean": methods[MEAN]}
    if networks:
        starts["network"] = methods[next(iter(networks))]
    counts = {"": DEFAULT_REFINE}
    for name, start in starts.items():
        methods[f"Adam from {name}"] = Method(functools.partial(adam, start), start.accepts, slow=True)
        if name == "network":
            counts |= {f", {count} steps": count for count in steps}
        for suffix, count in counts.items():
            label = f"Gauss-Newton from {name}{suffix}"
            if name == "network" and photographs:
                methods[label] = _pipeline(model, first, count)
                continue
            fit_config = gauss_newton_steps(count, of_face_mesh=photographs)
            predict = functools.partial(gauss_newton, start, fit_config, name == "network")
            methods[label] = Method(predict, start.accepts)
    return methods


def _network(model: HeadModel, saved: Pretrained) -> Method:
    """A network, jitted, on what it was trained on."""
    inputs = saved.inputs
    forward, params = functional(saved.network)
    has_uv = "uv" in maps_of(inputs.channels)
    places = places_of_correction(model, saved.config.correction, saved.face_mesh)

    @jax.jit
    def call(
        params: Any, places: Any, maps: Array, mask: Array, focal: Array, principal_point: Array
    ) -> Prediction:
        output = forward(params, maps, mask, Scene.of_crops(places, focal, principal_point))
        camera = camera_from_output(output, focal, principal_point, inputs.size)
        return Prediction(output.flame_params(), camera)

    def predict(crops: Crops) -> Prediction:
        mask = crops.mask if inputs.masked else jnp.ones_like(crops.mask)
        maps = {"normals": crops.normals * mask[..., None]}
        if has_uv:
            maps["uv"] = (2.0 * crops.uv - 1.0) * mask[..., None]
        joined = join_maps(maps, inputs.channels)
        return call(params, places, joined, mask, crops.focal, crops.principal_point)

    def accepts(crops: Crops) -> bool:
        return (inputs.masked or crops.beyond_the_face) and not (has_uv and crops.uv is None)

    return Method(predict, accepts)


def _own_masks(network: Method) -> Method:
    """A network that is told no mask: where the crops have none, it is predicted from the normals."""

    def predict(crops: Crops) -> Prediction:
        return network(dataclasses.replace(crops, mask=predict_masks(crops.normals)))

    return Method(predict, lambda crops: bool(jnp.all(crops.mask > 0.0)) and network.accepts(crops))


def _uv_places(model: HeadModel, saved: Pretrained) -> Method:
    """A network, jitted, and the image positions of the face mesh's points by the crops' UV maps.

    A UV map does not say how deep the points lie: that is the network's first answer, without them.
    """
    inputs = saved.inputs
    forward, params = functional(saved.network)
    places = places_of_correction(model, saved.config.correction, saved.face_mesh)
    embedding = face_mesh_embedding(model, saved.face_mesh)
    if embedding is None:
        raise ValueError("the face mesh's points are not embedded in the head model")
    wanted = texture_places(model, *embedding)

    @jax.jit
    def call(params: Any, places: Any, model: HeadModel, wanted: Array, crops: Crops) -> Prediction:
        intrinsics = crops.focal, crops.principal_point

        def answer(points: Array | None) -> Prediction:
            scene = Scene.of_crops(places, *intrinsics, points)
            output = forward(params, crops.face_normals, crops.mask, scene)
            return Prediction(output.flame_params(), camera_from_output(output, *intrinsics, inputs.size))

        heads, camera = answer(None)
        vertices, _ = flame_jax.decode(model, heads)
        depth = to_camera(flame_jax.points_on_mesh(vertices, model.faces, *embedding), camera)[..., 2:]
        depth = depth * (crops.focal[:, None] / depth.mean(axis=1))[..., None]
        pixels = jax.vmap(places_in_uv_map, in_axes=(0, 0, None))(crops.uv, crops.mask, wanted)
        return answer(jnp.concatenate([pixels, depth], axis=-1))

    def accepts(crops: Crops) -> bool:
        return crops.uv is not None and inputs.masked

    return Method(lambda crops: call(params, places, model, wanted, crops), accepts)


def _pipeline(model: HeadModel, saved: Pretrained, refine: int = 0) -> Method:
    """What ``Reconstructor`` makes of what the free front end found, with so many steps of refinement."""
    maps = f"face_mesh_{DEFAULT_LANDMARKS}"
    reconstructor = functools.cache(lambda: Reconstructor(saved, model, refine=refine, maps=maps))

    def predict(crops: Crops) -> Prediction:
        intrinsics = crops.focal, crops.principal_point
        seen = crops.landmarks, crops.mesh_points, crops.scores, crops.activations
        result = reconstructor().predict(crops.face_normals, crops.mask, *intrinsics, *seen)
        return Prediction(result.params, result.camera)

    return Method(predict)


class NearestHead:
    """The model's coefficients that come nearest to true vertices, jaw and lids known: least squares over the visible
    vertices of the resting head, under the prior that coefficients are N(0, 1). What no method can beat."""

    def __init__(self, model: HeadModel):
        self.model = model
        self._visible = template_of(model).visible
        basis = np.concatenate([np.asarray(model.shapedirs), np.asarray(model.exprdirs)], axis=-1)
        self._rows = basis.astype(np.float64)[self._visible].reshape(3 * len(self._visible), -1)
        normal = self._rows.T @ self._rows / _NEAREST_STD**2 + np.eye(self._rows.shape[1])
        self._factor = scipy.linalg.cho_factor(normal)

    def __call__(
        self, resting: Float[Array, "B V 3"], jaw: Float[Array, "B 6"], eyelids: Float[Array, "B 2"]
    ) -> Prediction:
        """``resting``: true heads with jaw and lids at rest; the model's vertices come first."""
        offset = np.asarray(resting, np.float64)[:, self._visible]
        offset -= np.asarray(self.model.v_template, np.float64)[self._visible]
        right = self._rows.T @ offset.reshape(len(offset), -1).T / _NEAREST_STD**2
        found = scipy.linalg.cho_solve(self._factor, right).T
        params = dataclasses.replace(
            FlameParams.neutral(self.model, (len(offset),)),
            shape=jnp.asarray(found[:, : self.model.num_shape], jnp.float32),
            expression=jnp.asarray(found[:, self.model.num_shape :], jnp.float32),
            jaw=jaw,
            eyelids=eyelids,
        )
        return Prediction(params, None)
