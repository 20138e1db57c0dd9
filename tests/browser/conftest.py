"""Fixtures: one ComfyUI server and one page of its front end for the whole session."""

import shutil

import pytest

from ..chromium import chromium
from ..host import checkpoints, environment
from ..host.server import Host
from ..readable import DEMO
from .front_end import FOLDER, RENDERERS, FrontEnd, ours


def pytest_collection_modifyitems(items):
    for item in items:
        if "page" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.host)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The newest ComfyUI, with the front end that it asks for, and no nodes but its own and the pack's."""
    try:
        checkouts = [environment.checkout(revision) for revision in environment.revisions()]
        interpreter = environment.python(checkouts)
    except environment.HostUnavailable as e:
        environment.unavailable(f"ComfyUI cannot be had here: {e}")
    newest, base = max(checkouts, key=environment.version), tmp_path_factory.mktemp("browser")
    host = Host(newest, interpreter, base, checkpoints.models(), test_nodes=False, folder=FOLDER)
    shutil.copy(newest / "input" / "example.png", base / "input")  # which every ComfyUI has
    yield host.start()
    host.stop()


@pytest.fixture(scope="session")
def page(server):
    with chromium() as driver:
        page = FrontEnd(driver, server)
        page.open()
        yield page


@pytest.fixture(params=RENDERERS)
def demo(request, page):
    """The demo, just chosen, in this renderer."""
    page.render(request.param)
    page.browse()
    page.choose(DEMO)
    return request.param


@pytest.fixture(autouse=True)
def nothing_is_said(page, server):
    """No message of ours in the console nor in the server's log, whatever a test does."""
    page.messages()
    before = len(server.log_text())
    yield
    if page.js("return document.querySelector('[role=\"dialog\"]') !== null"):
        page.open()  # what a failed test left open must not stop the others
    assert page.messages() == [] and ours(server.log_text()[before:]) == []
