"""The arrays that sampling, drawing and losses need beside the trained parameters."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from flame_jax import HeadModel
from n2f_jax.face_mesh.coarse_mesh import CoarseMesh
from n2f_jax.models.surface import SurfacePlaces
from n2f_jax.render import HeadTopology


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Assets:
    """The arrays that sampling and losses need beside the parameters; handed to jitted functions as arguments.

    As arguments and not as constants, which would be copied into every compiled program.
    """

    model: HeadModel
    topology: HeadTopology
    coarse_mesh: CoarseMesh | None
    metric: Any = None
    places: SurfacePlaces | None = None
