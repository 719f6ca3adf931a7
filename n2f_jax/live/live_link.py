"""The UDP packets of the app Live Link Face (Epic Games), version 6, one a frame.

Big-endian: uint8 version; int32 length and bytes of the device's id, a UUID of 36 letters; the same of the subject's
name; of the moment int32 frame, float32 fraction of a frame, int32 frames a second and int32 divisor; uint8 61; 61
float32, ``live_link_face.VALUES``. The app sends to port 11111.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from jaxtyping import Float

from n2f_jax.reconstruction.live_link_face import TIMECODE_RATE, VALUES

PORT = 11111
VERSION = 6
MAX_NAME = 60  # bytes, well below what Unreal has room for


def check_subject(subject: str) -> bytes:
    """A subject's name as it is sent.

    Raises:
        ValueError: it does not fit.
    """
    name = subject.encode("utf-8")
    if not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"a subject's name has 1 to {MAX_NAME} bytes, not {len(name)}")
    return name


def encode(device: str, subject: str, seconds: float, values: Float[np.ndarray, "61"]) -> bytes:
    """One packet.

    Args:
        device: a UUID of 36 letters; another one is another device.
        subject: by which Unreal lists the source.
        seconds: since midnight: of the frame.
        values: in the order of ``VALUES``.

    Raises:
        ValueError: a name that does not fit, or other values.
    """
    ident, name = device.encode("ascii"), check_subject(subject)
    if len(ident) != 36:
        raise ValueError(f"a device is a UUID of 36 letters, not {device!r}")
    values = np.asarray(values, ">f4")
    if values.shape != (len(VALUES),) or not np.isfinite(values).all():
        raise ValueError(f"{len(VALUES)} finite values are sent, not {values.shape}")
    fraction, frame = math.modf(seconds * TIMECODE_RATE)
    head = struct.pack(">Bi36si", VERSION, 36, ident, len(name)) + name
    moment = struct.pack(">ifii", int(frame), fraction, TIMECODE_RATE, 1)
    return head + moment + struct.pack(">B", len(VALUES)) + values.tobytes()
