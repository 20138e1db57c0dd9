"""Fixtures: one running ComfyUI server per host version for the whole session."""

import pytest

from . import checkpoints, environment
from .server import Host


def pytest_collection_modifyitems(items):
    for item in items:
        if "host" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.host)


@pytest.fixture(scope="session", params=environment.revisions())
def host(request, tmp_path_factory):
    """A server that runs until the last test with this host version."""
    try:
        checkouts = {revision: environment.checkout(revision) for revision in environment.revisions()}
        interpreter = environment.python(list(checkouts.values()))
    except environment.HostUnavailable as e:
        environment.unavailable(f"ComfyUI cannot be had here: {e}")
    base = tmp_path_factory.mktemp(f"host-{request.param}")
    host = Host(checkouts[request.param], interpreter, base, checkpoints.models())
    host.installed = host.install()
    host.start()
    yield host
    host.stop()
