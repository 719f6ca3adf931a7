"""Walks over a pickle's program without running it, and refuses what no model file needs."""

from __future__ import annotations

import io
import pickletools
from typing import Any, NamedTuple

from flame_jax.files.budget import Budget, OverBudgetError
from flame_jax.files.outside import reason

MAX_BYTES = 1 << 29
# Parts of a tuple, those of the tuples within it included: shapes and states are tuples, data are not.
MAX_TUPLE = 1000
# Python's hash of an integer is its rest by this prime: of larger ones any number has the same, and a dict of n of
# them takes n² steps. The hashes of complex numbers and tuples can be made alike too.
SMALL_INTEGERS = (1 << 61) - 1
_MAX_INTEGER_BITS = 256

_FORBIDDEN_OPCODES = frozenset(
    ["PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"]
)
_MARK = pickletools.markobject


class RefusedPickle(ValueError):
    """A pickle that is broken, or asks for something that no model file needs; the message says what."""


def check_opcodes(
    data: bytes, allow_persistent_ids: bool = False, budget: Budget | None = None, start: int = 0
) -> int:
    """Walks over the opcodes of a pickle.

    Args:
        data: holds it.
        allow_persistent_ids: for formats that keep arrays outside the pickle.
        budget: that counts the opcodes; None for one of its own.
        start: where in ``data`` it begins.

    Returns:
        Where in ``data`` it ends.

    Raises:
        RefusedPickle: it is cut off or no pickle, too large, or holds an opcode that no model file needs, or a key of
            a dict or a member of a set that is no text, bytes, None, float or integer of up to 61 bits.
    """
    if len(data) > MAX_BYTES:
        raise RefusedPickle(f"has {len(data)} bytes; model files have at most {MAX_BYTES}")
    budget = budget or Budget(len(data))
    forbidden = _FORBIDDEN_OPCODES
    if allow_persistent_ids:
        forbidden = forbidden - {"PERSID", "BINPERSID"}
    stream = io.BytesIO(data)
    stream.seek(start)
    stack = _Stack()
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
            name = opcode.name
            budget.take_opcode()
            if name in forbidden:
                raise RefusedPickle(f"uses the opcode {name} at byte {position}, which no model file needs")
            # The memo is a flat table: one slot with a huge number would allocate all below it.
            if name in ("PUT", "BINPUT", "LONG_BINPUT") and not (
                isinstance(argument, int) and 0 <= argument <= count
            ):
                raise RefusedPickle(f"stores a memo entry at byte {position} that is far beyond the others")
            stack.step(name, argument)
    except RefusedPickle:
        raise
    except OverBudgetError as error:
        raise RefusedPickle(str(error)) from error
    except Exception as error:
        raise RefusedPickle(f"is cut off or not a pickle: {reason(error)}") from error
    return stream.tell()


class _Effect(NamedTuple):
    """What an opcode does to the stack: pops single entries, or all down to the last mark first; pushes others."""

    pops: int
    to_mark: bool
    pushes: tuple[int | None, ...]


# An entry of the stack. None is a mark, 0 a value that may be a key, any other number a value that may not: a tuple's
# is how many parts it has.
_KEY, _OTHER = 0, 1
_KEY_KINDS = (
    pickletools.pyint,
    pickletools.pylong,
    pickletools.pyinteger_or_bool,
    pickletools.pybool,
    pickletools.pyfloat,
    pickletools.pybytes_or_str,
    pickletools.pybytes,
    pickletools.pyunicode,
    pickletools.pynone,
)


def _effect(opcode: pickletools.OpcodeInfo) -> _Effect:
    before = list(opcode.stack_before)
    to_mark = _MARK in before
    if to_mark:
        before = before[: before.index(_MARK)]
    made = [None if kind is _MARK else _KEY if kind in _KEY_KINDS else _OTHER for kind in opcode.stack_after]
    return _Effect(len(before), to_mark, tuple(made))


_EFFECTS = {opcode.name: _effect(opcode) for opcode in pickletools.opcodes}
_INTEGERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
_TUPLES = ("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")


class _Stack:
    """Follows the unpickler's stack: which entries may be keys, and how many tuples each holds.

    A tuple of two equal tuples of two equal tuples … is short to write and takes for ever to hash.
    """

    def __init__(self) -> None:
        self.stack: list[int | None] = []
        self.memo: dict[int, int | None] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
            return
        if name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
            return
        if name == "DUP":
            stack.append(stack[-1])
            return
        effect = _EFFECTS[name]
        popped: list[int | None] = []  # the last entry first
        if effect.to_mark:
            while (entry := stack.pop()) is not None:
                popped.append(entry)
        slice_length = len(popped)
        for _ in range(effect.pops):
            popped.append(stack.pop())
        stack.extend(effect.pushes)
        if name in _TUPLES:
            size = 1 + sum(entry or 1 for entry in popped)
            if size > MAX_TUPLE:
                raise RefusedPickle(f"holds a tuple of more than {MAX_TUPLE} parts")
            stack[-1] = size
        elif name in _INTEGERS:
            if argument.bit_length() > _MAX_INTEGER_BITS:
                raise RefusedPickle(f"holds an integer of more than {_MAX_INTEGER_BITS} bits")
            stack[-1] = _KEY if -SMALL_INTEGERS < argument < SMALL_INTEGERS else _OTHER
        elif name in ("SETITEM", "SETITEMS", "DICT"):
            pairs = popped[:2] if name == "SETITEM" else popped[:slice_length]
            _check_keys(pairs[1::2])
        elif name in ("ADDITEMS", "FROZENSET"):
            _check_keys(popped[:slice_length])


def _check_keys(entries: list[int | None]) -> None:
    if any(entries):
        raise RefusedPickle("has a key that is no text, bytes or plain number of up to 61 bits")
