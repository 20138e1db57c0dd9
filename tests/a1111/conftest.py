"""Fixtures: one running A1111 for the whole session, and a Forge as well where one is named."""

import os
import shutil

import pytest

from ..host.environment import PACK, HostUnavailable
from . import environment, stubs
from .server import WebUI
from .stubs import STUDENT, TEACHER


def pytest_collection_modifyitems(items):
    for item in items:
        if "a1111" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.host)


@pytest.fixture(scope="session", params=environment.names())
def a1111(request, tmp_path_factory):
    """A server that runs until the last test that needs it."""
    try:
        host = environment.host(request.param)
    except HostUnavailable as e:
        if os.environ.get("UNDERSTUDY_REQUIRE_HOST") == "1":
            pytest.fail(f"{request.param} cannot be had here: {e}", pytrace=False)
        pytest.skip(f"{request.param} cannot be had here: {e}")
    base = tmp_path_factory.mktemp(request.param)
    webui = WebUI(host.folder, host.python, base, arguments=host.arguments)
    models = base / "models"
    for name in (STUDENT, TEACHER):
        stubs.save(host, models / "Stable-diffusion" / name)
    shutil.copyfile(PACK / "demo_family" / "oracle.safetensors", models / "oracles" / "demo.safetensors")
    webui.start("--nowebui")
    yield webui
    webui.stop()
