"""Pretrained DINOv3 weights as a folder of ours.

    python scripts/convert_weights.py dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth --out dinov3_vitl16
    python scripts/convert_weights.py dinov3-vitl16-pretrain-lvd1689m/ --out dinov3_vitl16 [--channels 5]

Reads S, S+, B, L, H+ and the satellite L: Meta's .pth (needs PyTorch), Hugging Face's folder or .safetensors file. The
size is found from the arrays. --config.backbone_weights of training takes the folder, and the originals as well.
The first convolution, trained on RGB: with --channels 3 the normals' x, y, z take the kernels of R, G, B; with 5
(UV and normals) u and v start at zero besides; with 2 (UV) each takes 3/2 of the kernels' mean.
"""

import argparse
import re
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("source", type=Path, help="a .pth or .safetensors file, or a folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if needed")
    parser.add_argument("--channels", type=int, choices=(2, 3, 5), default=3, help="default: %(default)s")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the matrices")
    flags = parser.parse_args(arguments)

    from n2f_jax.models.conversion import ConversionError
    from n2f_jax.models.dinov3_files import read_dinov3, save_dinov3, with_channels
    from n2f_jax.models.folders import PretrainedError
    from n2f_jax.models.parameters import count

    try:
        weights = with_channels(read_dinov3(flags.source), flags.channels)
        save_dinov3(flags.out, weights, flags.dtype)
    except (PretrainedError, ConversionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    config, source = weights.config, weights.source
    print(f"{flags.source} → {flags.out}")
    print(
        f"DINOv3 ViT {weights.name}: width {config.width}, {config.depth} blocks, {config.num_heads} heads, "
        f"{count(weights.tree):,} numbers; names: {source['names']}"
    )
    print(f"rotary periods: {'from the file' if source['periods'] == 'file' else 'recomputed in float32'}")
    print(f"first convolution, {config.channels} channels: {source['patch_embedding']}")
    ignored = sorted({re.sub(r"\.\d+\.", ".N.", key) for key in source["ignored"]})
    print(f"left out knowingly: {', '.join(ignored) or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
