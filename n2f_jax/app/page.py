"""The page: ``PhotoAnswers`` in the browser, by gradio. Nothing is worked out here."""

from __future__ import annotations

import os
import socket
from typing import Any

from n2f_jax.app.photo_answers import MAX_BYTES, PhotoAnswers, PhotoError

LOCALHOST = "127.0.0.1"
DEFAULT_PORT = 7860
_PORTS = 20  # looked at for a free one
_KEPT_SECONDS = 3600  # of what gradio copies for the browser
_TITLE = "A photograph to a FLAME head"
_ABOUT = (
    "Drop a photograph with a face: its head is found as a mesh with pose, expression and camera. "
    "Nothing leaves this machine; files are gone when the page's program ends."
)


def make_page(answers: PhotoAnswers) -> Any:
    """The page as gradio's ``Blocks``, not yet served.

    Raises:
        ImportError: gradio is not installed; the message says how.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # it would tell its makers of every page
    try:
        import gradio
    except ImportError as error:
        raise ImportError('the page needs gradio: pip install "n2f-jax[app]"') from error

    def reconstruct(photo: str | None) -> tuple[Any, ...]:
        try:
            answer = answers(photo)
        except PhotoError as error:
            # Said where the result would be, not only in a box that goes away; and no old result beside it.
            return f"**{error}**", None, None, None, None
        files = [str(path) for path in answer.files]
        return answer.text, str(answer.overlay), str(answer.mesh), str(answer.picture), files

    with gradio.Blocks(
        title=_TITLE, analytics_enabled=False, delete_cache=(_KEPT_SECONDS, _KEPT_SECONDS)
    ) as page:
        gradio.Markdown(f"# {_TITLE}\n{_ABOUT}")
        with gradio.Row():
            with gradio.Column():
                photo = gradio.File(label="photograph", type="filepath", height=120)
                text = gradio.Markdown()
                files = gradio.File(label="files", file_count="multiple", interactive=False)
            overlay = gradio.Image(label="mesh over the photograph", type="filepath", interactive=False)
            # From in front, a little aside; degrees, and metres.
            mesh = gradio.Model3D(
                label="mesh: drag to turn it",
                clear_color=(0.93, 0.94, 0.96, 1.0),
                camera_position=(70, 80, None),
            )
        picture = gradio.Image(label="photograph, input normals, mesh, rendered normals", type="filepath")
        photo.change(reconstruct, photo, [text, overlay, mesh, picture, files], api_name="reconstruct")
    return page


def serve(page: Any, host: str = LOCALHOST, port: int = DEFAULT_PORT) -> str:
    """Serves a page from threads of its own and says where; ``page.close()`` ends it.

    Raises:
        OSError: no port from ``port`` on is free, or there is no such address.
    """
    import gradio

    # System fonts: the default theme asks a server elsewhere for its own.
    theme = gradio.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    port = _free_port(host, port)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        inbrowser=False,
        prevent_thread_lock=True,
        max_file_size=MAX_BYTES,
        theme=theme,
        footer_links=[],
        ssr_mode=False,
    )
    return f"http://{host}:{port}"


def _free_port(host: str, port: int) -> int:
    for number in range(port, port + _PORTS):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
            try:
                trial.bind((host, number))
            except PermissionError:
                raise
            except OSError as error:
                if number == port + _PORTS - 1:
                    raise OSError(
                        f"cannot listen at {host}, ports {port} to {number}: {error.strerror}"
                    ) from error
                continue
            return number
    raise AssertionError("unreachable")
