"""The correction on the surface: what an image shows at places of the predicted head, less what the head would show.

The network's pass says which head it might be. Each pass of the correction puts that head into the image, reads the
observed normal at some hundred places of its surface and, where a front end knows them, the observed image positions
of others (``models.surface``), and regresses from the differences what has to change: shape, expression, jaw, eyelids
and, without points, the camera. Pixels show another part of the face in every crop; a place shows the same one.

Each place is a token; what it has to say is weighed by a validity that is predicted from it. Not in the paper.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from flame_jax.rotations import matrix_to_rotation_6d
from n2f_jax.geometry.camera import Camera, frontal_rotation
from n2f_jax.geometry.pose import align_camera, move_camera
from n2f_jax.models.layers import LayerNorm, Mlp, linear
from n2f_jax.models.surface import (
    NUM_FACE_MESH_POINTS,
    Residuals,
    SurfacePlaces,
    decode_places,
    observed_points,
    points_of_places,
    residuals_at_places,
)

# Residuals of points are millimetres; these many metres are one.
_POINT_UNIT = 0.005
# What one unit of the output turns and shifts the camera by (radians; x/z, y/z and log z).
_TURN_UNIT, _SHIFT_UNIT = 0.1, 0.03


@dataclasses.dataclass(frozen=True)
class CorrectionConfig:
    """Sizes of the correction.

    Attributes:
        passes: how often heads are compared with their images; the weights are the same each time but for a vector.
        num_normals: places whose normals are read.
        num_points: places whose image positions are read.
        token_width: channels of a place's token.
        width: of the regression from all tokens.
        blocks: residual blocks of that.
    """

    passes: int = 2
    num_normals: int = 160
    num_points: int = 128
    token_width: int = 8
    width: int = 384
    blocks: int = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scene:
    """What the correction looks at beside the network's input. A pytree.

    Attributes:
        places: of the head model.
        focal: ``(B,)`` of the crops' cameras, crop pixels.
        principal_point: ``(B, 2)`` likewise.
        points: ``(B, 468, 3)`` the face mesh's points, crop pixels and depth in the same scale; NaN where unknown.
    """

    places: SurfacePlaces
    focal: Float[Array, " B"]
    principal_point: Float[Array, "B 2"]
    points: Float[Array, "B 468 3"]

    @classmethod
    def of_crops(
        cls,
        places: SurfacePlaces | None,
        focal: Float[Array, " B"],
        principal_point: Float[Array, "B 2"],
        points: Float[Array, "B 468 3"] | None = None,
    ) -> Scene | None:
        """Fields as above; without points none is known, and without places (a network that corrects nothing) there is
        no scene."""
        if places is None:
            return None
        if points is None:
            points = jnp.full((focal.shape[0], NUM_FACE_MESH_POINTS, 3), jnp.nan, jnp.float32)
        return cls(places, focal, principal_point, points)


class PlaceTokens(nnx.Module):
    """Residuals at places of one kind → tokens, weighed by a validity of each place's own."""

    def __init__(self, places: int, config: CorrectionConfig, *, rngs: nnx.Rngs):
        single, width = jnp.dtype("float32"), config.token_width
        self.features = linear(5, 2 * width, dtype=single, rngs=rngs)
        self.place = nnx.Param(0.1 * jax.random.normal(rngs.params(), (places, 2 * width)))
        self.validity = linear(
            2 * width, 1, dtype=single, rngs=rngs, kernel_init=nnx.initializers.zeros_init()
        )
        self.mixed = linear(2 * width, width, dtype=single, rngs=rngs)
        self.plain = linear(3, width, dtype=single, use_bias=False, rngs=rngs)

    def __call__(self, difference: Float[Array, "B P 3"], there: Float[Array, "B P"]) -> Float[Array, "B N"]:
        squared = jnp.sum(difference**2, axis=-1, keepdims=True)
        given = jnp.concatenate([difference, squared / (1.0 + squared), there[..., None]], axis=-1)
        hidden = jax.nn.gelu(self.features(given) + self.place[...][None])
        # Twice the logistic: places start with a weight of one.
        validity = 2.0 * there[..., None] * jax.nn.sigmoid(self.validity(hidden))
        tokens = validity * (self.mixed(hidden) + self.plain(difference / jnp.sqrt(1.0 + squared)))
        return tokens.reshape(tokens.shape[0], -1)


class SurfaceCorrection(nnx.Module):
    """The passes. Untrained it changes nothing: its last layer starts at zero."""

    def __init__(self, config: CorrectionConfig, num_unknowns: int, feature_width: int, *, rngs: nnx.Rngs):
        single, width = jnp.dtype("float32"), config.width
        self.passes = config.passes
        self.normal_tokens = PlaceTokens(config.num_normals, config, rngs=rngs)
        self.point_tokens = PlaceTokens(config.num_points, config, rngs=rngs)
        tokens = (config.num_normals + config.num_points) * config.token_width
        self.join = linear(tokens, width, dtype=single, use_bias=False, rngs=rngs)
        self.state = linear(num_unknowns + feature_width + 9, width, dtype=single, rngs=rngs)
        self.pass_number = nnx.Param(0.1 * jax.random.normal(rngs.params(), (config.passes, width)))
        self.norms = nnx.List([LayerNorm(width) for _ in range(config.blocks)])
        self.blocks = nnx.List(
            [Mlp(width, width, activation="gelu_tanh", dtype=single, rngs=rngs) for _ in range(config.blocks)]
        )
        self.output = linear(
            width, num_unknowns + 6, dtype=single, kernel_init=nnx.initializers.zeros_init(), rngs=rngs
        )

    def __call__(
        self,
        unknowns: Float[Array, "B U"],
        camera: Camera,
        features: Float[Array, "B width"],
        maps: Float[Array, "B S S 3"],
        mask: Float[Array, "B S S"],
        scene: Scene,
    ) -> list[tuple[Float[Array, "B U"], Camera]]:
        """Heads and cameras after each pass.

        Gradients run through what each pass regresses, and into ``features``, but not from one pass into the last:
        each learns to correct what it is given.

        Args:
            unknowns: the network's answer (``models.calibration.to_unknowns``).
            camera: the network's, of the crops.
            features: what the network's last layer is given.
            maps: normals in the head frame; mask: 1 where they count.
            scene: intrinsics and points.
        """
        places = scene.places
        given, known = observed_points(places, scene.points)
        located = known.sum(axis=-1) >= 3
        weights = known / jnp.maximum(known.sum(axis=-1, keepdims=True), 1.0)

        State = tuple[Float[Array, "B U"], Camera]

        def one(state: State, number: Int[Array, ""]) -> tuple[State, State]:
            unknowns, camera = jax.lax.stop_gradient(state)
            vertices = decode_places(places, unknowns)
            found = jax.vmap(align_camera)(
                points_of_places(places, vertices), given[..., :2], camera, weights
            )
            camera = jax.tree.map(
                lambda a, b: jnp.where(located.reshape(-1, *(1,) * (a.ndim - 1)), a, b), found, camera
            )
            residuals = jax.lax.stop_gradient(
                residuals_at_places(places, vertices, camera, maps, mask, given, known)
            )
            change = self.regress(number, residuals, unknowns, camera, features)
            count = unknowns.shape[-1]
            unknowns = unknowns + change[:, :count]
            step = change[:, count:] * jnp.asarray([_TURN_UNIT] * 3 + [_SHIFT_UNIT] * 3)[None]
            # On points the camera is found, and not regressed.
            step = jnp.where(located[:, None], 0.0, step)
            camera = jax.vmap(move_camera, in_axes=(0, None, 0))(camera, places.pivot, step)
            return (unknowns, camera), (unknowns, camera)

        # A loop, so that a pass is compiled once.
        _, results = jax.lax.scan(one, (unknowns, camera), jnp.arange(self.passes))
        return [jax.tree.map(lambda x, i=i: x[i], results) for i in range(self.passes)]

    def regress(
        self,
        number: Int[Array, ""] | int,
        residuals: Residuals,
        unknowns: Float[Array, "B U"],
        camera: Camera,
        features: Float[Array, "B width"],
    ) -> Float[Array, "B out"]:
        """What has to change, in one pass."""
        tokens = jnp.concatenate(
            [
                self.normal_tokens(residuals.normals, residuals.seen),
                self.point_tokens(residuals.points / _POINT_UNIT, residuals.known),
            ],
            axis=-1,
        )
        turn = matrix_to_rotation_6d(frontal_rotation(jnp.asarray(camera.rotation)))
        depth = jnp.log(jnp.maximum(camera.translation[:, 2:], 0.05))
        shown = jnp.stack([residuals.seen.mean(axis=-1), residuals.known.mean(axis=-1)], axis=-1)
        state = jnp.concatenate([unknowns, features, turn, depth, shown], axis=-1)
        x = self.join(tokens) + self.state(state) + self.pass_number[...][number][None]
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        return self.output(x)
