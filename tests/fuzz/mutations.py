"""Damage as files meet it, and as a stranger makes it: from sound small files to ones that are nearly so."""

import re

from hypothesis import strategies as st

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
# What breaks sums and sizes, in text and in binary fields.
_TEXTS = [
    *(b"0", b"-1", b"1", b"2", b"255", b"65536", b"2147483648", b"1000000000000", b"1e308", b"nan", b"inf"),
    *(b"x", b"[]", b'"x"', b"null", b"9" * 30, b"9" * 5000),
]
_INTEGERS = [0, 1, 2, *((1 << bits) - 1 for bits in (7, 8, 15, 16, 31, 32, 63, 64)), 1 << 31, 1 << 40]


@st.composite
def damaged(draw, samples):
    """One of ``samples`` (bytes), changed in one to four places, or not at all.

    Changes are: a bit or a byte, the end cut off, a part left out, repeated or taken from another sample, a number in
    text, and an integer of 1 to 8 bytes, of either byte order.
    """
    data = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 4))):
        if not data:
            break
        data = _changed(draw, data, samples)
    return data


def _changed(draw, data, samples):
    kind = draw(st.sampled_from(["bit", "byte", "cut", "leave out", "repeat", "splice", "number", "integer"]))
    # Files say at their beginning how large they are.
    limit = len(data) - 1 if draw(st.booleans()) else min(len(data) - 1, 200)
    at = draw(st.integers(0, limit))
    if kind == "bit":
        return data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
    if kind == "byte":
        return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    if kind == "cut":
        return data[:at]
    end = min(len(data), at + draw(st.integers(1, 200)))
    if kind == "leave out":
        return data[:at] + data[end:]
    if kind == "repeat":
        return data[:end] + data[at:end] * draw(st.integers(1, 20)) + data[end:]
    if kind == "splice":
        other = draw(st.sampled_from(samples))
        start = draw(st.integers(0, max(0, len(other) - 1)))
        return data[:at] + other[start : start + draw(st.integers(1, 400))] + data[end:]
    if kind == "number":
        found = _NUMBER.search(data, at) or _NUMBER.search(data)
        if found is None:
            return data
        return data[: found.start()] + draw(st.sampled_from(_TEXTS)) + data[found.end() :]
    size, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(["little", "big"]))
    value = draw(st.sampled_from(_INTEGERS)) % (1 << 8 * size)
    return data[:at] + value.to_bytes(size, order) + data[at + size :]
