import sys

import pytest

from .stand_ins import stand_in, stand_in_for_schemas


@pytest.fixture
def without_host(monkeypatch):
    """Node modules import without ComfyUI. Yields the stand-in for its management module."""
    before = set(sys.modules)
    yield stand_in(monkeypatch)
    for name in set(sys.modules) - before:
        if name.startswith("understudy.nodes."):
            del sys.modules[name]
            delattr(sys.modules["understudy.nodes"], name.rpartition(".")[2])


@pytest.fixture
def schema_of(without_host, monkeypatch, tmp_path):
    """The schema of a node by its name, in a host that has no model files."""
    return stand_in_for_schemas(monkeypatch, tmp_path)
