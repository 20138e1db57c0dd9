"""Two processes share the tests: a file's tests stay together, as do those of one host's server, of A1111's with its
page and of the one without, and all in the front end's page."""

import os

import pytest

SERVERS = ("host", "a1111", "webui", "server")  # the fixtures that hold one
SHARED = "PYTEST_XDIST_WORKER" in os.environ

if SHARED:
    # Before torch is imported: two processes with two threads each only get in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_itemcollected(item):  # not later: xdist reads the groups once all are collected
    item.add_marker(pytest.mark.xdist_group(_group(item)))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """A server, which holds gigabytes, ends with its group and not with the session, where groups stay together."""
    if SHARED and (nextitem is None or _group(nextitem) != _group(item)):
        for name in SERVERS:
            for fixture in item._fixtureinfo.name2fixturedefs.get(name, ()):
                fixture.finish(item._request)


def _group(item) -> str:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    if "host" in params:
        return f"host {params['host']}"
    if "web_host" in params:  # a test of the page's server may ask for it by another's name
        return f"{params['web_host']} page" if "webui" in item.fixturenames else params["web_host"]
    return "browser" if item.path.parent.name == "browser" else item.path.name
