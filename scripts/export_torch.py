"""A trained network for PyTorch, and back.

    python scripts/export_torch.py CHECKPOINT --out DIR [--head-model FILE] [--onnx]
    python scripts/export_torch.py DIR --from-torch --out CHECKPOINT

DIR holds config.json, model.safetensors, the nn.Module that runs it (torch_n2fnet.py, which needs PyTorch and
safetensors and no JAX) and a model card. With a head model its vertices come too. --from-torch gives the same
parameters back, bit for bit in float32, as a folder that --checkpoint and --config.init_from read. --onnx adds
model.onnx (needs PyTorch, onnx, onnxscript: pip install .[torch]).

CHECKPOINT "default" is the one that ships.
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("checkpoint", help='folder to read; "default" for the checkpoint that ships')
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if needed")
    parser.add_argument(
        "--from-torch", action="store_true", help="the other way: a PyTorch folder back to JAX"
    )
    parser.add_argument(
        "--head-model", metavar="FILE", help='to put into the folder; "open" for the open head that ships'
    )
    parser.add_argument("--onnx", action="store_true", help="also write model.onnx")
    flags = parser.parse_args(arguments)
    if flags.from_torch and (flags.onnx or flags.head_model):
        parser.error("--from-torch takes neither --onnx nor --head-model")

    import flame_jax
    from flame_jax.loading import OPEN_HEAD_PATH
    from n2f_jax.export.torch_folder import save_back, write_torch_folder
    from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT, PretrainedError, from_pretrained

    folder = DEFAULT_CHECKPOINT if flags.checkpoint == "default" else Path(flags.checkpoint)
    try:
        if flags.from_torch:
            save_back(folder, flags.out)
            print(f"{folder} → {flags.out}")
            return 0
        if flags.onnx:
            from n2f_jax.export.torch_onnx import write_onnx  # before the work, if PyTorch is missing
        head_model = None
        if flags.head_model:
            path = OPEN_HEAD_PATH if flags.head_model == "open" else flags.head_model
            head_model = flame_jax.load_head_model(path)
        pretrained = from_pretrained(folder, head_model)
        write_torch_folder(flags.out, pretrained, head_model, name=folder.name)
        if flags.onnx:
            from n2f_jax.export.torch_n2fnet import load

            write_onnx(flags.out / "model.onnx", load(flags.out), pretrained.inputs.size)
    except ImportError as error:
        print(
            f"error: --onnx needs PyTorch, onnx and onnxscript (pip install .[torch]): {error}",
            file=sys.stderr,
        )
        return 2
    except (OSError, PretrainedError, flame_jax.HeadModelError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{folder} → {flags.out}{' with vertices' if head_model else ''}{' and ONNX' if flags.onnx else ''}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
