"""``--config`` and ``--config.field=value``: a config file or preset, with fields replaced."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ml_collections


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        required=True,
        metavar="NAME[:VARIANT]",
        help="a preset, or a file: stage1:small, configs/stage1.py:small; fields: --config.field=value",
    )


def read_config(flags: argparse.Namespace) -> ml_collections.ConfigDict:
    """The config that the flags name, with the fields that they replace.

    Raises:
        ValueError: no such preset, variant or field, or a value of the wrong type.
        OSError: no such file.
    """
    from absl import flags as absl_flags
    from ml_collections import config_flags

    from n2f_jax.training import presets

    name = flags.config.partition(":")[0]
    source = flags.config
    if name in presets.PRESETS and not Path(name).is_file():
        source = f"{presets.__file__}:{flags.config}"
    elif not Path(name).is_file():
        raise OSError(f"no config file {name}, and no preset of that name: {', '.join(presets.PRESETS)}")
    arguments = ["n2f", f"--config={source}", *flags.overrides]
    # A set of flags of its own: absl's global one belongs to whoever runs absl.app.
    values = absl_flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    try:
        rest = values(arguments)[1:]
    except (absl_flags.Error, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"--config: {error}") from error
    if rest:
        raise ValueError(f"unknown argument {rest[0]!r}; fields are set as --config.field=value")
    return holder.value
