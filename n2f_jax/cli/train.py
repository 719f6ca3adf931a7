"""Trains one stage of the network.

n2f train --config stage1:small --workdir runs/stage1
n2f train --config stage2:small --workdir runs/stage2 --config.init_from=runs/stage1/best

--config names a preset (n2f_jax/training/presets.py) or a file, with a variant after a colon: configs/stage1.py:small.
Every field can be set: --config.field=value. On several hosts the same command on each, with --coordinator HOST:PORT
--num-processes N --process-id I (or --distributed where the cluster says so itself), and a --workdir that all of them
see. The same command again resumes.

Exit code: 0 the run is complete; 75 a signal stopped it with everything saved, or a checkpoint could not be written; 2
it cannot start as asked.
"""

from __future__ import annotations

import argparse
import sys

from n2f_jax.cli.command import Command
from n2f_jax.cli.configs import add_config, read_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument(
        "--distributed", action="store_true", help="several processes; jax.distributed finds them"
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, for several processes")
    parser.add_argument("--num-processes", type=int, metavar="N", help="with --coordinator: how many")
    parser.add_argument("--process-id", type=int, metavar="I", help="with --coordinator: which one this is")


def run(flags: argparse.Namespace) -> int:
    config = read_config(flags)
    if flags.distributed or flags.coordinator:
        import jax

        jax.distributed.initialize(flags.coordinator, flags.num_processes, flags.process_id)
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.training.checkpoints import CheckpointWriteError
    from n2f_jax.training.loop import EXIT_RESUME_ME, train

    compilation_cache.enable()
    try:
        return train(config, flags.workdir)
    except CheckpointWriteError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_RESUME_ME


main = Command(__doc__, add_arguments, run)
