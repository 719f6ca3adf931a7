"""Pickle programs that rebuild PyTorch tensors, written without PyTorch."""

import pickle
import struct

import numpy as np


def torch_storage(name: str, array: np.ndarray) -> bytes:
    """A storage as ``torch.save`` wrote it before 1.6."""

    def long(number: int) -> bytes:
        raw = number.to_bytes(10, "little")
        return b"\x80\x02\x8a\x0a" + raw + b"."

    pid = b"(X\x07\x00\x00\x00storagectorch\n" + name.encode() + b"\nX\x01\x00\x00\x007X\x03\x00\x00\x00cpu"
    pid += b"J" + struct.pack("<i", array.size) + b"NtQ"
    return b"".join(
        [
            long(0x1950A86A20F9469CFC6C),
            pickle.dumps(1001, 2),
            pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2),
            b"\x80\x02" + pid + b".",
            pickle.dumps(["7"], 2),
            struct.pack("<q", array.size),
            array.tobytes(),
        ]
    )


def tensor_program(name, array, shape=None, strides=None) -> bytes:
    """The opcodes (without PROTO and STOP) that rebuild a contiguous tensor."""
    storage = torch_storage(name, array)

    def numbers(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", n) for n in values) + b"t"

    shape = array.shape if shape is None else shape
    strides = [s // array.itemsize for s in array.strides] if strides is None else strides
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\nB"
        + struct.pack("<i", len(storage))
        + storage
        + b"\x85RK\x00"
        + numbers(shape)
        + numbers(strides)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )
