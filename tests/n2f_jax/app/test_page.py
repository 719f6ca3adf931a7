"""The page itself: built and called as gradio does, over HTTP, and in a real browser."""

import json
import time

import pytest

pytest.importorskip("gradio")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture
def url(answers):
    from n2f_jax.app.page import make_page, serve

    page = make_page(answers)
    yield serve(page, port=17860)
    page.close(verbose=False)


def test_the_page_over_http(url, photo):
    from gradio_client import Client, handle_file

    assert url.startswith("http://127.0.0.1:17")
    client = Client(url, verbose=False)
    text, overlay, mesh, picture, files = client.predict(handle_file(photo(100)), api_name="/reconstruct")
    assert "Pitch" in text and overlay and picture and len(files) == 4
    assert json.dumps(mesh) and str(mesh).rstrip("'}").endswith(".glb")
    text, overlay, *_ = client.predict(handle_file(photo(0)), api_name="/reconstruct")
    assert "No face" in text and overlay is None


def test_the_page_in_a_browser(url, photo):
    from tests.n2f_jax.viewer.test_browser import chromium

    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as started:
        browser = chromium(started)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(180_000)
        said, asked = [], []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: message.type == "error" and said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.locator("input[type=file]").first.set_input_files(str(photo(100)))
        page.get_by_text("Pitch").wait_for()
        page.locator("img[src*='_overlay']").wait_for()
        assert page.get_by_text("head.npz").count() or page.get_by_text(".npz").count()
        page.locator("canvas").first.wait_for()
        time.sleep(1)
        browser.close()
    # Nothing is asked of other machines.
    assert not [one for one in asked if not one.startswith((url, "data:", "blob:"))]
    # The 3D view tries WebGPU before WebGL, and says where there is none.
    assert not [one for one in said if "WebGPU" not in one]
