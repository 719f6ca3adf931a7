"""A face as OSC messages of the VMC protocol (protocol.vmc.info), bundled.

``/VMC/Ext/OK`` (loaded, calibrated, mode, whether a face is seen), ``/VMC/Ext/T`` (seconds), ``/VMC/Ext/Bone/Pos`` of
``Neck``, ``Head``, ``LeftEye`` and ``RightEye`` (position, quaternion x, y, z, w; local to their parents),
``/VMC/Ext/Blend/Val`` of each unit by its name with a capital letter ("perfect sync"), ``/VMC/Ext/Blend/Apply``.

Axes are Unity's: left-handed, the avatar looks along +z, y is up and x to its right; ours have x to the subject's left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from n2f_jax.reconstruction.live_link_face import VALUES

PORT = 39539  # of what draws (the protocol's marionette); 39540 of what mixes (its performer)
MAX_BYTES = 1400  # of a bundle: what passes through a network in one piece
_WEIGHTS = VALUES[:52]
# The neck turns with the head: of the head's turn, its share.
NECK_SHARE = 0.3


def bone_quaternion(turn: Rotation) -> list[float]:
    """x, y, z, w in Unity's axes of a rotation in ours."""
    x, y, z, w = (float(value) for value in turn.as_quat())
    return [x, -y, -z, w]


class VmcMessages:
    """Bundles of frames.

    Raises:
        ImportError: python-osc is missing (extra ``live``).
    """

    def __init__(self) -> None:
        try:
            from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
            from pythonosc.osc_message_builder import OscMessageBuilder
        except ImportError as error:
            raise ImportError("the VMC protocol needs python-osc: pip install 'n2f-jax[live]'") from error
        self._bundle: Any = lambda: OscBundleBuilder(IMMEDIATELY)
        self._builder: Any = OscMessageBuilder

    def nobody(self, seconds: float) -> list[bytes]:
        """Of a frame without a face."""
        return self._bundled([self._message("/VMC/Ext/OK", 1, 3, 0, 0), self._message("/VMC/Ext/T", seconds)])

    def face(
        self,
        seconds: float,
        values: Float[np.ndarray, "61"],
        turn: Float[np.ndarray, "3 3"],
        eyes: Float[np.ndarray, "2 3"],
    ) -> list[bytes]:
        """Of a face.

        Args:
            seconds: since some beginning.
            values: of ``live_link_face.VALUES``.
            turn: ``live_link_face.head_turn``.
            eyes: axis times angle, left then right.
        """
        whole = Rotation.from_matrix(turn)
        neck = Rotation.from_rotvec(NECK_SHARE * whole.as_rotvec())
        bones = {
            "Neck": neck,
            "Head": neck.inv() * whole,
            "LeftEye": Rotation.from_rotvec(eyes[0]),
            "RightEye": Rotation.from_rotvec(eyes[1]),
        }
        messages = [self._message("/VMC/Ext/OK", 1, 3, 0, 1), self._message("/VMC/Ext/T", seconds)]
        for name, rotation in bones.items():
            messages.append(
                self._message("/VMC/Ext/Bone/Pos", name, 0.0, 0.0, 0.0, *bone_quaternion(rotation))
            )
        for name, value in zip(_WEIGHTS, values, strict=False):
            messages.append(self._message("/VMC/Ext/Blend/Val", name, float(value)))
        messages.append(self._message("/VMC/Ext/Blend/Apply"))
        return self._bundled(messages)

    def _message(self, address: str, *arguments: Any) -> Any:
        builder = self._builder(address=address)
        for argument in arguments:
            kind = "s" if isinstance(argument, str) else "i" if isinstance(argument, int) else "f"
            builder.add_arg(argument, kind)
        return builder.build()

    def _bundled(self, messages: list[Any]) -> list[bytes]:
        """In order, so many to a bundle as have room."""
        bundles, size = [self._bundle()], 16
        for message in messages:
            if size + message.size + 4 > MAX_BYTES:
                bundles.append(self._bundle())
                size = 16
            bundles[-1].add_content(message)
            size += message.size + 4
        return [bundle.build().dgram for bundle in bundles]
