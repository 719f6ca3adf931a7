"""Turns FLAME's own files into one clean archive: no pickle, no chumpy, landmarks, masks and eyelids included.

    python scripts/convert_flame.py FLAME2020/generic_model.pkl --out flame2020.npz
    python scripts/convert_flame.py folder_with_all_files/ --out flame2023.safetensors

Reads every model file of FLAME 2019, 2020, 2023 and 2023 Open without running anything that is in it, and the
companion files that lie beside it (or that the options name). The archive is what --head-model, --config.head_model
and FLAME_MODEL_PATH take; they take the original just as well. FLAME's licence holds for the archive too.
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", type=Path, help="the model file (.pkl, .npz, .safetensors) or its folder")
    parser.add_argument("--out", type=Path, required=True, help="the archive to write, .npz or .safetensors")
    parser.add_argument("--landmarks", type=Path, help="landmark_embedding.npy or flame_static_embedding.pkl")
    parser.add_argument("--masks", type=Path, help="FLAME_masks.pkl")
    parser.add_argument("--eyelids", type=Path, help="the folder of l_eyelid.npy and r_eyelid.npy")
    parser.add_argument("--uv", type=Path, help="FLAME_texture.npz or head_template.obj")
    parser.add_argument("--num-shape", type=int, help="shape directions, for a model of unusual size")
    parser.add_argument("--name", help="what the model shall call itself; default: the output's name")
    flags = parser.parse_args(arguments)

    from flame_jax.files.archive import write_archive
    from flame_jax.files.contents import FileError
    from flame_jax.loading import HeadModelError, head_model_from_arrays, read_arrays

    try:
        arrays, path, found = read_arrays(
            flags.model, flags.landmarks, flags.masks, flags.eyelids, flags.uv, flags.num_shape
        )
        model = head_model_from_arrays(arrays, default_name=flags.name or flags.out.stem)
        write_archive(flags.out, arrays, model.name)
    except (FileError, HeadModelError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{path}{' with ' + ', '.join(found) if found else ''} → {flags.out}")
    print(
        f"{model.num_vertices} vertices, {model.num_faces} triangles, {model.num_shape} shape and "
        f"{model.num_expression} expression directions"
    )
    missing = {
        "landmarks": model.landmarks is None,
        "region masks": not model.masks,
        "eyelids": not bool(model.eyelids.any()),
        "texture coordinates": model.uv.shape[0] == 0,
    }
    for part in (name for name, absent in missing.items() if absent):
        print(f"without {part}: none was found beside the model or named")
    return 0


if __name__ == "__main__":
    sys.exit(main())
