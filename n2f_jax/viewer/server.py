"""The viewer's window: ``ViewerState`` in the browser, by viser. Nothing is worked out here."""

from __future__ import annotations

import contextlib
import io
import itertools
import threading
import time
from typing import Any

import numpy as np

from n2f_jax.runtime.display import printable
from n2f_jax.viewer.glb_bytes import glb_bytes
from n2f_jax.viewer.state import CLAY, NORMALS, ViewerState
from n2f_jax.visualization.irises import IRIS_COLOR, PUPIL_COLOR
from n2f_jax.visualization.overlay import View

LOCALHOST = "127.0.0.1"
DEFAULT_PORT = 8090
MAX_SIDE = 1280  # of a photograph as it is sent, pixels
# The browser takes a coloured mesh apart before it shows it: so long the one before stays.
_SWAP_SECONDS = 0.15
_LINES = (120, 170, 255)
_NORMALS = "normals: input, rendered"
# How far the view from the side is turned about the head, radians.
_ASIDE = 0.7
_NEARER = 0.6  # than the photograph's camera


class ViewerServer:
    """Serves a state until it is stopped.

    Args:
        state: what is shown; the server moves it.
        host: address to listen at. Others than this machine's own let everybody on the network look on.
        port: the next free one is taken where it is not.

    Attributes:
        url: where it is to be seen.

    Raises:
        ImportError: viser is not installed; the message says how.
        OSError: it cannot listen there.
    """

    def __init__(self, state: ViewerState, host: str = LOCALHOST, port: int = DEFAULT_PORT):
        try:
            import viser
        except ImportError as error:
            raise ImportError('the viewer needs viser: pip install "n2f-jax[view]"') from error
        self.state = state
        with contextlib.redirect_stdout(io.StringIO()):  # it has a banner of its own
            self._server = viser.ViserServer(host=host, port=port, label="n2f view", verbose=False)
        self.url = f"http://{host}:{self._server.get_port()}"
        self._dirty, self._stopped = threading.Event(), threading.Event()
        self._turn = itertools.cycle((0, 1))
        self._shown_index = self._input_index = -1  # whose photograph, and input, is up
        self._input: np.ndarray | None = None
        self._problem = ""
        self._playing_since: tuple[float, float] | None = None
        self._sliders: dict[str, Any] = {}
        self._scene()
        self._panel()
        self._server.on_client_connect(lambda client: self._through_the_camera(client))
        self._draw()
        self._thread = threading.Thread(target=self._keep_drawing, daemon=True, name="viewer")
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._dirty.set()
        self._thread.join()
        self._server.stop()

    def wait(self) -> None:
        """Returns when it is stopped, or at Ctrl-C."""
        while not self._stopped.wait(0.5):
            pass

    # What there is in the scene.

    def _scene(self) -> None:
        scene = self._server.scene
        scene.set_up_direction((0.0, -1.0, 0.0))
        camera = self._server.initial_camera
        camera.position, camera.look_at, camera.up = (
            (0.0, 0.0, 0.0),
            tuple(self.state.pivot()),
            (0.0, -1.0, 0.0),
        )
        camera.fov = self.state.field_of_view(1.5)
        empty, no_faces = np.zeros((3, 3), np.float32), np.array([[0, 1, 2]])
        paint = {
            "skin": (206, 210, 216),
            "eyes": (238, 238, 236),
            "irises": IRIS_COLOR,
            "pupils": PUPIL_COLOR,
        }
        # Of one colour each, these take new vertices as they come.
        self._parts = {
            name: scene.add_mesh_simple(
                f"/head/{name}", empty, no_faces, color=color, side="double", cast_shadow=False
            )
            for name, color in paint.items()
        }
        nothing = glb_bytes(empty, no_faces, np.zeros((3, 3), np.uint8))
        self._colored = [scene.add_glb(f"/head/colored_{i}", nothing, visible=False) for i in (0, 1)]
        self._frustum = scene.add_line_segments(
            "/camera", np.zeros((8, 2, 3), np.float32), np.array(_LINES), thickness=0.0008
        )
        self._photo: Any = None
        self._scan: Any = None
        if self.state.scan is not None:
            mesh = self.state.scan.mesh
            self._scan = scene.add_mesh_simple(
                "/scan",
                mesh.vertices.astype(np.float32),
                mesh.faces,
                color=(230, 180, 120),
                side="double",
                visible=False,
            )

    def _panel(self) -> None:
        gui, state = self._server.gui, self.state
        gui.configure_theme(show_logo=False, show_share_button=False, dark_mode=False)
        self._text = gui.add_markdown(state.text())
        if state.is_track:
            last = len(state.source.names) - 1
            self._frame = gui.add_slider("frame", 0, max(last, 1), 1, 0)
            self._play = gui.add_checkbox("play", False)
            self._frame.on_update(lambda event: self._choose(min(self._frame.value, last)))
            self._play.on_update(lambda event: self._set_playing(self._play.value))
        else:
            # Names of photographs of two folders may be alike.
            names = [f"{number + 1}. {name}" for number, name in enumerate(state.source.names)]
            self._names = {name: number for number, name in enumerate(names)}
            self._chooser = gui.add_dropdown("head", names, initial_value=names[0])
            self._chooser.on_update(lambda event: self._choose(self._names[self._chooser.value]))
        self._coloring = gui.add_dropdown("colours", state.colorings, initial_value=state.coloring)
        self._coloring.on_update(lambda event: self._color(self._coloring.value))
        self._opacity = gui.add_slider("opacity", 0.0, 1.0, 0.05, 1.0)
        self._opacity.on_update(lambda event: self._dirty.set())
        self._show_photo = gui.add_checkbox("photograph", True)
        self._show_photo.on_update(lambda event: self._dirty.set())
        self._show_scan = gui.add_checkbox("scan", False, visible=state.scan is not None)
        self._show_scan.on_update(lambda event: self._dirty.set())
        views = gui.add_button_group("view", ("photograph's", "aside"))

        @views.on_click
        def _(event) -> None:
            if event.client is not None:
                turned = views.value != "photograph's"
                self._through_the_camera(event.client, _ASIDE if turned else 0.0)

        poses = gui.add_button_group("head", ("reset", "at rest"))

        @poses.on_click
        def _(event) -> None:
            (state.reset if poses.value == "reset" else state.relax)()
            self._dirty.set()

        self._normals = gui.add_image(np.zeros((8, 16, 3), np.uint8), label=_NORMALS, format="png")
        values = state.values()
        for group in dict.fromkeys(one.group for one in state.controls):
            with gui.add_folder(group, expand_by_default=group in ("expression", "jaw")):
                for one in (one for one in state.controls if one.group == group):
                    value = _on_slider(one, values.get(one.name, max(one.low, 0.0)))
                    slider = gui.add_slider(one.name, one.low, one.high, one.step, value)
                    slider.on_update(lambda event, one=one: self._moved(one))
                    self._sliders[one.name] = slider

    # What happens when something is touched. Drawing is left to one thread, which always draws what is newest.

    def _moved(self, control) -> None:
        value = float(self._sliders[control.name].value)
        # Not when it was we who set the slider, to a head that may lie beyond its ends.
        if abs(value - _on_slider(control, self.state.values().get(control.name, value))) > 1e-6:
            self.state.set(control.name, value)
            self._dirty.set()

    def _choose(self, index: int) -> None:
        if index == self.state.index:
            return
        try:
            self.state.select(index)
            self._problem = ""
        except (ValueError, OSError) as error:  # a file that is damaged or gone; the head before stays
            self._problem = printable(error)
        self._dirty.set()

    def _color(self, value: str) -> None:
        self.state.coloring = value
        self._dirty.set()

    def _set_playing(self, playing: bool) -> None:
        seconds = self.state.source.seconds
        assert seconds is not None
        at = self.state.index if self.state.index + 1 < len(seconds) else 0
        self._playing_since = (time.monotonic(), float(seconds[at])) if playing else None
        self._dirty.set()

    def _through_the_camera(self, client: Any, turn: float = 0.0) -> None:
        """A window's view from where the photograph was taken, or turned aside about the head."""
        pivot = self.state.head_place() if turn else self.state.pivot()
        direction = np.array([-np.sin(turn), 0.0, -np.cos(turn)])
        camera = client.camera
        with client.atomic():
            camera.up_direction = (0.0, -1.0, 0.0)
            camera.position = pivot + (_NEARER * pivot[2] if turn else pivot[2]) * direction
            camera.look_at = pivot
            camera.fov = self.state.field_of_view(camera.aspect)

    # Drawing.

    def _keep_drawing(self) -> None:
        while not self._stopped.is_set():
            playing = self._playing_since
            if self._dirty.wait(0.01 if playing else 0.5):
                self._dirty.clear()
            elif not playing:
                continue
            if self._stopped.is_set():
                return
            if playing is not None:
                self._advance(*playing)
            self._draw()

    def _advance(self, since: float, start: float) -> None:
        seconds = self.state.source.seconds
        assert seconds is not None
        now = start + time.monotonic() - since
        index = self.state.frame_at(now)
        self._frame.value = index  # which chooses the frame
        if now >= seconds[-1]:
            self._play.value = False

    def _draw(self) -> None:
        state, server = self.state, self._server
        opacity = None if self._opacity.value >= 1.0 else float(self._opacity.value)
        mesh = state.mesh(outside_only=opacity is not None)
        retired = None
        with server.atomic():
            plain = mesh is not None and state.coloring == CLAY
            for part in self._parts.values():
                part.visible, part.opacity = plain, opacity
            if mesh is None or plain:
                for node in self._colored:
                    node.visible = False
            if mesh is not None and plain:
                self._draw_parts(mesh)
            elif mesh is not None:
                new = next(self._turn)
                lit = state.coloring != NORMALS
                self._colored[new].glb_data = glb_bytes(
                    mesh.vertices, mesh.faces, mesh.colors, 1.0 if opacity is None else opacity, lit
                )
                self._colored[new].visible = True
                retired = self._colored[1 - new]
            self._draw_scan()
            self._draw_photo()
            self._draw_panel()
        server.flush()
        if retired is not None:
            time.sleep(_SWAP_SECONDS)
            retired.visible = False

    def _draw_parts(self, mesh) -> None:
        num_head = mesh.num_head
        of_eyes = np.zeros(len(mesh.vertices), bool)
        of_eyes[:num_head] = self.state.is_eyeball
        on_head = mesh.faces[(mesh.faces < num_head).all(axis=1)]
        eyes = of_eyes[on_head].all(axis=1)
        caps = mesh.faces[(mesh.faces >= num_head).all(axis=1)]
        dark = (mesh.colors[caps] == PUPIL_COLOR).all(axis=(1, 2))
        for name, faces in (
            ("skin", on_head[~eyes]),
            ("eyes", on_head[eyes]),
            ("irises", caps[~dark]),
            ("pupils", caps[dark]),
        ):
            part = self._parts[name]
            if not len(faces):
                part.visible = False
                continue
            used, compact = np.unique(faces, return_inverse=True)
            part.vertices = mesh.vertices[used]
            if part.faces.shape != faces.shape:  # other ones of as many there are not
                part.faces = compact.reshape(-1, 3).astype(np.uint32)

    def _draw_scan(self) -> None:
        if self._scan is None:
            return
        vertices = self.state.scan_in_view() if self._show_scan.value else None
        self._scan.visible = vertices is not None
        if vertices is not None:
            self._scan.vertices = vertices

    def _draw_photo(self) -> None:
        state = self.state
        backdrop = state.backdrop()
        self._frustum.visible = backdrop is not None
        if backdrop is not None:
            rim = np.roll(backdrop.corners, -1, axis=0)
            edges = np.stack([backdrop.corners, rim], axis=1)
            rays = np.stack([np.zeros((4, 3)), backdrop.corners], axis=1)
            self._frustum.points = np.concatenate([edges, rays]).astype(np.float32)
        picture = state.source.picture(state.index) if self._shown_index != state.index else None
        if picture is not None and backdrop is not None:
            shown = View.whole(picture.shape[:2], MAX_SIDE).cut(picture)
            place = {"position": backdrop.centre}
            if self._photo is None or self._shown_index < 0 or not state.is_track:
                self._photo = self._server.scene.add_image(
                    "/photograph",
                    shown,
                    backdrop.width,
                    backdrop.height,
                    format="jpeg",
                    cast_shadow=False,
                    receive_shadow=False,
                    **place,
                )
            else:
                self._photo.image = shown
            self._shown_index = state.index
        if self._photo is not None:
            there = self._show_photo.value and backdrop is not None
            self._photo.visible = there and (state.is_track or self._shown_index == state.index)
            if backdrop is not None:
                self._photo.position = backdrop.centre
                self._photo.render_width, self._photo.render_height = backdrop.width, backdrop.height

    def _draw_panel(self) -> None:
        state = self.state
        self._text.content = state.text() + (f"  \n{self._problem}" if self._problem else "")
        values = state.values()
        for control in state.controls:
            if control.name in values:
                self._sliders[control.name].value = _on_slider(control, values[control.name])
        if self._input_index != state.index:
            self._input, self._input_index = state.input_normals(), state.index
        rendered = state.rendered_normals()
        self._normals.visible = rendered is not None
        if rendered is not None:
            given = np.full_like(rendered, 40) if self._input is None else self._input
            self._normals.image = np.concatenate([given, rendered], axis=1)


def _on_slider(control, value: float) -> float:
    """What a slider shows of a value: within its ends, to a thousandth."""
    return round(float(np.clip(value, control.low, control.high)), 3)
