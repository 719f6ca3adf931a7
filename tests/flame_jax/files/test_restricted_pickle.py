"""Pickles of every protocol come back; pickles that want anything else are refused, whatever way they ask."""

import collections
import contextlib
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flame_jax.files import restricted_pickle
from flame_jax.files.restricted_pickle import RefusedPickle, loads

pytestmark = pytest.mark.medium

RNG = np.random.default_rng(0)
GOOD = {
    "float": RNG.normal(size=(3, 4)),
    "big endian": np.arange(5, dtype=">i4"),
    "fortran": np.asfortranarray(RNG.normal(size=(4, 5)).astype(np.float32)),
    "empty": np.zeros((0, 3)),
    "bool": np.array([True, False]),
    "words": np.array(["ab", "c"]),
    "no axes": np.array(2.5),
    "scalar": np.float32(3),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol(protocol):
    loaded = loads(pickle.dumps(GOOD, protocol))
    assert list(loaded) == list(GOOD)
    for key, array in GOOD.items():
        np.testing.assert_array_equal(loaded[key], array, err_msg=key)
        assert loaded[key].dtype.isnative
        assert loaded[key].dtype.kind == np.asarray(array).dtype.kind
    loaded["float"][0, 0] = 1.0  # arrays of one's own


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_containers_and_shells(protocol):
    shared = [1, 2]
    value = {
        "nested": [(1, 2.5), {"k": b"\x00\xff"}, None, True],
        "set": {1, "a"},
        "frozen": frozenset([3]),
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "twice": [shared, shared],
        "objects": np.array([1, "x", None], dtype=object),
        "complex": 1 + 2j,
        "bytearray": bytearray(b"ab"),
        1: "number",
    }
    loaded = loads(pickle.dumps(value, protocol))
    assert loaded.pop("objects") == [1, "x", None]
    value.pop("objects")
    assert loaded == value
    assert list(loaded["ordered"]) == ["b", "a"]
    assert loaded["twice"][0] is loaded["twice"][1]
    for form in ("csc", "csr", "coo"):
        matrix = getattr(scipy.sparse, f"{form}_matrix")(np.eye(3))
        shell = loads(pickle.dumps(matrix, protocol))
        assert shell.module.startswith("scipy.sparse")
        assert shell.name == f"{form}_matrix"
        np.testing.assert_array_equal(shell.state["data"], np.ones(3))


def test_strings_of_python_2():
    """Protocol 2 of Python 2: an array's bytes are a string, module names are the old ones."""
    raw = np.array([1.5, -2.0]).tobytes()
    program = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb."
    )
    np.testing.assert_array_equal(loads(program), [1.5, -2.0])
    assert loads(b"c__builtin__\nset\n((lI1\naI2\natR.") == {1, 2}


class _Attack:
    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


_TOUCH = "touch {}"


def _programs(path):
    """Pickles that create the file ``path`` when they are run, by every opcode that can call."""
    command = _TOUCH.format(path)
    text = command.encode()
    short = bytes([len(text)]) + text
    yield from (
        (f"reduce, protocol {p}", pickle.dumps({"v": _Attack(os.system, (command,))}, p)) for p in range(6)
    )
    yield "global by hand", b"cos\nsystem\n(S'" + text + b"'\ntR."
    yield "inst", b"(S'" + text + b"'\nios\nsystem\n."
    yield "obj", b"(cos\nsystem\nS'" + text + b"'\no."
    yield "newobj", b"\x80\x02csubprocess\nPopen\n((lS'touch'\naS'" + str(path).encode() + b"'\nattR\x81."
    yield "stack_global", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + short + b"\x85R."
    yield "dotted name", b"\x80\x04\x8c\x05numpy\x8c\x0fcore.os.system_\x93\x8c" + short + b"\x85R."
    yield (
        "numpy's own door",
        b"\x80\x04\x8c\x13numpy.testing._private\x8c\x05utils\x93\x8c" + short + b"\x85R.",
    )
    yield "eval", b'c__builtin__\neval\n(S\'__import__("os").system("' + text + b"\")'\ntR."
    yield "getattr", b"c__builtin__\ngetattr\n(cos\nS'system'\ntR."
    yield "inside an array", pickle.dumps(np.array([_Attack(os.system, (command,))], dtype=object))
    yield "inside chumpy's state", b"cchumpy.ch\nCh\n)\x81}S'x'\ncos\nsystem\n(S'" + text + b"'\ntRsb."
    yield "as a persistent id", b"S'" + text + b"'\nQ."
    yield "as an extension", b"\x80\x02\x82\x01."


@pytest.mark.parametrize("index", range(len(list(_programs("x")))))
def test_no_code_of_a_pickle_runs(tmp_path, index):
    canary = tmp_path / "ran"
    name, program = list(_programs(canary))[index]
    with pytest.raises(RefusedPickle) as caught:
        loads(program)
    assert not canary.exists(), name
    if name.startswith("reduce") or name == "inst":
        assert "system, which no model file needs" in str(caught.value)


def test_the_attacks_are_real(tmp_path):
    """Python's own reader does run the plain one: the test above can fail."""
    canary = tmp_path / "ran"
    pickle.loads(dict(_programs(canary))["global by hand"])
    assert canary.exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"", "exhausted"),
        (b"<html>", "not a pickle"),
        (b"\x80\x04]", "exhausted"),
        (pickle.dumps(GOOD)[:-40], "cut off"),
        (b"N(r\xff\xff\xff\x7f.", "memo entry"),
        (b"\x80\x02)" + b"2\x86" * 60 + b"}q\x00.", "tuple of more than"),  # 2^60 parts to hash
        (b"\x80\x02]q\x00h\x00a.", "within itself"),
        (b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".", "nested too deeply"),
        (b"c__builtin__\nbytearray\n(I1000000000000\ntR.", "bytearray with int"),
        (b"cnumpy\ndtype\n(S'O'\ntR.", "DType where a value"),
        (b"c__builtin__\nobject\n)R.", "bare object"),
        (b"c__builtin__\nset\n.", "Call where a value"),
        # BUILD on a stand-in, on its class, and on a function.
        (b"cnumpy\ndtype\n}S'x'\nI1\nsb.", "class|sound"),
        (b"cnumpy\ndtype\nN}S'__setstate__'\nI1\ns\x86b.", "attribute|sound"),
        (b"c_codecs\nencode\nN}S'__defaults__'\n(I1\ntst\x86b.", "attribute|sound|not a pickle"),
    ],
)
def test_broken_and_hostile_programs(program, message):
    with pytest.raises(RefusedPickle, match=message):
        loads(program)


def test_a_small_program_cannot_make_much():
    """One megabyte, copied a million times by four bytes each, is refused before it is there."""
    text = b"T" + struct.pack("<i", 1 << 20) + b"x" * (1 << 20)
    program = b"\x80\x02c_codecs\nencode\nq\x00" + text + b"\x85q\x01]" + b"h\x00h\x01Ra" * 1000 + b"."
    with pytest.raises(RefusedPickle, match="makes more than any model file holds"):
        loads(program)


def test_an_array_is_as_large_as_its_bytes():
    sound = pickle.dumps(np.arange(6, dtype=np.int64), 2)
    for count in (5, 7, 1 << 40):
        shape = b"K\x06\x85" if count < 256 else None
        forged = sound.replace(
            b"K\x06\x85", b"K" + bytes([count]) + b"\x85" if shape and count < 256 else b""
        )
        if count >= 256:
            forged = sound.replace(b"K\x06\x85", b"\x8a\x06" + count.to_bytes(6, "little") + b"\x85")
        assert forged != sound
        with pytest.raises(RefusedPickle, match="other contents"):
            loads(forged)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(_VALUES, st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_any_plain_value_survives(value, protocol):
    assert loads(pickle.dumps(value, protocol)) == value


_OPCODES = st.sampled_from([opcode.code.encode("latin1") for opcode in pickletools.opcodes])
_PIECES = st.one_of(
    _OPCODES,
    _OPCODES,
    st.binary(max_size=6),
    st.sampled_from(
        b"cnumpy\ndtype\n|cchumpy.ch\nCh\n|ccopy_reg\n_reconstructor\n|cos\nsystem\n|S'x'\n|(|)R|}|tR|tb|b|"
        b"q\x00|h\x00|I3\n|\x85|\x86|\x87|.".split(b"|")
    ),
)


@given(st.lists(_PIECES, max_size=40).map(b"".join))
# `make fuzz` tries thousands.
@settings(max_examples=500, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
def test_random_programs_are_read_or_refused(program):
    """No crash, no other exception, no hang, and nothing but data comes out."""
    try:
        value = loads(program + b".")
    except RefusedPickle:
        return
    assert isinstance(value, (*restricted_pickle._PLAIN, np.ndarray, list, tuple, dict, set, frozenset)) or (
        type(value).__name__ == "Shell"
    )


@given(st.data())
@settings(max_examples=400, deadline=2000)
def test_damaged_model_pickles_are_read_or_refused(data):
    sound = bytearray(pickle.dumps({**GOOD, "sparse": scipy.sparse.csc_matrix(np.eye(3))}, 2))
    for _ in range(data.draw(st.integers(1, 4))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RefusedPickle):
        loads(bytes(sound))
