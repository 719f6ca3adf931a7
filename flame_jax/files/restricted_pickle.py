"""A pickle reader that rebuilds arrays and plain containers, and nothing else.

A pickle is a program: loading one with ``pickle.load`` runs whatever it says. FLAME's files are pickles of
NumPy arrays, one SciPy sparse matrix and arrays wrapped by chumpy, a package that current NumPy cannot import.
Here every name that a pickle asks for is looked up in a short table of stand-ins of our own; any other name ends
the loading with that name in the message. Nothing is imported on a pickle's behalf.

Two layers. ``pickle_opcodes.check_opcodes`` walks over the program without running it and refuses what no model file
needs (persistent ids, extension codes, keys of any kind) and what would eat memory (memo slots far beyond the others).
``loads`` then runs it on Python's own ``pickle.Unpickler`` with ``find_class`` replaced, and counts what the stand-ins
make. What the program refers to twice is made once, and comes back as one object.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from flame_jax.files.budget import Budget, OverBudgetError
from flame_jax.files.npz import ArrayFileError, check_text
from flame_jax.files.outside import one_line, reason
from flame_jax.files.pickle_opcodes import SMALL_INTEGERS, RefusedPickle, check_opcodes

__all__ = ["RefusedPickle", "Shell", "loads"]

MAX_DEPTH = 200


def loads(
    data: bytes,
    *,
    persistent_load: Callable[[Any], Any] | None = None,
    names: Mapping[tuple[str, str], Callable[..., Any]] | None = None,
    budget: Budget | None = None,
) -> Any:
    """The object in a pickle, made of NumPy arrays, ``Shell`` objects and Python's plain containers.

    Arrays of objects come back as (nested) lists, numbers of NumPy as arrays without axes. Objects of SciPy and
    chumpy come back as ``Shell``: their attributes without their class.

    Args:
        data: a pickle of any protocol; strings of Python 2 are read as latin1. What follows its end is ignored.
        persistent_load: for formats that keep arrays outside the pickle; None refuses persistent ids.
        names: stand-ins for further names, ``(module, name) → function``. What they return must be an array or
            a plain value; what they make they count themselves.
        budget: what the pickle may make, with others of the same file; None for one of its own.

    Raises:
        RefusedPickle: see ``RefusedPickle``. No other exception, and no code of the pickle's has run.
    """
    budget = budget or Budget(len(data))
    check_opcodes(data, allow_persistent_ids=persistent_load is not None, budget=budget)
    try:
        return _finished(_Unpickler(data, persistent_load, names or {}, budget).load(), MAX_DEPTH, {})
    except RefusedPickle:
        raise
    except (OverBudgetError, ArrayFileError) as error:
        raise RefusedPickle(str(error)) from error
    except MemoryError as error:
        raise RefusedPickle("asks for more memory than there is") from error
    except RecursionError as error:
        raise RefusedPickle("is nested too deeply") from error
    except Exception as error:
        # The unpickler raises nearly anything on a malformed program.
        raise RefusedPickle(f"is not a sound pickle: {type(error).__name__}: {reason(error)}") from error


class _Frozen(type):
    """Classes that a pickle cannot change: its BUILD could otherwise set attributes of a stand-in."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise RefusedPickle(f"tries to set the attribute {name!r} of a class")


class _Standin(metaclass=_Frozen):
    """What the pickle gets to hold; takes attributes from nobody but its own methods."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        raise RefusedPickle(f"tries to set the attribute {name!r} of a stand-in")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


class Shell(_Standin):
    """The attributes of an object without its class.

    Attributes:
        module, name: of the class that the pickle names.
        arguments: what it was called with.
        state: the attribute dict that came after, or None.
    """

    __slots__ = ("arguments", "state")
    arguments: tuple[Any, ...]
    state: Any
    module = name = ""

    def __new__(cls, *arguments: Any) -> Shell:  # not __init__, which newer protocols go round
        shell = object.__new__(cls)
        shell._set("arguments", arguments)
        shell._set("state", None)
        return shell

    def __setstate__(self, state: Any) -> None:
        self._set("state", state)

    def __repr__(self) -> str:
        return f"<{self.module}.{self.name}>"


class _Call(_Standin):
    """A function that a pickle may call and not change."""

    __slots__ = ("function",)
    function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        self._set("function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


class _DType(_Standin):
    """``numpy.dtype`` as a pickle calls it: a short string, then a state that only gives the byte order."""

    __slots__ = ("dtype",)
    dtype: np.dtype

    def __init__(self, spec: Any, *_: Any) -> None:
        if not isinstance(spec, str) or len(spec) > 8:
            raise RefusedPickle("holds an array of records")
        dtype = np.dtype(spec)
        # Numbers, strings, and objects, which stay lists; no records, whose fields could be of any kind.
        if dtype.kind not in "biufcSUO":
            raise RefusedPickle(f"holds an array of dtype {dtype}")
        self._set("dtype", dtype)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, subarray, names, fields = state[1:5]
        if subarray is not None or names is not None or fields is not None:
            raise RefusedPickle("holds an array of records")
        if order not in ("<", ">", "=", "|"):
            raise RefusedPickle("holds an array of unknown byte order")
        if order in ("<", ">"):
            self._set("dtype", self.dtype.newbyteorder(order))


class _Array(_Standin):
    """An array on its way: made empty by ``_reconstruct``, filled by its state."""

    __slots__ = ("builder", "value")
    builder: _Builder
    value: Any

    def __init__(self, builder: _Builder, value: Any = None) -> None:
        self._set("builder", builder)
        self._set("value", value)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self._set("value", self.builder.array(shape, dtype, bool(fortran), raw).value)


class _ObjectArray:
    """An array of Python objects, kept as the list it was stored as."""

    __slots__ = ("items", "shape")

    def __init__(self, shape: tuple[int, ...], items: list[Any]) -> None:
        self.shape, self.items = shape, items


_ITEM_BYTES = 100  # of a dict or a set, about
_CLASS_BYTES = 2000


class _Builder:
    """The functions that a pickle may call, and the account of what they have made."""

    def __init__(self, budget: Budget) -> None:
        self.count = budget.take

    def names(self) -> dict[tuple[str, str], Callable[..., Any]]:
        return {
            ("builtins", "object"): self.bare_object,
            ("builtins", "set"): lambda *arguments: self.container(set, *arguments),
            ("builtins", "frozenset"): lambda *arguments: self.container(frozenset, *arguments),
            ("builtins", "bytearray"): lambda *arguments: self.container(bytearray, *arguments),
            ("builtins", "bytes"): lambda *arguments: self.container(bytes, *arguments),
            ("builtins", "complex"): self.complex_number,
            ("collections", "OrderedDict"): lambda *arguments: self.container(dict, *arguments),
            ("copyreg", "_reconstructor"): self.new_object,
            ("_codecs", "encode"): self.encode,
            ("numpy", "ndarray"): lambda *_: _Array(self),
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(self),
            ("numpy.core.multiarray", "scalar"): lambda dtype, raw=b"": self.array((), dtype, False, raw),
            ("numpy.core.numeric", "_frombuffer"): lambda buffer, dtype, shape, order: self.array(
                shape, dtype, order == "F", buffer
            ),
        }

    def array(self, shape: Any, dtype: Any, fortran: bool, raw: Any) -> _Array:
        if not isinstance(dtype, _DType):
            raise RefusedPickle("holds an array without a dtype")
        shape = (shape,) if type(shape) is int else shape
        if (
            not isinstance(shape, tuple)
            or len(shape) > 8
            or not all(type(n) is int and n >= 0 for n in shape)
        ):
            raise RefusedPickle("holds an array whose shape is none")
        size = 1
        for n in shape:
            size *= n
        if dtype.dtype.hasobject:
            if not isinstance(raw, list) or len(raw) != size:
                raise RefusedPickle(f"holds an array of shape {shape} with other contents")
            self.count(size)
            return _Array(self, _ObjectArray(shape, raw))
        if not isinstance(raw, (str, bytes, bytearray)) or len(raw) != size * dtype.dtype.itemsize:
            raise RefusedPickle(f"holds an array of shape {shape} with other contents")
        self.count(2 * len(raw))
        if isinstance(raw, str):
            raw = raw.encode("latin1")  # a string of Python 2
        if dtype.dtype.kind == "U":
            check_text(np.frombuffer(raw, np.uint8), dtype.dtype)
        native = dtype.dtype.newbyteorder("=")
        array = np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if fortran else "C")
        return _Array(self, np.array(array, native, order="C"))

    def container(self, constructor: type, *arguments: Any) -> Any:
        # A number would be a size: bytearray(10**12).
        if len(arguments) > 1 or not all(hasattr(argument, "__len__") for argument in arguments):
            kinds = ", ".join(type(argument).__name__ for argument in arguments[:3])
            raise RefusedPickle(f"calls {constructor.__name__} with {kinds}")
        for argument in arguments:
            raw = constructor in (bytes, bytearray) or isinstance(argument, (str, bytes, bytearray))
            self.count(len(argument) if raw else _ITEM_BYTES * len(argument))
        for argument in arguments:
            if constructor in (set, frozenset):
                _check_keys(argument)
            elif constructor is dict and not isinstance(argument, dict):
                if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in argument):
                    raise RefusedPickle("makes a dict of something that is no list of pairs")
                _check_keys(key for key, _ in argument)
        return constructor(*arguments)

    def complex_number(self, *parts: Any) -> complex:
        if len(parts) > 2 or not all(type(part) in (int, float) for part in parts):
            raise RefusedPickle("makes a complex number of something else than numbers")
        self.count(0)
        return complex(*parts)

    def encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        """``_codecs.encode``, by which Python 3 writes bytes into protocols 0 to 2."""
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise RefusedPickle("encodes by another encoding than latin1")
        self.count(len(text))
        return text.encode("latin1")

    def new_object(self, cls: Any, *_: Any) -> Any:
        """``copyreg._reconstructor``: an empty object of a class."""
        if isinstance(cls, type) and issubclass(cls, Shell):
            self.count(0)
            return cls()
        raise RefusedPickle("makes an object of something that is no class of arrays")

    def bare_object(self, *_: Any) -> Any:
        """``object``, which pickles of Python 2 name as a base and never call."""
        raise RefusedPickle("makes a bare object")


# Names of Python 2 and of NumPy's newer layout.
_MODULES = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
}
_SPARSE_NAMES = {f"{form}_{kind}" for form in ("csc", "csr", "coo") for kind in ("matrix", "array")}


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        data: bytes,
        persistent_load: Callable[[Any], Any] | None,
        names: Mapping[tuple[str, str], Callable[..., Any]],
        budget: Budget,
    ) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._outside = persistent_load
        self._names: dict[tuple[str, str], Any] = {
            key: _Call(function) for key, function in {**_Builder(budget).names(), **names}.items()
        }
        self._names["numpy", "dtype"] = _DType
        self._budget = budget

    def persistent_load(self, pid: Any) -> Any:
        if self._outside is None:
            raise RefusedPickle("refers to an object outside the file")
        return self._outside(pid)

    def find_class(self, module: str, name: str) -> Any:
        module = _MODULES.get(module, module)
        key = (module, name)
        if key not in self._names:
            sparse = module.split(".")[:2] == ["scipy", "sparse"] and name in _SPARSE_NAMES
            if not sparse and module.split(".")[0] != "chumpy":
                raise RefusedPickle(f"asks for {one_line(f'{module}.{name}')}, which no model file needs")
            self._budget.take(_CLASS_BYTES)
            self._names[key] = _Frozen(
                "Shell", (Shell,), {"__slots__": (), "module": str(module), "name": str(name)}
            )
        return self._names[key]


_PLAIN = (str, bytes, bytearray, bool, int, float, complex, type(None))
_UNDER_WAY = object()


def _finished(value: Any, depth: int, seen: dict[int, Any]) -> Any:
    """Arrays on their way become arrays; a container is rebuilt once, however often it is referred to."""
    if isinstance(value, (*_PLAIN, np.ndarray)):
        return value
    if id(value) in seen:
        if seen[id(value)] is _UNDER_WAY:
            raise RefusedPickle("holds a container within itself")
        return seen[id(value)]
    if depth == 0:
        raise RefusedPickle("is nested too deeply")
    # A shell may refer to itself (chumpy's do); its identity stays, only its contents are rebuilt.
    seen[id(value)] = value if isinstance(value, Shell) else _UNDER_WAY
    go = lambda item: _finished(item, depth - 1, seen)  # noqa: E731
    done: Any = value
    if isinstance(value, list):
        done = [go(item) for item in value]
    elif isinstance(value, tuple):
        done = tuple(go(item) for item in value)
    elif isinstance(value, dict):
        done = {_key(key): go(item) for key, item in value.items()}
    elif isinstance(value, (set, frozenset)):
        done = type(value)(_key(item) for item in value)
    elif isinstance(value, Shell):
        value._set("arguments", go(value.arguments))
        value._set("state", go(value.state))
    elif isinstance(value, _Array):
        if value.value is None:
            raise RefusedPickle("holds an array that was never filled")
        done = go(value.value) if isinstance(value.value, _ObjectArray) else value.value
    elif isinstance(value, _ObjectArray):
        done = go(value.items)
        done = done[0] if value.shape == () else done
    else:
        raise RefusedPickle(f"holds {type(value).__name__.strip('_')} where a value is expected")
    seen[id(value)] = done
    return done


def _check_keys(keys: Iterable[Any]) -> None:
    for key in keys:
        _key(key)


def _key(key: Any) -> Any:
    """``key``, if it is one that ``pickle_opcodes`` lets through; here for what stand-ins make, which it cannot see."""
    if isinstance(key, (str, bytes, float, type(None))) or (
        isinstance(key, int) and abs(key) < SMALL_INTEGERS
    ):
        return key
    raise RefusedPickle(f"has {type(key).__name__.strip('_')} as a key")
