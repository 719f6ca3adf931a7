"""N2FNet in PyTorch: normal map + mask → FLAME parameters, camera and, with a head model, vertices.

Needs PyTorch and safetensors only; no JAX, and of this package nothing but ``torch_correction.py``, for networks with a
correction on the surface. ``scripts/export_torch.py`` writes the folders that ``load`` reads and puts a copy of this
file in each (of the other, too, where it is needed), so either works:

    from n2f_jax.export.torch_n2fnet import load    # the package is installed
    from torch_n2fnet import load                   # run inside the exported folder

    network = load("folder")                        # in eval mode
    prediction = network(normals, mask, focal, principal_point)

Units, frames and axes are the JAX package's: metres, radians; head frame x to the subject's left, y up, z out of the
face; camera x right, y down, z forward, ``x_cam = R · x_head + t``; pixels count from the crop's top left corner,
centres at +0.5. Images are channels-first, as PyTorch has them.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

FORMAT = "n2f-jax/n2fnet-torch"
FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
LAYER_NORM_EPSILON = 1e-5
IDENTITY_6D = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# Parts that are not trained and lie in files of their own.
NOT_TRAINED = ("head_model.", "places.")
# Where the camera starts before training; ``network.camera_mean`` of the config goes before it.
CAMERA_MEANS = {"uvs": (0.5, 0.5, -1.55), "translation": (0.0, 0.0, 1.0)}


class FolderError(ValueError):
    """An exported folder cannot be used; the message says which file and why."""


class Prediction(NamedTuple):
    """What the network says of B crops.

    Attributes:
        shape: ``(B, S)`` β.
        expression: ``(B, E)`` ψ.
        jaw: ``(B, 6)`` jaw rotation, the first two rows of its matrix.
        eyelids: ``(B, 2)`` closure, left then right; 0 as modelled, 1 closed.
        camera_rotation_6d: ``(B, 6)`` of ``R_φ``; the identity is a frontal face.
        camera_position: ``(B, 3)`` (u, v, s): the head's origin in shares of the crop, and the log of the crop's width
            in metres at its depth; or the translation itself, if ``network.camera_parameterization`` says so.
        rotation: ``(B, 3, 3)`` R, head frame to camera frame.
        translation: ``(B, 3)`` t in metres; None if the crop's intrinsics were not given.
        vertices: ``(B, V, 3)`` head frame, metres; None without a head model.
    """

    shape: Tensor
    expression: Tensor
    jaw: Tensor
    eyelids: Tensor
    camera_rotation_6d: Tensor
    camera_position: Tensor
    rotation: Tensor
    translation: Tensor | None = None
    vertices: Tensor | None = None


class Attention(nn.Module):
    """Multi-head self-attention; the backbone's key projection has no bias."""

    def __init__(self, width: int, num_heads: int, key_bias: bool):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=key_bias)
        self.v_proj = nn.Linear(width, width)
        self.o_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        query, key, value = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        if rotary is not None:
            query, key = rotate(query, *rotary), rotate(key, *rotary)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each channel pair ``(c, c + half)`` by its token's angle."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Mlp(nn.Module):
    """``down(act(up(x)))``, or the gated ``down(silu(gate(x)) · up(x))`` of DINOv3 S+ and H+."""

    def __init__(self, width: int, hidden: int, gelu: str, gated: bool = False):
        super().__init__()
        self.gelu = "tanh" if gelu == "tanh" else "none"
        if gated:
            self.gate_proj = nn.Linear(width, hidden)
        self.gated = gated
        self.up_proj = nn.Linear(width, hidden)
        self.down_proj = nn.Linear(hidden, width)

    def hidden(self, x: Tensor) -> Tensor:
        up = self.up_proj(x)
        return F.silu(self.gate_proj(x)) * up if self.gated else F.gelu(up, approximate=self.gelu)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.hidden(x))


class LayerScale(nn.Module):
    """A learned gain per channel on a residual branch."""

    def __init__(self, width: int):
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.lambda1


class Block(nn.Module):
    """One pre-norm transformer block of DINOv3."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        width = config["width"]
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.attention = Attention(width, config["num_heads"], key_bias=False)
        self.layer_scale1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.mlp = Mlp(width, config["mlp_width"], config["gelu"], config["gated_mlp"])
        self.layer_scale2 = LayerScale(width)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.layer_scale1(self.attention(self.norm1(x), rotary))
        return x + self.layer_scale2(self.mlp(self.norm2(x)))


class Embeddings(nn.Module):
    """Patches to tokens, with the class token and the registers in front."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        width, patch = config["width"], config["patch_size"]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, config["num_registers"], width))
        self.patch_embeddings = nn.Conv2d(config["channels"], width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embeddings(images).flatten(2).transpose(1, 2)
        prefix = torch.cat([self.cls_token, self.register_tokens], dim=1)
        return torch.cat([prefix.expand(images.shape[0], -1, -1), patches], dim=1)


class RotaryPositions(nn.Module):
    """Angles of a patch grid; the periods come with the weights."""

    def __init__(self, head_dim: int):
        super().__init__()
        self.register_buffer("periods", torch.ones(head_dim // 4))

    def forward(self, rows: int, columns: int, prefix: int) -> tuple[Tensor, Tensor]:
        def centres(count: int) -> Tensor:
            steps = torch.arange(count, dtype=torch.float32, device=self.periods.device)
            return 2.0 * (steps + 0.5) / count - 1.0

        grid = torch.stack(torch.meshgrid(centres(rows), centres(columns), indexing="ij"), dim=-1)
        angles = 2.0 * math.pi * grid.reshape(rows * columns, 2, 1) / self.periods
        angles = F.pad(angles.flatten(1), (0, 0, prefix, 0))
        return angles.cos(), angles.sin()


class Backbone(nn.Module):
    """DINOv3: images → patch tokens after the final norm. Names of its weights are Hugging Face's."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.patch_size = config["patch_size"]
        self.num_prefix_tokens = 1 + config["num_registers"]
        self.embeddings = Embeddings(config)
        self.rope = RotaryPositions(config["width"] // config["num_heads"])
        self.layer = nn.ModuleList([Block(config) for _ in range(config["depth"])])
        self.norm = nn.LayerNorm(config["width"], eps=LAYER_NORM_EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"the image is {height}×{width} pixels; both must be multiples of the patch size {self.patch_size}"
            )
        rotary = self.rope(height // self.patch_size, width // self.patch_size, self.num_prefix_tokens)
        x = self.embeddings(images)
        for block in self.layer:
            x = block(x, rotary)
        return self.norm(x[:, self.num_prefix_tokens :])


class RegressionModule(nn.Module):
    """Tokens → one vector: encoder layer, pooling, MLP, residual on a mean."""

    def __init__(self, config: dict[str, Any], mean: tuple[float, ...]):
        super().__init__()
        backbone = config["backbone"]
        width = backbone["width"]
        self.gelu = "tanh" if backbone["gelu"] == "tanh" else "none"
        self.norm_first = config["head_norm"] == "pre"
        self.pooling = config["pooling"]
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.attention = Attention(width, config["head_num_heads"], key_bias=True)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.feed_forward = Mlp(width, config["head_mlp_ratio"] * width, backbone["gelu"])
        if self.norm_first:
            self.pool_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        if self.pooling == "grid":
            tokens = (config["input_size"] // backbone["patch_size"]) ** 2
            self.pool_reduce = nn.Linear(width, config["pool_channels"])
            self.pool_mix = nn.Linear(tokens * config["pool_channels"], width)
        self.hidden = nn.ModuleList([nn.Linear(width, width) for _ in range(config["regressor_layers"])])
        self.output = nn.Linear(width, len(mean))
        self.register_buffer("mean", torch.tensor(mean), persistent=False)

    def encode(self, tokens: Tensor) -> Tensor:
        if self.norm_first:
            x = tokens + self.attention(self.norm1(tokens))
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(tokens + self.attention(tokens))
        return self.norm2(x + self.feed_forward(x))

    def pool(self, tokens: Tensor) -> Tensor:
        if self.pooling == "grid":
            x = self.encode(tokens)
            if self.norm_first:
                x = self.pool_norm(x)
            return self.pool_mix(self.pool_reduce(x).flatten(1))
        if self.norm_first:
            x = tokens + self.attention(self.norm1(tokens))
            hidden = self.feed_forward.hidden(self.norm2(x))
            # The mean commutes with the last, linear layer.
            return self.pool_norm(x.mean(1) + self.feed_forward.down_proj(hidden.mean(1)))
        return self.encode(tokens).mean(1)

    def features(self, tokens: Tensor) -> Tensor:
        """What the last layer is given."""
        x = self.pool(tokens)
        for layer in self.hidden:
            x = F.gelu(layer(x), approximate=self.gelu)
        return x

    def answer(self, features: Tensor) -> Tensor:
        return self.output(features) + self.mean

    def forward(self, tokens: Tensor) -> Tensor:
        return self.answer(self.features(tokens))


def flame_mean(config: dict[str, Any]) -> tuple[float, ...]:
    """What the FLAME module says before training: the mean head at rest."""
    return (*(0.0,) * (config["num_shape"] + config["num_expression"]), *IDENTITY_6D, 0.0, 0.0)


def camera_mean(config: dict[str, Any]) -> tuple[float, ...]:
    """What the camera module says before training: a frontal face in the middle of the crop."""
    return (*IDENTITY_6D, *(config["camera_mean"] or CAMERA_MEANS[config["camera_parameterization"]]))


class N2FNet(nn.Module):
    """The whole network.

    Args:
        config: the ``network`` part of ``config.json``.
        head_model: decodes the parameters to vertices; None leaves ``Prediction.vertices`` empty.
        places: where the correction looks (``torch_correction.Places``); needed by networks that have one.
    """

    def __init__(
        self, config: dict[str, Any], head_model: HeadModel | None = None, places: nn.Module | None = None
    ):
        super().__init__()
        self.config = config
        self.head_model = head_model
        self.places = places
        self.splits = (config["num_shape"], config["num_expression"], 6, 2)
        self.backbone = Backbone(config["backbone"])
        self.flame = RegressionModule(config, flame_mean(config))
        self.camera = RegressionModule(config, camera_mean(config))
        self.correction = None
        if config.get("correction"):
            self.correction = correction_module().SurfaceCorrection(config)

    def forward(
        self,
        normals: Tensor,
        mask: Tensor,
        focal: Tensor | None = None,
        principal_point: Tensor | None = None,
        points: Tensor | None = None,
    ) -> Prediction:
        """Parameters, camera and vertices of B crops; corrected on the surface, if the network has a correction and the
        crops' intrinsics are given.

        Args:
            normals: ``(B, C, H, W)`` in [−1, 1]; ``inputs`` of ``config.json`` says what the channels are, in which
                frame, and how the crop is made.
            mask: ``(B, H, W)`` or ``(B, 1, H, W)``: 1 on the face, 0 elsewhere.
            focal: ``(B,)`` focal length of the crop's camera, pixels of the crop.
            principal_point: ``(B, 2)`` of the crop's camera, pixels of the crop.
            points: ``(B, 468, 3)`` points of MediaPipe's face mesh, for the correction: pixels of the crop, and depth
                in the same scale, growing away from the camera; NaN where unknown. The camera is then put on them. None
                if none is known.

        Raises:
            ValueError: points without intrinsics, of another shape, or for a network without a correction; a correction
                without its places.
        """
        calibrated = focal is not None and principal_point is not None
        if points is not None and (self.correction is None or not calibrated):
            raise ValueError("points need a network with a correction, a focal length and a principal point")
        if points is not None and points.shape[1:] != (468, 3):
            raise ValueError(f"points have shape {tuple(points.shape)}; (B, 468, 3) are expected")
        if mask.ndim == 3:
            mask = mask[:, None]
        tokens = self.backbone(normals * mask)
        features = self.flame.features(tokens)
        shape, expression, jaw, eyelids = self.flame.answer(features).split(self.splits, dim=-1)
        rotation_6d, position = self.camera(tokens).split((6, 3), dim=-1)
        # Columns y and z negated: from the head pose to the axes of the camera.
        signs = torch.tensor([1.0, -1.0, -1.0], dtype=position.dtype, device=position.device)
        rotation = rotation_6d_to_matrix(rotation_6d) * signs
        translation = vertices = None
        if focal is not None and principal_point is not None:
            translation = self.translation(position, focal, principal_point, normals.shape[-1])
            if self.correction is not None:
                if self.places is None:
                    raise ValueError("the network has a correction, and not the places where it looks")
                part = correction_module()
                jaw = part.matrix_to_axis_angle(rotation_6d_to_matrix(jaw))
                unknowns, camera = self.correction(
                    self.places,
                    torch.cat([shape, expression, jaw, eyelids], dim=-1),
                    part.Camera(rotation, translation, focal.reshape(-1), principal_point),
                    features,
                    normals,
                    mask,
                    points,
                )
                shape, expression, jaw, eyelids = unknowns.split((*self.splits[:2], 3, 2), dim=-1)
                jaw = part.axis_angle_to_matrix(jaw)[:, :2].flatten(1)
                rotation, translation = camera.rotation, camera.translation
                rotation_6d = (rotation * signs)[:, :2].flatten(1)
                position = self.position(translation, focal, principal_point, normals.shape[-1])
        if self.head_model is not None:
            vertices = self.head_model(shape, expression, jaw, eyelids)
        return Prediction(
            shape, expression, jaw, eyelids, rotation_6d, position, rotation, translation, vertices
        )

    def translation(self, position: Tensor, focal: Tensor, principal_point: Tensor, size: int) -> Tensor:
        """t from (u, v, s): ``t_z = (f / size)·e^s``, ``t_xy = (size·(u, v) − c)·t_z / f``."""
        if self.config["camera_parameterization"] == "translation":
            return position
        metres_per_pixel = position[:, 2:].exp() / size
        xy = (size * position[:, :2] - principal_point) * metres_per_pixel
        return torch.cat([xy, focal.reshape(-1, 1) * metres_per_pixel], dim=-1)

    def position(self, translation: Tensor, focal: Tensor, principal_point: Tensor, size: int) -> Tensor:
        """The other way."""
        if self.config["camera_parameterization"] == "translation":
            return translation
        metres_per_pixel = translation[:, 2:] / focal.reshape(-1, 1)
        uv = translation[:, :2] / metres_per_pixel + principal_point
        return torch.cat([uv / size, (metres_per_pixel * size).log()], dim=-1)


def correction_module() -> Any:
    """``torch_correction.py``, which lies beside this file, in a package or not."""
    return importlib.import_module(".torch_correction" if __package__ else "torch_correction", __package__)


class HeadModel(nn.Module):
    """A FLAME-format head model with neck and eyes at rest: blendshapes, linear blend skinning, eyelids.

    Args:
        arrays: ``v_template (V, 3)``, ``shapedirs (V, 3, S)``, ``exprdirs (V, 3, E)``, ``posedirs (V, 3, 36)``,
            ``eyelids (2, V, 3)``, ``J_regressor (5, V)``, ``weights (V, 5)``, ``faces (F, 3)``, ``parents (5,)``.
    """

    NAMES = (
        *("v_template", "shapedirs", "exprdirs", "posedirs", "eyelids", "J_regressor", "weights"),
        *("faces", "parents"),
    )
    NUM_JOINTS, JAW = 5, 2  # root, neck, jaw, left eye, right eye

    def __init__(self, arrays: dict[str, Tensor]):
        super().__init__()
        for name in self.NAMES:
            self.register_buffer(name, arrays[name].long() if name == "parents" else arrays[name])
        self.chain = tuple(int(parent) for parent in arrays["parents"])

    def forward(self, shape: Tensor, expression: Tensor, jaw: Tensor, eyelids: Tensor) -> Tensor:
        """Vertices ``(B, V, 3)`` in the head frame, metres; arguments as in ``Prediction``."""
        batch = shape.shape[0]
        posed = (
            self.v_template
            + torch.einsum("vck,bk->bvc", self.shapedirs[..., : shape.shape[1]], shape)
            + torch.einsum("vck,bk->bvc", self.exprdirs[..., : expression.shape[1]], expression)
        )
        joints = torch.einsum("jv,bvc->bjc", self.J_regressor, posed)
        identity = torch.eye(3, dtype=shape.dtype, device=shape.device).expand(batch, 3, 3)
        local = [identity] * self.NUM_JOINTS
        local[self.JAW] = rotation_6d_to_matrix(jaw)
        pose = torch.stack(local[1:], dim=1) - identity[:, None]
        posed = posed + torch.einsum("vck,bk->bvc", self.posedirs, pose.flatten(1))
        rotations, positions = [local[0]], [joints[:, 0]]
        for joint in range(1, self.NUM_JOINTS):
            parent = self.chain[joint]
            bone = joints[:, joint] - joints[:, parent]
            rotations.append(rotations[parent] @ local[joint])
            positions.append(positions[parent] + (rotations[parent] @ bone[..., None])[..., 0])
        rotation, position = torch.stack(rotations, 1), torch.stack(positions, 1)
        offset = position - (rotation @ joints[..., None])[..., 0]
        blended = torch.einsum("vj,bjrc->bvrc", self.weights, rotation)
        moved = (blended @ posed[..., None])[..., 0] + torch.einsum("vj,bjc->bvc", self.weights, offset)
        return moved + torch.einsum("be,evc->bvc", eyelids, self.eyelids)


def rotation_6d_to_matrix(rotation_6d: Tensor) -> Tensor:
    """Rows by Gram–Schmidt from the first two rows; a rotation for every finite input."""

    def unit_or(x: Tensor, fallback: Tensor) -> Tensor:
        squared = (x * x).sum(-1, keepdim=True)
        usable = squared > 1e-12
        return torch.where(usable, x * torch.rsqrt(torch.where(usable, squared, 1.0)), fallback)

    a, b = rotation_6d[..., :3], rotation_6d[..., 3:]
    axes = torch.eye(3, dtype=a.dtype, device=a.device)
    row0 = unit_or(a, axes[0].expand_as(a))
    spare = axes[row0.abs().argmin(-1)]
    spare = spare - (spare * row0).sum(-1, keepdim=True) * row0
    spare = spare * torch.rsqrt((spare * spare).sum(-1, keepdim=True))
    row1 = unit_or(b - (b * row0).sum(-1, keepdim=True) * row0, spare)
    return torch.stack([row0, row1, torch.linalg.cross(row0, row1)], dim=-2)


def load(folder: str | Path, *, head_model: bool = True) -> N2FNet:
    """The network of a folder that ``scripts/export_torch.py`` wrote, in eval mode.

    Args:
        folder: the folder.
        head_model: also load the head model that lies in the folder, if one does.

    Raises:
        FileNotFoundError: the folder or a file of it is missing.
        FolderError: a file is truncated, damaged or of another format.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FolderError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise FolderError(f"{path} does not describe an exported network (no format {FORMAT!r})")
    if config.get("format_version") != FORMAT_VERSION:
        raise FolderError(
            f"{path} has format version {config.get('format_version')}; this reads {FORMAT_VERSION}"
        )
    head = places = None
    try:
        if head_model and config.get("head_model_weights"):
            head = HeadModel(_tensors(folder, config["head_model_weights"]))
        if config["network"].get("correction"):
            places = correction_module().Places(_tensors(folder, config["places"]))
        weights = _tensors(folder, config["weights"])
        network = unfilled(config["network"], head, places)
    except KeyError as error:
        raise FolderError(f"{path} or a file that it names lacks {error}") from error
    own = {key for key in network.state_dict() if not key.startswith(NOT_TRAINED)}
    if own != weights.keys():
        wrong = sorted(own ^ weights.keys())
        raise FolderError(f"the weights in {folder} are not this network's: {', '.join(wrong[:5])}")
    try:
        network.load_state_dict(weights, strict=False, assign=True)
    except RuntimeError as error:
        raise FolderError(f"the weights in {folder} do not fit: {error}") from error
    return network.eval()


def unfilled(
    config: dict[str, Any], head_model: HeadModel | None = None, places: nn.Module | None = None
) -> N2FNet:
    """A network without weights, to be given some by ``load_state_dict(…, assign=True)``: no initialising, no copy."""
    with torch.device("meta"):
        network = N2FNet(config)
    network.flame.mean = torch.tensor(flame_mean(config))
    network.camera.mean = torch.tensor(camera_mean(config))
    network.head_model, network.places = head_model, places
    return network


def save(network: N2FNet, folder: str | Path) -> None:
    """Puts a network's weights, trained further perhaps, into the exported folder that it was loaded from.

    ``scripts/export_torch.py FOLDER --from-torch --out DIR`` then takes them back to JAX. Head model and places are not
    written: they are not trained. If the weights have changed, the folder's calibration, which says what the answers
    are worth, no longer holds and is dropped.
    """
    folder = Path(folder)
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    tensors = {
        key: value.detach().to("cpu", torch.float32).contiguous()
        for key, value in network.state_dict().items()
        if not key.startswith(NOT_TRAINED)
    }
    data = save_bytes(tensors)
    entry = config["weights"]
    before = load_file(folder / entry["file"])
    if before.keys() != tensors.keys() or not all(torch.equal(before[key], tensors[key]) for key in before):
        config.pop("calibration", None)
    entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    # config.json, which holds the hash, comes last: interrupted in between, the folder refuses to load.
    for name, content in (
        (entry["file"], data),
        (CONFIG_FILE, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()),
    ):
        temporary = folder / f".{name}.tmp"
        temporary.write_bytes(content)
        temporary.replace(folder / name)


def _tensors(folder: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
    path = folder / entry["file"]
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {CONFIG_FILE} names it")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
            raise FolderError(f"{path} is truncated or damaged: its sha256 is not the one in {CONFIG_FILE}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise FolderError(f"{path} is not a safetensors file: {error}") from error
