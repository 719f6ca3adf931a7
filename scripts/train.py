"""Trains one stage.

python scripts/train.py --config=configs/stage1.py:small --workdir=runs/stage1
python scripts/train.py --config=configs/stage2.py:small --workdir=runs/stage2 --config.init_from=runs/stage1/best

On several hosts the same command on each, with --coordinator=HOST:PORT --num_processes=N --process_id=I (or
--distributed where the cluster says so itself), and a --workdir that all of them see.

The same command goes on with an interrupted run. Ends with 0 when the run is complete, 75 when a signal
stopped it with everything saved, or a checkpoint could not be written, 2 when it cannot start as asked.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<stage>.py, or configs/<stage>.py:small")
_WORKDIR = flags.DEFINE_string("workdir", None, "the run's folder")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "several processes, found by jax.distributed itself")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, for several processes")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "with --coordinator: how many")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "with --coordinator: which one this is")


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; settings are given as --config.field=value")
    if _DISTRIBUTED.value or _COORDINATOR.value:
        import jax

        jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    from flame_jax import HeadModelError
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.training.checkpoints import CheckpointError, CheckpointWriteError
    from n2f_jax.training.loop import EXIT_RESUME_ME, NotFiniteError, train
    from n2f_jax.training.setup import SetupError

    compilation_cache.enable()
    try:
        return train(_CONFIG.value, _WORKDIR.value)
    except CheckpointWriteError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_RESUME_ME
    except (SetupError, HeadModelError, NotFiniteError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
