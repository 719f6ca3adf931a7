"""N2FNet, the network that predicts FLAME parameters and a camera from a masked normal map (paper, section III.2).

A DINOv3 backbone turns the map into patch tokens T. The FLAME module and the camera module regress from them; both have
the same structure, a transformer encoder layer, pooling and an MLP, and each has its own weights.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Real

from flame_jax.params import FlameParams
from flame_jax.rotations import IDENTITY_6D, matrix_to_rotation_6d, rotation_6d_to_matrix
from n2f_jax.geometry.camera import Camera, frontal_rotation
from n2f_jax.models.calibration import from_unknowns, to_unknowns
from n2f_jax.models.correction import CorrectionConfig, Scene, SurfaceCorrection
from n2f_jax.models.dinov3 import DinoV3, DinoV3Config, dinov3_config
from n2f_jax.models.layers import Attention, LayerNorm, Mlp, linear

Parameterization = Literal["uvs", "translation"]

_IDENTITY = tuple(float(x) for x in IDENTITY_6D)


@dataclasses.dataclass(frozen=True)
class N2FNetConfig:
    """The network's sizes and the choices that the paper leaves open.

    Attributes:
        backbone: the DINOv3 backbone; its ``dtype`` and ``remat`` hold for the heads too.
        input_size: side in pixels of the crop that the network is trained on.
        num_shape: shape coefficients β, those of the head model.
        num_expression: expression coefficients ψ.
        head_num_heads: attention heads of each module's encoder layer (paper: 16 at width 1024).
        head_mlp_ratio: hidden channels of its feed-forward part over the width (paper: 4).
        head_norm: ``'pre'`` normalises before attention and feed-forward part and once after pooling, as the
            backbone does; ``'post'`` is PyTorch's ``TransformerEncoderLayer`` as it comes. Open in the paper;
            pre-norm stands a learning rate of 1e-3 without a long warm-up.
        pooling: tokens → one vector, open in the paper. ``'mean'`` is the mean over the tokens. ``'grid'``
            keeps where each token lies: every token is reduced to ``pool_channels``, all are laid side by side
            and mixed by one linear layer. A backbone without pretraining learns far faster so, but the input
            size is then fixed.
        pool_channels: channels a token keeps under ``'grid'``.
        regressor_layers: hidden layers, as wide as the tokens, of the MLP after pooling. Open in the paper;
            one makes the regression of the pooled feature nonlinear at little cost.
        camera_parameterization: ``'uvs'`` predicts (u, v, s) (see ``camera_from_output``); ``'translation'``
            the translation itself, which tokens of a crop do not determine.
        camera_mean: what the camera module predicts before training, (u, v, s) or the translation in metres. s is
            the log of the crop's width in metres: e^−1.55 = 0.21.
        correction: sizes of the correction on the surface (``models.correction``); None, as in the paper: there is
            none.
    """

    backbone: DinoV3Config = dataclasses.field(default_factory=lambda: dinov3_config("L"))
    input_size: int = 256
    num_shape: int = 300
    num_expression: int = 100
    head_num_heads: int = 16
    head_mlp_ratio: int = 4
    head_norm: Literal["pre", "post"] = "pre"
    pooling: Literal["mean", "grid"] = "mean"
    pool_channels: int = 32
    regressor_layers: int = 1
    camera_parameterization: Parameterization = "uvs"
    camera_mean: tuple[float, float, float] | None = None
    correction: CorrectionConfig | None = None

    def resolved_camera_mean(self) -> tuple[float, float, float]:
        """``camera_mean``, or the default of the parameterization."""
        if self.camera_mean is not None:
            return self.camera_mean
        return (0.5, 0.5, -1.55) if self.camera_parameterization == "uvs" else (0.0, 0.0, 1.0)


def n2fnet_config(variant: str = "L", **changes: Any) -> N2FNetConfig:
    """The network around a named backbone; ``'tiny'`` is the small default (128² input, 16 patch tokens).

    Args:
        variant: ``S``, ``S+``, ``B``, ``L``, ``H+`` or ``tiny``.
        **changes: fields to replace, of the network or (any other name) of its backbone.
    """
    own = {field.name for field in dataclasses.fields(N2FNetConfig)}
    backbone = dinov3_config(variant, **{k: v for k, v in changes.items() if k not in own})
    defaults: dict[str, Any] = {"backbone": backbone}
    if variant == "tiny":
        defaults |= {"input_size": 128, "pooling": "grid"}
    if variant != "L":
        # 16 heads of 64 channels at the paper's width; narrower tokens keep the 64.
        defaults["head_num_heads"] = max(1, backbone.width // 64)
    return N2FNetConfig(**(defaults | {k: v for k, v in changes.items() if k in own}))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class N2FOutput:
    """What the network predicts for a batch of crops; float32.

    Attributes:
        shape: β.
        expression: ψ.
        jaw: θ, jaw rotation as 6D (first two rows).
        eyelids: γ, left then right.
        camera_rotation_6d: 6D of ``R_φ``: the identity is a frontal face.
        camera_position: (u, v, s), or the translation in metres (see ``camera_from_output``).
        camera_parameterization: which of the two (static).
        earlier: what was predicted before the correction's last pass: the network's own answer first. Empty without
            a correction.
    """

    shape: Float[Array, "*B S"]
    expression: Float[Array, "*B E"]
    jaw: Float[Array, "*B 6"]
    eyelids: Float[Array, "*B 2"]
    camera_rotation_6d: Float[Array, "*B 6"]
    camera_position: Float[Array, "*B 3"]
    camera_parameterization: Parameterization = dataclasses.field(default="uvs", metadata={"static": True})
    earlier: tuple[N2FOutput, ...] = ()

    @property
    def camera_uvs(self) -> Float[Array, "B 3"]:
        """``camera_position`` as (u, v, s).

        Raises:
            AttributeError: the network predicts the translation.
        """
        if self.camera_parameterization != "uvs":
            raise AttributeError(f"this network's camera is a {self.camera_parameterization}, not (u, v, s)")
        return self.camera_position

    def flame_params(self) -> FlameParams:
        """The FLAME parameters, neck and eyes at rest (the camera holds the head's pose)."""
        return FlameParams.resting(self.shape, self.expression, self.jaw, self.eyelids)


class RegressionModule(nnx.Module):
    """What the FLAME module and the camera module have in common: tokens → one vector.

    A transformer encoder layer and pooling over the tokens (the paper's Block and f), then an MLP (the paper's g) whose
    output is added to a given mean. The MLP's last layer starts at zero, so an untrained network predicts ``mean``
    exactly.
    """

    def __init__(self, config: N2FNetConfig, mean: tuple[float, ...], *, rngs: nnx.Rngs):
        width, dtype = config.backbone.width, jnp.dtype(config.backbone.dtype)
        self.norm_first = config.head_norm == "pre"
        self.mean = tuple(mean)
        self.norm1 = LayerNorm(width)
        self.attention = Attention(width, config.head_num_heads, key_bias=True, dtype=dtype, rngs=rngs)
        self.norm2 = LayerNorm(width)
        self.feed_forward = Mlp(
            width,
            config.head_mlp_ratio * width,
            activation=f"gelu_{config.backbone.gelu}",
            dtype=dtype,
            rngs=rngs,
        )
        if self.norm_first:
            self.pool_norm = LayerNorm(width)
        self.pooling = config.pooling
        if config.pooling == "grid":
            num_tokens = (config.input_size // config.backbone.patch_size) ** 2
            channels = config.pool_channels
            self.pool_reduce = linear(width, channels, dtype=dtype, rngs=rngs)
            self.pool_mix = linear(num_tokens * channels, width, dtype=dtype, rngs=rngs)
        self.activation = self.feed_forward.activation
        self.hidden = nnx.List(
            [linear(width, width, dtype=dtype, rngs=rngs) for _ in range(config.regressor_layers)]
        )
        # The output is float32 whatever the rest is: coefficients of 300 directions sum up to a shape.
        self.output = linear(
            width, len(mean), kernel_init=nnx.initializers.zeros_init(), dtype=jnp.dtype("float32"), rngs=rngs
        )

    def pool(self, tokens: Float[Array, "B N width"]) -> Float[Array, "B width"]:
        """The encoder layer and the pooling of its tokens: the paper's global feature f."""
        if self.pooling == "grid":
            x = self.encode(tokens)
            if self.norm_first:
                x = self.pool_norm(x)
            x = self.pool_reduce(x).reshape(x.shape[0], -1)
            expected = self.pool_mix.kernel.shape[0]
            if x.shape[1] != expected:
                built_for = expected // self.pool_reduce.kernel.shape[1]
                raise ValueError(
                    f"the input has {tokens.shape[1]} patches; grid pooling was built for {built_for}"
                )
            return self.pool_mix(x)
        if self.norm_first:
            x = tokens + self.attention(self.norm1(tokens))
            hidden = self.feed_forward.hidden(self.norm2(x))
            # The mean commutes with the last, linear layer: pooling first saves its product on every token.
            pooled = x.mean(axis=1) + self.feed_forward.down(hidden.mean(axis=1))
            return self.pool_norm(pooled)
        return self.encode(tokens).mean(axis=1)

    def encode(self, tokens: Float[Array, "B N width"]) -> Float[Array, "B N width"]:
        """The transformer encoder layer."""
        if self.norm_first:
            x = tokens + self.attention(self.norm1(tokens))
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(tokens + self.attention(tokens))
        return self.norm2(x + self.feed_forward(x))

    def regress(self, tokens: Float[Array, "B N width"]) -> Float[Array, "B out"]:
        """The whole vector, not yet split into its parts."""
        return self.output(self.features(tokens)) + jnp.asarray(self.mean, jnp.float32)[None, :]

    def features(self, tokens: Float[Array, "B N width"]) -> Float[Array, "B width"]:
        """What the last layer is given."""
        x = self.pool(tokens)
        for layer in self.hidden:
            x = self.activation(layer(x))
        return x


class FlameModule(RegressionModule):
    """The paper's FLAME module (section III.2): patch tokens → Ω = {β, ψ, θ, γ}.

    The mean that the MLP's output is added to is the mean head at rest: zero coefficients, no jaw rotation, open eyes.
    """

    def __init__(self, config: N2FNetConfig, *, rngs: nnx.Rngs):
        self.num_shape, self.num_expression = config.num_shape, config.num_expression
        coefficients = (0.0,) * (config.num_shape + config.num_expression)
        super().__init__(config, (*coefficients, *_IDENTITY, 0.0, 0.0), rngs=rngs)

    def __call__(
        self, tokens: Float[Array, "B N width"]
    ) -> tuple[Float[Array, "B S"], Float[Array, "B E"], Float[Array, "B 6"], Float[Array, "B 2"]]:
        """Shape β, expression ψ, jaw rotation θ (6D) and eyelids γ (left, right)."""
        jaw = self.num_shape + self.num_expression
        shape, expression, jaw_6d, eyelids = jnp.split(
            self.regress(tokens), [self.num_shape, jaw, jaw + 6], axis=-1
        )
        return shape, expression, jaw_6d, eyelids


class CameraModule(RegressionModule):
    """The paper's camera module (section III.2): patch tokens → C = {R, t}; same structure as the FLAME module.

    The rotation is 6D, about a frontal face; the position is (u, v, s) or, as in the paper, the translation
    (``N2FNetConfig.camera_parameterization``); ``camera_from_output`` makes a camera of the two. The mean that the
    MLP's output is added to is a frontal face at ``N2FNetConfig.camera_mean``.
    """

    def __init__(self, config: N2FNetConfig, *, rngs: nnx.Rngs):
        super().__init__(config, (*_IDENTITY, *config.resolved_camera_mean()), rngs=rngs)

    def __call__(self, tokens: Float[Array, "B N width"]) -> tuple[Float[Array, "B 6"], Float[Array, "B 3"]]:
        """Rotation (6D of R_φ) and position."""
        rotation_6d, position = jnp.split(self.regress(tokens), [6], axis=-1)
        return rotation_6d, position


class N2FNet(nnx.Module):
    """The whole network. ``backbone``, ``flame``, ``camera`` (and ``correction``) are trained or frozen by group."""

    def __init__(self, config: N2FNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.backbone = DinoV3(config.backbone, rngs=rngs)
        self.flame = FlameModule(config, rngs=rngs)
        self.camera = CameraModule(config, rngs=rngs)
        if config.correction is not None:
            unknowns = config.num_shape + config.num_expression + 5
            self.correction = SurfaceCorrection(config.correction, unknowns, config.backbone.width, rngs=rngs)

    def tokens(
        self, normals: Float[Array, "B H W C"], mask: Float[Array, "B H W"]
    ) -> Float[Array, "B N width"]:
        """Patch tokens T of ``N_face = N ⊙ S_face``; normals lie in [−1, 1] and are not standardised."""
        return self.backbone.patch_tokens(normals * mask[..., None])

    def __call__(
        self, normals: Float[Array, "B H W C"], mask: Float[Array, "B H W"], scene: Scene | None = None
    ) -> N2FOutput:
        """FLAME parameters and camera of a batch of crops.

        Args:
            normals: unit normals in [−1, 1] (or UV, or both, by ``config.backbone.channels``); any sides that
                are multiples of the patch size, ``config.input_size`` being what was trained.
            mask: 1 on the face, 0 elsewhere; ones leave the map as it is.
            scene: what the correction needs, where the network has one; None leaves it out.
        """
        tokens = self.tokens(normals, mask)
        output = self.heads(tokens)
        if scene is None or self.config.correction is None:
            return output
        size = float(normals.shape[1])
        camera = camera_from_output(output, scene.focal, scene.principal_point, size)
        steps = self.correction(
            to_unknowns(output.flame_params()), camera, self.flame.features(tokens), normals, mask, scene
        )
        outputs = [output, *(self._corrected(unknowns, moved, size) for unknowns, moved in steps)]
        return dataclasses.replace(outputs[-1], earlier=tuple(outputs[:-1]))

    def _corrected(self, unknowns: Float[Array, "B U"], camera: Camera, size: float) -> N2FOutput:
        params = from_unknowns(unknowns, self.config.num_shape)
        kind = self.config.camera_parameterization
        answer = camera_to_output(camera, size, kind)
        return N2FOutput(params.shape, params.expression, params.jaw, params.eyelids, *answer, kind)

    def heads(self, tokens: Float[Array, "B N width"]) -> N2FOutput:
        """Both modules on patch tokens."""
        return N2FOutput(*self.flame(tokens), *self.camera(tokens), self.config.camera_parameterization)


def camera_from_output(
    output: N2FOutput,
    focal: float | Float[Array, "..."],
    principal_point: Float[Array, "... 2"],
    size: float | Real[Array, ""],
) -> Camera:
    """The crop's camera from the network's output.

    With (u, v, s): the head's origin lies at ``size·(u, v)`` in the crop and the crop is ``e^s`` metres wide
    at its depth, so ``t_z = (f / size)·e^s`` and ``t_xy = (size·(u, v) − c)·t_z / f``. The same numbers hold
    for a crop of any pixel size.

    Args:
        output: what the network predicts.
        focal: focal length of the crop's camera f*, in pixels of the crop; broadcasts against the batch.
        principal_point: the crop's principal point c*, in pixels of the crop.
        size: side of the crop in pixels.
    """
    batch = output.camera_position.shape[:-1]
    focal = jnp.broadcast_to(jnp.asarray(focal, jnp.float32), batch)
    principal_point = jnp.broadcast_to(jnp.asarray(principal_point, jnp.float32), (*batch, 2))
    rotation = frontal_rotation(rotation_6d_to_matrix(output.camera_rotation_6d))
    if output.camera_parameterization == "translation":
        translation = output.camera_position
    else:
        uv, s = output.camera_position[..., :2], output.camera_position[..., 2]
        # t_z / f, which is finite whatever the focal length.
        metres_per_pixel = jnp.exp(s) / size
        xy = (size * uv - principal_point) * metres_per_pixel[..., None]
        translation = jnp.concatenate([xy, (focal * metres_per_pixel)[..., None]], axis=-1)
    return Camera(rotation, translation, focal, principal_point)


def camera_to_output(
    camera: Camera, size: float, parameterization: Parameterization
) -> tuple[Float[Array, "... 6"], Float[Array, "... 3"]]:
    """``camera_rotation_6d`` and ``camera_position`` of a crop's camera: the inverse of ``camera_from_output``."""
    turn = matrix_to_rotation_6d(frontal_rotation(jnp.asarray(camera.rotation)))
    position = uvs_from_camera(camera, size) if parameterization == "uvs" else jnp.asarray(camera.translation)
    return turn, position


def uvs_from_camera(camera: Camera, size: float) -> Float[Array, "... 3"]:
    """(u, v, s) of a crop's camera."""
    metres_per_pixel = camera.translation[..., 2] / camera.focal
    uv = camera.translation[..., :2] / metres_per_pixel[..., None] + camera.principal_point
    return jnp.concatenate([uv / size, jnp.log(metres_per_pixel * size)[..., None]], axis=-1)
