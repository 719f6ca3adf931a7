"""``--config`` and ``--config.field=value``: a config file or preset, with fields replaced."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ml_collections

    from flame_jax import HeadModel
    from n2f_jax.models.face_mesh_places import FaceMeshPlaces


def add_config(parser: argparse._ActionsContainer, required: bool = True) -> None:
    parser.add_argument(
        "--config",
        required=required,
        metavar="NAME[:VARIANT]",
        help="a preset, or a file: stage1:small, configs/stage1.py:small; fields: --config.field=value",
    )


def read_config(flags: argparse.Namespace) -> ml_collections.ConfigDict:
    """The config that the flags name, with the fields that they replace.

    Raises:
        ValueError: no such preset, variant or field, or a value of the wrong type.
        OSError: no such file.
    """
    from n2f_jax.training import presets

    name = flags.config.partition(":")[0]
    source = flags.config
    if name in presets.PRESETS and not Path(name).is_file():
        source = f"{presets.__file__}:{flags.config}"
    elif not Path(name).is_file():
        raise OSError(f"no config file {name}, and no preset of that name: {', '.join(presets.PRESETS)}")
    return _read(source, flags.overrides)


def read_presets(
    presets: Sequence[tuple[str, Mapping[str, Any]]], overrides: Sequence[str]
) -> list[ml_collections.ConfigDict]:
    """Presets, each with fields replaced by settings of its own, then by the flags that name a field that it has.

    Raises:
        ValueError: no such preset or variant, a field that none of them has, or a value of the wrong type.
    """
    from n2f_jax.training import presets as module

    made = []
    used: set[str] = set()
    for preset, settings in presets:
        fields = module.get_config(preset)
        own = [flag for flag in overrides if _has(fields, flag)]
        used.update(own)
        replaced = [f"--config.{name}={value}" for name, value in settings.items()]
        made.append(_read(f"{module.__file__}:{preset}", [*replaced, *own]))
    for flag in overrides:
        if flag not in used:
            raise ValueError(f"{flag}: no stage has such a field; fields are set as --config.field=value")
    return made


def _has(config: ml_collections.ConfigDict, flag: str) -> bool:
    """Whether ``--config.a.b=value`` names a field of a config."""
    name, equals, _ = flag.partition("=")
    if not (equals and name.startswith("--config.")):
        return False
    value: Any = config
    for part in name.removeprefix("--config.").split("."):
        if not hasattr(value, "keys") or part not in value:
            return False
        value = value[part]
    return True


def load_head(config: ml_collections.ConfigDict) -> tuple[HeadModel, FaceMeshPlaces | None]:
    """The head model that a config names; and, where it is another than the open head and the config wants them, the
    face mesh's points on it (by its correspondence, found once and kept beside the file).

    Raises:
        HeadModelError: it cannot be read.
        ValueError, AlignmentError, ImportError: no correspondence is to be had.
    """
    from n2f_jax.training.setup import load_model, wants_face_mesh

    model = load_model(config)
    if not config.head_model or not wants_face_mesh(config):
        return model, None
    return laid_over(model, Path(config.head_model))


def laid_over(model: HeadModel, path: Path) -> tuple[HeadModel, FaceMeshPlaces | None]:
    """A head model with what its files lack, and the face mesh's points on it; None for the open head.

    Raises:
        ValueError, AlignmentError, ImportError: no correspondence is to be had.
    """
    from n2f_jax.face_mesh.embedding import face_mesh_embedding
    from n2f_jax.reconstruction.other_head import OtherHead

    if face_mesh_embedding(model) is not None:
        return model, None
    other = OtherHead.laid_over(model, path, print)
    return other.target, other.places


def _read(source: str, overrides: Sequence[str]) -> ml_collections.ConfigDict:
    from absl import flags as absl_flags
    from ml_collections import config_flags

    arguments = ["n2f", f"--config={source}", *overrides]
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
