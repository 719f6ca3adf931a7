"""The model card of a folder for PyTorch."""

from __future__ import annotations

import dataclasses
import json

from n2f_jax.models.dinov3 import count_parameters
from n2f_jax.models.pretrained import Pretrained

_CARD = """\
---
library_name: pytorch
tags: [flame, face-reconstruction, surface-normals, n2f-jax]
---

# {name}

N2FNet: a surface-normal map and a face mask of one face → FLAME parameters, camera{and_vertices}, in one pass.
Trained in JAX with n2f-jax; this folder runs in PyTorch and needs `pip install torch safetensors`, nothing else.

```python
import torch
from torch_n2fnet import load  # the file in this folder

network = load(".")
normals = torch.zeros(1, {channels}, {size}, {size})  # in [-1, 1]; zero outside the mask
mask = torch.zeros(1, {size}, {size})  # 1 on the face
focal, principal_point = torch.tensor([{focal}]), torch.tensor([[{half}, {half}]])  # of the crop's camera, pixels
with torch.inference_mode():
    prediction = network(normals, mask, focal, principal_point)
prediction.shape, prediction.expression, prediction.jaw, prediction.eyelids
prediction.rotation, prediction.translation  # x_cam = R x_head + t; camera x right, y down, z forward; metres
prediction.vertices  # {vertices}
```
{correction}
Same numbers as the JAX network to 1e-4. `torch.compile`, half precision and other devices are PyTorch's own business.

| | |
|---|---|
| backbone | DINOv3 ViT, width {width}, {depth} blocks, patches of {patch} pixels |
| parameters | {parameters:,} |
| input | {size} × {size} crop, `{inputs_channels}` in the {frame} frame{whose}; {preprocessing} |
| mask | {mask} |
| crop | a square of {crop_scale} times the larger side of the box of the face's 68 landmarks |
| head model | `{head_name}`: {head_vertices:,} vertices, {num_shape} shape and {num_expression} expression directions |
| training | {notes} |

The coefficients mean something for that head model only; `config.json` holds the sha256 of each of its
arrays.{head_licence}
The pretrained DINOv3 weights come under Meta's DINOv3 License; it holds for networks fine-tuned from them.

Back to JAX, bit-identical: `python scripts/export_torch.py THIS_FOLDER --from-torch --out DIR`; after further training
in PyTorch, `torch_n2fnet.save(network, THIS_FOLDER)` first.
"""
# After the example, for networks with a correction.
_CORRECTION = """
The network corrects its answer on the surface: {passes} times it puts the head into the image and compares the normals
at {num_normals} places. With the points of MediaPipe's face mesh it compares {num_points} of them, too, and puts the
camera on them; any may be missing, and so may all of them:

```python
# (B, 468, 3): crop pixels, and depth in the same scale, growing away from the camera; NaN where unknown
points = torch.full((1, 468, 3), torch.nan)
prediction = network(normals, mask, focal, principal_point, points)
```

Without focal length and principal point nothing is corrected.
"""


def model_card(pretrained: Pretrained, name: str, with_head_model: bool) -> str:
    """Markdown with what a user of the weights has to know."""
    config, inputs, head = pretrained.config, pretrained.inputs, pretrained.head_model
    parameters = count_parameters(pretrained.network)
    files = ["`head_model.safetensors`"] if with_head_model else []
    correction = ""
    if config.correction is not None:
        files.append("`surface_places.safetensors`")
        correction = _CORRECTION.format(**dataclasses.asdict(config.correction))
    licence = f" The licence of the head model holds for {' and '.join(files)}." if files else ""
    return _CARD.format(
        name=name,
        correction=correction,
        and_vertices=" and vertices" if with_head_model else "",
        vertices="(B, V, 3) head frame, metres" if with_head_model else "None: exported without a head model",
        channels=config.backbone.channels,
        size=inputs.size,
        half=inputs.size / 2,
        focal=4.0 * inputs.size,
        width=config.backbone.width,
        depth=config.backbone.depth,
        patch=config.backbone.patch_size,
        parameters=parameters,
        inputs_channels=inputs.channels,
        frame=inputs.normal_frame,
        # Pixel3DMM's normals are FLAME's (face_mesh/map_frames.py), and it is not we who turn them here.
        whose=f" of {head.name}, to which others are turned first" if inputs.normal_frame == "head" else "",
        preprocessing=inputs.preprocessing,
        mask=inputs.mask if inputs.masked else "none: ones",
        crop_scale=inputs.crop_scale,
        head_name=head.name,
        head_vertices=head.num_vertices,
        num_shape=head.num_shape,
        num_expression=head.num_expression,
        notes=f"`{json.dumps(dict(pretrained.notes))}`" if pretrained.notes else "not recorded",
        head_licence=licence,
    )
