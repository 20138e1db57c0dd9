"""Two processes share the tests: a file's tests stay together, as do those of one host's server, all of A1111's and all
in the front end's page."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: two processes with two threads each only get in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_itemcollected(item):  # not later: xdist reads the groups once all are collected
    params = item.callspec.params if hasattr(item, "callspec") else {}
    group = f"host {params['host']}" if "host" in params else item.path.name
    folder = item.path.parent.name
    item.add_marker(pytest.mark.xdist_group(folder if folder in ("a1111", "browser") else group))
