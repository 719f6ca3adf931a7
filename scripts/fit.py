"""Fits the faces of a preprocessed folder by Gauss–Newton steps from the network's prediction: pseudo ground truth.

    python scripts/fit.py PREPROCESSED [--steps 12] [--shard 3/16]

Writes NAME.truth.npz beside every face of a folder that scripts/preprocess.py filled, for fine-tuning stage 1. The same
command again resumes; the shards of one folder may run at once.

Exit code: 0 every face has its file; 1 some have none; 2 wrong usage, or nothing could be done.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="PREPROCESSED")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    parser.add_argument("--head-model", type=Path, metavar="NPZ", help="default: the open head that ships")
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="at most; default: %(default)s")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="this process does part I of N, from 0")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="default: %(default)s")
    flags = parser.parse_args()
    index, _, count = flags.shard.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        parser.error(f"--shard {flags.shard}: I/N with I from 0 to N − 1 is meant, as 0/4 … 3/4")

    from flame_jax import HeadModelError
    from n2f_jax.data.manifest import ManifestError
    from n2f_jax.models.pretrained import PretrainedError
    from n2f_jax.preprocessing.fit_folder import fit_folder
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime import compilation_cache

    compilation_cache.enable()
    try:
        reconstructor = Reconstructor.from_pretrained(
            flags.checkpoint, flags.head_model, None, refine=flags.steps, batch_size=flags.batch_size
        )
        counts = fit_folder(flags.folder, reconstructor, shard=(int(index), int(count)))
    except (OSError, ValueError, ImportError, HeadModelError, ManifestError, PretrainedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(", ".join(f"{number} {what}" for what, number in counts.items()) or "no faces")
    return int(counts.total() != counts["written"] + counts["before"])


if __name__ == "__main__":
    sys.exit(main())
