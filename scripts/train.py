"""Trains one stage.

python scripts/train.py --config=configs/stage1.py:small --workdir=runs/stage1
python scripts/train.py --config=configs/stage2.py:small --workdir=runs/stage2 --config.init_from=runs/stage1/best

The same command goes on with an interrupted run. Ends with 0 when the run is complete, 75 when a signal
stopped it with everything saved, 2 when it cannot start as asked.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/<stage>.py, or configs/<stage>.py:small")
_WORKDIR = flags.DEFINE_string("workdir", None, "the run's folder")


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}; settings are given as --config.field=value")
    from flame_jax import HeadModelError
    from n2f_jax import compilation_cache
    from n2f_jax.training.loop import NotFiniteError, train
    from n2f_jax.training.setup import SetupError

    compilation_cache.enable()
    try:
        return train(_CONFIG.value, _WORKDIR.value)
    except (SetupError, HeadModelError, NotFiniteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
