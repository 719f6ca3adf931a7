"""The viewer in a real browser: it loads, shows the mesh, a slider moves it, and the console has no error."""

import io
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from n2f_jax.viewer.sources import open_source
from n2f_jax.viewer.state import ViewerState

pytest.importorskip("viser")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
# A machine without a GPU draws WebGL by SwiftShader, if it is told to.
FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


@pytest.fixture(scope="module")
def browser():
    """Playwright's Chromium where it was fetched, else the system's."""
    with playwright.sync_playwright() as started:
        opened = chromium(started)
        yield opened
        opened.close()


def chromium(started, flags=FLAGS):
    """A browser without a window; skips the test where there is none."""
    system = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        return started.chromium.launch(executable_path=system, args=flags)
    except playwright.Error as error:
        pytest.skip(f"no Chromium: {error}")


@pytest.fixture
def page(browser):
    """A page, and what it says on its console."""
    opened = browser.new_page(viewport={"width": 1000, "height": 640})
    opened.set_default_timeout(180_000)  # software draws slowly on a busy machine
    opened.said = []
    opened.on("console", lambda message: opened.said.append((message.type, message.text)))
    opened.on("pageerror", lambda error: opened.said.append(("error", str(error))))
    yield opened
    opened.close()


def canvas(page):
    """What is left of the panel of controls, as it is drawn now."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))[:, :640].astype(int)


def wait_for(page, condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        page.wait_for_timeout(200)  # which lets the page go on


def share_of_clay(page):
    """How much of what is drawn is grey, as the mesh is and neither the photograph nor the page around it are."""
    picture = canvas(page)
    grey = np.ptp(picture, axis=-1) < 26
    return float((grey & (picture.mean(axis=-1) < 225) & (picture.mean(axis=-1) > 60)).mean())


def test_a_head_in_the_browser(page, heads, open_head):
    from n2f_jax.viewer.server import ViewerServer

    server = ViewerServer(ViewerState(open_head, open_source(heads)), port=18190)
    try:
        page.goto(server.url)
        wait_for(page, lambda: share_of_clay(page) > 0.03)
        # The photograph's blue, and its red edge at the left, are there as well.
        picture = canvas(page)
        assert (np.abs(picture - [60, 110, 160]).max(axis=-1) < 12).mean() > 0.1
        before = canvas(page)
        row = page.get_by_text("jaw opens").locator("xpath=ancestor::*[.//input][1]")
        field = row.locator("input:not([type=hidden])").first
        field.fill("33")
        field.press("Enter")
        wait_for(page, lambda: abs(server.state.values()["jaw opens"] - 33) < 1e-6)
        wait_for(page, lambda: (np.abs(canvas(page) - before).max(axis=-1) > 25).sum() > 500)
        opened = canvas(page)
        page.get_by_text("reset", exact=True).click()
        wait_for(page, lambda: (np.abs(canvas(page) - opened).max(axis=-1) > 25).sum() > 500)
        wait_for(page, lambda: (np.abs(canvas(page) - before).max(axis=-1) > 25).sum() < 300)
        # A clear mesh lets the photograph through, and an opaque one comes back.
        shown = share_of_clay(page)
        for value, condition in (
            ("0.2", lambda: share_of_clay(page) < 0.3 * shown),
            ("1", lambda: share_of_clay(page) > 0.9 * shown),
        ):
            field = page.get_by_text("opacity", exact=True).locator("xpath=ancestor::*[.//input][1]")
            field = field.locator("input:not([type=hidden])").first
            field.fill(value)
            field.press("Enter")
            wait_for(page, condition)
        # Without its photograph the mesh stays.
        page.get_by_text("photograph", exact=True).locator("xpath=ancestor::*[.//input][1]").locator(
            "input"
        ).click()
        wait_for(page, lambda: (np.abs(canvas(page) - [60, 110, 160]).max(axis=-1) < 12).mean() < 0.01)
        assert share_of_clay(page) > 0.03
    finally:
        server.stop()
    assert not [text for kind, text in page.said if kind == "error"]


def test_a_track_in_the_browser(page, track, open_head):
    from n2f_jax.viewer.server import ViewerServer

    server = ViewerServer(ViewerState(open_head, open_source(track)), port=18190)
    try:
        page.goto(server.url)
        wait_for(page, lambda: share_of_clay(page) > 0.03)
        page.get_by_text("play", exact=True).locator("xpath=ancestor::*[.//input][1]").locator(
            "input"
        ).click()
        wait_for(page, lambda: server.state.index == 5)
        field = page.get_by_text("frame", exact=True).locator("xpath=ancestor::*[.//input][1]")
        field = field.locator("input:not([type=hidden])").first
        field.fill("2")  # lost: no head is shown
        field.press("Enter")
        wait_for(page, lambda: server.state.index == 2 and share_of_clay(page) < 0.02)
    finally:
        server.stop()
    assert not [text for kind, text in page.said if kind == "error"]
