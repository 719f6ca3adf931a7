"""The window's wiring without a browser: what is touched moves the state, and what is sent is the state's."""

import time

import numpy as np
import pytest

from n2f_jax.viewer.sources import open_source
from n2f_jax.viewer.state import CONFIDENCE, ViewerState

pytest.importorskip("viser")
pytestmark = pytest.mark.medium


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def serve(open_head):
    from n2f_jax.viewer.server import ViewerServer

    servers = []

    def start(folder):
        servers.append(ViewerServer(ViewerState(open_head, open_source(folder)), port=18090))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def skin(server):
    return np.array(server._parts["skin"].vertices)  # viser writes into its own


def test_sliders_move_the_vertices_that_are_sent(serve, heads):
    server = serve(heads)
    state = server.state
    assert server.url.startswith("http://127.0.0.1:18")
    before, sent = skin(server), state.mesh().vertices
    assert set(map(tuple, before.tolist())) <= set(map(tuple, sent.tolist()))
    slider = server._sliders["jaw opens"]
    assert slider.value == pytest.approx(state.values()["jaw opens"], abs=1e-3)
    slider.value = 30.0
    wait_for(lambda: np.abs(skin(server) - before).max() > 0.01)
    assert state.values()["jaw opens"] == pytest.approx(30.0)
    # Another head: its own numbers come onto the sliders, and do not come back as moves of a hand.
    server._chooser.value = "2. right"
    wait_for(lambda: slider.value < 29.0)
    found = state.source.head(1)
    np.testing.assert_array_equal(state._edited.jaw_pose, found.jaw_pose)
    np.testing.assert_allclose(server._photo.position, state.backdrop().centre)


def test_a_number_beyond_its_slider_stays(serve, heads):
    server = serve(heads)
    server.state.set("shape 1", 5.0)
    server._dirty.set()
    wait_for(lambda: server._sliders["shape 1"].value == 3.0)
    assert server.state.values()["shape 1"] == 5.0


def test_coloured_meshes_take_turns(serve, heads):
    server = serve(heads)
    server._coloring.value = CONFIDENCE
    wait_for(lambda: not server._parts["skin"].visible)
    wait_for(lambda: sorted(node.visible for node in server._colored) == [False, True])
    first = [bytes(node.glb_data) for node in server._colored]
    server._opacity.value = 0.5
    wait_for(lambda: [bytes(node.glb_data) for node in server._colored] != first)
    wait_for(lambda: sorted(node.visible for node in server._colored) == [False, True])


def test_a_track_plays_to_its_end(serve, track):
    server = serve(track)
    server.state.source.pictures.join(10)
    seen = set()
    server._play.value = True
    end = time.monotonic() + 20
    while server._play.value and time.monotonic() < end:
        seen.add(server.state.index)
        time.sleep(0.01)
    assert server.state.index == 5 and len(seen) > 1
    server._frame.value = 2  # lost
    wait_for(lambda: not server._parts["skin"].visible)
    assert "lost" in server._text.content and not server._photo.visible


def test_a_head_that_is_gone_is_said_and_the_one_before_stays(serve, heads, tmp_path):
    server = serve(heads)
    server.state.source.files[1] = tmp_path / "gone.npz"
    server._chooser.value = "2. right"
    wait_for(lambda: "gone.npz" in server._text.content)
    assert server.state.index == 0 and server._parts["skin"].visible


def test_a_port_that_is_taken_gives_the_next_one(serve, heads):
    first, second = serve(heads), serve(heads)
    assert first.url != second.url
