"""Two processes share the tests: a file's tests stay together, as do those of one host's server and all of A1111's."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: two processes with two threads each only get in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_itemcollected(item):  # not later: xdist reads the groups once all are collected
    params = item.callspec.params if hasattr(item, "callspec") else {}
    group = f"host {params['host']}" if "host" in params else item.path.name
    item.add_marker(pytest.mark.xdist_group("a1111" if item.path.parent.name == "a1111" else group))
