"""Carries a checkpoint over to another version of its head model, fits its last layers anew, and calibrates it.

python scripts/build/carry_over_checkpoint.py --checkpoint OLD --old-head open_head_v1.npz --out NEW [--heads 16000]

Version 1 of the open head: git show 17a84d6:flame_jax/assets/open_head.npz > open_head_v1.npz

1. The last layer of the FLAME module is multiplied with the map between the two models' coefficients: the same heads
   come out as before (n2f_jax/models/carry_over.py). With --keep-layers that is all that is changed.
2. Last layers of both modules by least squares on heads of the head model that ships, a third each of normal maps and
   of the free front end's maps by its two networks: what was trained on other people then answers for these.
3. What its answers are worth is measured on other heads, for each kind of input (n2f_jax/models/calibration.py).
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="DIR", help="trained for --old-head"
    )
    parser.add_argument(
        "--old-head", type=Path, metavar="FILE", help="default: the checkpoint is of the head that ships"
    )
    parser.add_argument(
        "--new-head",
        type=Path,
        metavar="FILE",
        help="default: the head that ships; its points must be embedded alike",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--heads", type=int, default=16_000, metavar="N", help="of each kind; default: %(default)s"
    )
    parser.add_argument("--keep-layers", action="store_true", help="do not fit the last layers anew")
    flags = parser.parse_args()

    import jax
    import jax.numpy as jnp
    import numpy as np

    import flame_jax
    from n2f_jax.data.assets import Assets
    from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
    from n2f_jax.face_mesh.embedding import places_of_correction
    from n2f_jax.models.carry_over import carry_over, change_of_coefficients
    from n2f_jax.models.pretrained import from_pretrained, save_pretrained
    from n2f_jax.render import HeadTopology
    from n2f_jax.training.calibrating import SETTINGS, calibrations, collect_answers, refit_last_layer

    try:
        shipped = flame_jax.load_open_head()
        new = shipped if flags.new_head is None else flame_jax.load_head_model(flags.new_head)
        old = shipped if flags.old_head is None else flame_jax.load_head_model(flags.old_head)
        saved = from_pretrained(flags.checkpoint, old)
        if old is not new:
            if saved.config.correction is not None:
                raise ValueError(
                    "a correction regresses coefficients of its own head model: it cannot be carried over"
                )
            change = change_of_coefficients(old, new)
            carry_over(saved.network, change)
            print(f"coefficients changed; {1000 * change.residual:.3f} mm are left at most")
        mesh = jax.tree.map(jnp.asarray, load_coarse_mesh())
        places = places_of_correction(new, saved.config.correction)
        assets = Assets(new, HeadTopology.from_model(new), mesh, places=places)
        notes = dict(saved.notes)
        if not flags.keep_layers:
            every = [collect_answers(saved, assets, kind, flags.heads, seed=1) for kind in SETTINGS]
            for module, given, wanted in (
                (saved.network.flame, "features", "targets"),
                (saved.network.camera, "camera_features", "camera_targets"),
            ):
                kernel, bias = refit_last_layer(
                    *(np.concatenate([getattr(one, name) for one in every]) for name in (given, wanted)),
                    module.mean,
                )
                # What is stored in half precision is measured so.
                module.output.kernel.value = jnp.asarray(kernel, jnp.bfloat16).astype(jnp.float32)
                module.output.bias.value = jnp.asarray(bias, jnp.float32)
            notes["last_layers"] = (
                f"fitted by least squares on {flags.heads} heads of each of {', '.join(SETTINGS)}"
            )
        save_pretrained(
            flags.out,
            saved.network,
            saved.config,
            head_model=new,
            inputs=saved.inputs,
            notes=notes,
            dtype="bfloat16",
            calibration=calibrations(saved, assets, flags.heads),
        )
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"output: {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
