"""Packets, read by code written from the formats' descriptions, and OSC by python-osc's own server."""

import struct
import threading

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from n2f_jax.live import live_link, vmc
from n2f_jax.reconstruction.live_link_face import VALUES

DEVICE = "0F3C7A52-3D5E-4B0E-8D0C-0123456789AB"


def read_packet(data):
    """Version, device, subject, (frame, fraction, rate, divisor), values: big-endian, strings by length and bytes."""
    place = 1

    def take(kind):
        nonlocal place
        found = struct.unpack_from(f">{kind}", data, place)
        place += struct.calcsize(f">{kind}")
        return found

    texts = []
    for _ in range(2):
        (length,) = take("i")
        texts.append(take(f"{length}s")[0].decode())
    moment = take("ifii")
    (count,) = take("B")
    values = np.array(take(f"{count}f"))
    assert place == len(data)
    return data[0], *texts, moment, values


def test_a_live_link_face_packet_says_what_was_put_in():
    values = np.random.default_rng(0).uniform(-1, 1, 61)
    packet = live_link.encode(DEVICE, "Frau Müller", 3600.5125, values)
    version, device, subject, (frame, fraction, rate, divisor), found = read_packet(packet)
    assert (version, device, subject) == (6, DEVICE, "Frau Müller") and (rate, divisor) == (60, 1)
    assert frame == 216030 and (frame + fraction) / 60 == pytest.approx(3600.5125, abs=1e-6)
    np.testing.assert_allclose(found, values, rtol=1e-6)
    # Its size as Unreal's plugin counts it.
    assert len(packet) == 1 + (4 + 36) + (4 + 12) + 16 + 1 + 61 * 4
    # Jaw and mouth stand as in Unreal's enumeration, not as in the app's tables.
    assert VALUES[15:17] == ("JawLeft", "JawRight") and VALUES[21:23] == ("MouthLeft", "MouthRight")
    assert VALUES[51:55] == ("TongueOut", "HeadYaw", "HeadPitch", "HeadRoll")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"device": "x"}, "UUID"),
        ({"subject": ""}, "1 to 60 bytes"),
        ({"subject": "ü" * 31}, "1 to 60 bytes"),
        ({"values": np.zeros(52)}, "61 finite values"),
        ({"values": np.full(61, np.nan)}, "61 finite values"),
    ],
)
def test_what_is_no_packet_is_refused(change, says):
    whole = {"device": DEVICE, "subject": "n2f", "seconds": 0.0, "values": np.zeros(61)} | change
    with pytest.raises(ValueError, match=says):
        live_link.encode(**whole)


def test_vmc_messages_arrive_at_an_osc_server():
    osc_server = pytest.importorskip("pythonosc.osc_server")
    from pythonosc.dispatcher import Dispatcher
    from pythonosc.udp_client import UDPClient

    heard, done = [], threading.Event()

    def hear(address, *arguments):
        heard.append((address, *arguments))
        if address == "/VMC/Ext/Blend/Apply":
            done.set()

    dispatcher = Dispatcher()
    dispatcher.set_default_handler(hear)
    values = np.linspace(0, 1, 61)
    turn = Rotation.from_euler("YXZ", [40, 10, -5], degrees=True).as_matrix()
    eyes = np.array([[0.1, 0.2, 0.0], [0.0, -0.3, 0.0]])
    bundles = vmc.VmcMessages().face(12.5, values, turn, eyes)
    assert len(bundles) > 1 and max(map(len, bundles)) <= vmc.MAX_BYTES
    with osc_server.OSCUDPServer(("127.0.0.1", 0), dispatcher) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        client = UDPClient("127.0.0.1", server.server_address[1])
        for bundle in bundles:
            client._sock.sendto(bundle, server.server_address)
        assert done.wait(10)
        server.shutdown()
        thread.join()
    assert heard[0] == ("/VMC/Ext/OK", 1, 3, 0, 1) and heard[1] == ("/VMC/Ext/T", 12.5)
    weights = {name: value for address, name, value in (x for x in heard if x[0] == "/VMC/Ext/Blend/Val")}
    assert list(weights) == list(VALUES[:52])
    np.testing.assert_allclose(list(weights.values()), values[:52], rtol=1e-6)
    bones = {x[1]: x[2:] for x in heard if x[0] == "/VMC/Ext/Bone/Pos"}
    assert list(bones) == ["Neck", "Head", "LeftEye", "RightEye"]
    mirror = np.diag([-1.0, 1.0, 1.0])
    unity = {name: Rotation.from_quat(bone[3:]).as_matrix() for name, bone in bones.items()}
    # In Unity's axes, whose x goes the other way, neck and head together turn as the head does.
    np.testing.assert_allclose(unity["Neck"] @ unity["Head"], mirror @ turn @ mirror, atol=1e-6)
    assert Rotation.from_quat(bones["Neck"][3:]).magnitude() == pytest.approx(
        vmc.NECK_SHARE * Rotation.from_matrix(turn).magnitude(), rel=1e-5
    )
    # A face that turns to the subject's left looks to the avatar's left, which is −x there.
    assert (unity["Neck"] @ unity["Head"])[0, 2] < -0.5 and turn[0, 2] > 0.5
    np.testing.assert_allclose(
        unity["RightEye"], mirror @ Rotation.from_rotvec(eyes[1]).as_matrix() @ mirror, atol=1e-6
    )
    assert [x[0] for x in heard[-1:]] == ["/VMC/Ext/Blend/Apply"]


def test_nobody_is_said_to_be_nobody():
    message = pytest.importorskip("pythonosc.osc_bundle")
    (bundle,) = vmc.VmcMessages().nobody(1.0)
    contents = list(message.OscBundle(bundle))
    assert [one.address for one in contents] == ["/VMC/Ext/OK", "/VMC/Ext/T"] and contents[0].params == [
        1,
        3,
        0,
        0,
    ]
