"""Pseudo ground truth for a preprocessed folder: Gauss–Newton from the network's output.

    n2f fit PREPROCESSED [--steps 12] [--shard 3/16]

Writes NAME.truth.npz beside every face of a folder that n2f preprocess filled, for fine-tuning stage 1. The same
command again resumes; the shards of one folder may run at once.

Exit code: 0 every face has its file; 1 some have none; 2 wrong usage, or nothing could be done.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from n2f_jax.cli import options
from n2f_jax.cli.command import Command, shard_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="PREPROCESSED")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    options.add_head_model(parser, "the head model that the checkpoint was trained for")
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="at most; default: %(default)s")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="this process does part I of N, from 0")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="default: %(default)s")


def run(flags: argparse.Namespace) -> int:
    shard = shard_of(flags.shard)
    from n2f_jax.preprocessing.fit_folder import fit_folder
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime import compilation_cache

    compilation_cache.enable()
    reconstructor = Reconstructor.from_pretrained(
        flags.checkpoint, flags.head_model, None, refine=flags.steps, batch_size=flags.batch_size
    )
    counts = fit_folder(flags.folder, reconstructor, shard=shard)
    print(", ".join(f"{number} {what}" for what, number in counts.items()) or "no faces")
    return int(counts.total() != counts["written"] + counts["before"])


main = Command(__doc__, add_arguments, run)
