"""Stand-ins for ComfyUI, with which node modules import and tell their schemas without it."""

import dataclasses
import importlib
import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

from understudy.nodes import CLASSES

NODES = {name: module for module, names in CLASSES.items() for name in names}
REMEMBERED = "options default min max optional force_input advanced is_output_list".split()


def stand_in(monkeypatch):
    """Puts stand-ins where node modules import ComfyUI at their top; returns the management module's.

    A node's ``execute`` then returns the tuple of its outputs.
    """
    latest = MagicMock()
    latest.io.ComfyNode = type("ComfyNode", (), {})
    latest.io.NodeOutput = lambda *outputs, **_: outputs
    comfy = ModuleType("comfy")
    comfy.model_management, comfy.model_patcher, comfy.utils = MagicMock(), MagicMock(), MagicMock()
    modules = {"comfy_api": ModuleType("comfy_api"), "comfy_api.latest": latest, "comfy": comfy}
    for name in ("model_management", "model_patcher", "utils"):
        modules[f"comfy.{name}"] = getattr(comfy, name)
    modules["server"] = MagicMock()
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return comfy.model_management


def stand_in_for_schemas(monkeypatch, user_folder):
    """After ``stand_in``: returns what gives a node's schema by its name, in a host that has no model files."""
    files = ModuleType("folder_paths")
    files.get_filename_list, files.get_full_path = lambda folder: [], lambda *_: None
    files.get_folder_paths = lambda folder: [f"/models/{folder}"]
    files.get_user_directory = lambda: str(user_folder)
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

    ControlNet = property(lambda self: self.Custom("CONTROL_NET"))

    def __getattr__(self, name):
        return self.Custom(name.upper())

    @staticmethod
    def Custom(type_name):
        def socket(id, types=(), *, tooltip="", display_name=None, **options):
            known = {name: options.get(name) for name in REMEMBERED}
            kind = ",".join(each.io_type for each in types) or type_name
            return SimpleNamespace(id=id, type=kind, tooltip=tooltip, display_name=display_name, **known)

        return SimpleNamespace(io_type=type_name, Input=socket, Output=socket)
