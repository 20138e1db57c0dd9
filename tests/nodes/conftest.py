import dataclasses
import importlib
import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest
from understudy.nodes import CLASSES

NODES = {name: module for module, names in CLASSES.items() for name in names}


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


@dataclasses.dataclass
class Schema:
    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list
    search_aliases: list
    outputs: list = ()
    hidden: list = ()
    is_input_list: bool = False
    is_output_node: bool = False


class Types:
    """Stands in for the host's ``io``: each socket remembers what it was declared with."""

    Schema, ComfyNode, NodeOutput, Hidden = Schema, type("ComfyNode", (), {}), tuple, SimpleNamespace(
        dynprompt=0, unique_id=0, prompt=0, extra_pnginfo=0
    )  # fmt: skip

    def __getattr__(self, name):
        return self.Custom(name.upper())

    @staticmethod
    def Custom(type_name):
        def socket(id, *types, tooltip="", display_name=None, **options):
            known = {name: options.get(name) for name in ("options", "default", "force_input", "advanced")}
            return SimpleNamespace(id=id, type=type_name, tooltip=tooltip, display_name=display_name, **known)

        return SimpleNamespace(Input=socket, Output=socket)


@pytest.fixture
def schema_of(without_host, monkeypatch, tmp_path):
    """The schema of a node by its name, in a host that has no model files."""
    files = ModuleType("folder_paths")
    files.get_filename_list, files.get_full_path = lambda folder: [], lambda *_: None
    files.get_folder_paths = lambda folder: [f"/models/{folder}"]
    files.get_user_directory = lambda: str(tmp_path)
    samplers = ModuleType("comfy.samplers")
    samplers.KSampler = SimpleNamespace(SAMPLERS=["euler", "dpmpp_2m"], SCHEDULERS=["normal"])
    monkeypatch.setitem(sys.modules, "folder_paths", files)
    monkeypatch.setitem(sys.modules, "comfy.samplers", samplers)
    classes = ModuleType("comfy.supported_models")
    classes.ZImage = type("ZImage", (), {})
    monkeypatch.setitem(sys.modules, "comfy.supported_models", classes)
    monkeypatch.setattr(sys.modules["comfy"], "supported_models", classes, raising=False)
    monkeypatch.setattr(sys.modules["comfy_api.latest"], "io", Types())
    return lambda node: getattr(importlib.import_module(f"understudy.nodes.{NODES[node]}"), node).define_schema()
