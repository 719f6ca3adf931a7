"""Networks and both optimisers as compiled functions with one answer: what comparisons of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array

from flame_jax import FlameParams, HeadModel
from n2f_jax.fitting.adam import AdamConfig, AdamTables, fit_adam
from n2f_jax.fitting.gauss_newton import GaussNewtonConfig, fit_images
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.observations import Anchors, Observation
from n2f_jax.geometry.camera import Camera
from n2f_jax.models.n2fnet import camera_from_output
from n2f_jax.models.parameters import functional
from n2f_jax.models.pretrained import Pretrained

Answer = tuple[FlameParams, Camera]


def compiled_network(saved: Pretrained) -> Callable[..., Answer]:
    """``(maps, mask, focal, principal_point) → Answer`` of a network, B in front; intrinsics are those of the crops."""
    forward, params = functional(saved.network)

    @jax.jit
    def call(params: Any, maps: Array, mask: Array, focal: Array, principal_point: Array) -> Answer:
        output = forward(params, maps, mask)
        return output.flame_params(), camera_from_output(output, focal, principal_point, saved.inputs.size)

    return lambda *given: call(params, *given)


class Fitters:
    """Gauss–Newton and Adam on one head model; tables are made once.

    Args:
        model: the head model.
        anchors: which points Gauss–Newton is given; Adam takes the 68 landmarks.
        gauss_newton, adam: how to fit.
    """

    def __init__(self, model: HeadModel, anchors: Anchors, gauss_newton: GaussNewtonConfig, adam: AdamConfig):
        self.model, self._anchors = model, anchors
        self._gauss_newton_config, self._adam_config = gauss_newton, adam
        self.tables, self._adam_tables = HeadTables.from_model(model), AdamTables.from_model(model)
        self._fit, self._descend = (jax.jit(f, static_argnames="config") for f in (fit_images, fit_adam))

    def gauss_newton(self, seen: Observation, start: Answer) -> Answer:
        """B images of different people; ``seen.points`` are those of the anchors."""
        return self._fit(self.tables, self._anchors, seen, *start, config=self._gauss_newton_config)[:2]

    def adam(self, seen: Observation, start: Answer) -> Answer:
        """B images; ``seen.points`` are the 68 landmarks."""
        return self._descend(self.model, self._adam_tables, seen, *start, config=self._adam_config)[:2]
