"""Values as JSON knows them, and checks of what a file gave."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_LONGEST_NAME = 255  # bytes: where file systems end


def jsonable(value: Any) -> Any:
    """Plain numbers, lists and dicts with string keys; what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def parse_json(text: str) -> Any:
    """What a text holds.

    Raises:
        ValueError: it is no JSON, or too deep to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_fields(values: Any, checks: Mapping[str, Callable[[Any], bool]]) -> dict[str, Any]:
    """The fields that ``checks`` names, as far as they are there; others are left out: a later version may write more.

    Raises:
        ValueError: not an object, or the value of a field cannot be; the message names it.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{_shown(values)} where an object is expected")
    for name, check in checks.items():
        if name in values and not check(values[name]):
            raise ValueError(f"{name!r} cannot be {_shown(values[name])}")
    return {name: values[name] for name in checks if name in values}


def is_text(value: Any) -> bool:
    """Text that is, or could be, the path of a file."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character
        return False


def is_file_name(value: Any) -> bool:
    """The name of a file alone: it leads to no other folder."""
    if (
        not is_text(value)
        or value in ("", os.curdir, os.pardir)
        or len(value.encode("utf-8", "surrogateescape")) > _LONGEST_NAME
    ):
        return False
    return os.sep not in value and not (os.altsep and os.altsep in value)


def is_path_within(value: Any) -> bool:
    """Names of files with slashes between them: a path that leads out of no folder it is put behind."""
    return isinstance(value, str) and all(map(is_file_name, value.split("/")))


def is_whole_number(value: Any) -> bool:
    """From 0 on, of 63 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def is_number(value: Any) -> bool:
    """A finite one."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def is_list_of(check: Callable[[Any], bool], *lengths: int) -> Callable[[Any], bool]:
    """A check of lists (or tuples) by each value, and by their length where any is given."""
    return lambda value: (
        isinstance(value, (list, tuple)) and all(map(check, value)) and (not lengths or len(value) in lengths)
    )


def is_dict_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A check of objects by each value."""
    return lambda value: (
        isinstance(value, dict) and all(map(is_text, value)) and all(map(check, value.values()))
    )


def or_null(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _shown(value: Any) -> str:
    text = json.dumps(value)[:60] if not isinstance(value, (dict, list)) else type(value).__name__
    return "null" if value is None else text
