"""Dataclasses from JSON, every value held against its annotation: what is no size ends here, not in a network."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from flame_jax.files.outside import one_line

T = TypeVar("T")

# A network is built from these numbers before its weights are held against it. Depths take time then, and far more
# layers than any network of ours has would take hours; widths take none.
MAX_SIZE = 1 << 31
MAX_LAYERS = 200
_LAYERS = frozenset(["depth", "regressor_layers", "passes", "blocks"])
_MAY_BE_ZERO = frozenset(
    [
        "num_registers",
        "num_shape",
        "num_expression",
        "num_normals",
        "num_points",
        "regressor_layers",
        "blocks",
    ]
)
_MAX_ITEMS = 1000


class DescriptionError(ValueError):
    """A value is missing, unknown, or not what its field holds; the message names the field."""


def from_json(cls: type[T], values: Any, where: str) -> T:
    """A dataclass from what JSON gives for ``dataclasses.asdict`` of one.

    Args:
        cls: a dataclass of numbers, text, ``Literal``s, tuples of numbers, mappings of text, and such dataclasses.
        values: a dict.
        where: the path to it in the file, for messages.

    Raises:
        DescriptionError: a field is missing or unknown; a number is no finite one, or no size (integers are from 1,
            or 0 where there may be none, to 2³¹, numbers of layers to 200); another value is of another kind.
    """
    assert dataclasses.is_dataclass(cls)
    if not isinstance(values, Mapping):
        raise DescriptionError(f"{where} is {_shown(values)} and no object")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    missing = [
        name
        for name, field in fields.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if wrong := [*missing, *(str(name) for name in values if name not in fields)]:
        raise DescriptionError(f"missing or unknown field: {where}.{one_line(', '.join(wrong), 80)}")
    hints = typing.get_type_hints(cls)
    return cls(
        **{name: _value(hints[name], value, name, f"{where}.{name}") for name, value in values.items()}
    )


def _value(kind: Any, value: Any, name: str, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return None if value is None else _value(inner, value, name, where)
    if origin is typing.Literal:
        if isinstance(value, str) and value in arguments:
            return value
        raise DescriptionError(f"{where} is {_shown(value)}, not one of {', '.join(map(str, arguments))}")
    if origin is tuple:
        if isinstance(value, list | tuple) and len(value) == len(arguments):
            return tuple(_value(one, item, name, where) for one, item in zip(arguments, value, strict=True))
        raise DescriptionError(f"{where} is {_shown(value)}, not {len(arguments)} numbers")
    if origin is not None and issubclass(origin, Mapping):
        if (
            isinstance(value, dict)
            and len(value) <= _MAX_ITEMS
            and all(isinstance(v, str) for v in value.values())
        ):
            return value
        raise DescriptionError(f"{where} is {_shown(value)}, not an object of texts")
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return from_json(kind, value, where)
    if kind is int:
        least, most = int(name not in _MAY_BE_ZERO), MAX_LAYERS if name in _LAYERS else MAX_SIZE
        if type(value) is int and least <= value <= most:
            return value
        raise DescriptionError(f"{where} is {_shown(value)}, not a whole number from {least} to {most}")
    if kind is float:
        if type(value) in (int, float) and abs(value) <= 1e9 and math.isfinite(value):
            return value
        raise DescriptionError(f"{where} is {_shown(value)}, not a number")
    if type(value) is not kind:
        raise DescriptionError(f"{where} is {_shown(value)}, not of the kind {kind.__name__}")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return one_line(repr(value)[:200], 60)
