import sys
from types import ModuleType
from unittest.mock import MagicMock

import pytest


@pytest.fixture
def without_host(monkeypatch):
    """Node modules import without ComfyUI: stand-ins for what they import at their top. Yields its management module.

    A node's ``execute`` returns the tuple of its outputs.
    """
    latest = MagicMock()
    latest.io.ComfyNode = type("ComfyNode", (), {})
    latest.io.NodeOutput = lambda *outputs, **_: outputs
    comfy = ModuleType("comfy")
    comfy.model_management, comfy.model_patcher, comfy.utils = MagicMock(), MagicMock(), MagicMock()
    stand_ins = {"comfy_api": ModuleType("comfy_api"), "comfy_api.latest": latest, "comfy": comfy}
    for name in ("model_management", "model_patcher", "utils"):
        stand_ins[f"comfy.{name}"] = getattr(comfy, name)
    stand_ins["server"] = MagicMock()
    before = set(sys.modules)
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, module)
    yield comfy.model_management
    for name in set(sys.modules) - before:
        if name.startswith("understudy.nodes."):
            del sys.modules[name]
            delattr(sys.modules["understudy.nodes"], name.rpartition(".")[2])
