"""Every node of the pack says all about itself: in its class, and on a help page that has the same sockets.

Whoever adds a node makes three files right: its module, its line in ``nodes.CLASSES``, its help page.
"""

import ast
import dataclasses
import importlib
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from understudy.nodes import CLASSES
from understudy.nodes.folders import NO_ORACLE

from ..help_pages import FOLDER, named, text

NODES = {name: module for module, names in CLASSES.items() for name in names}
SOURCES = Path(__file__).parents[2] / "nodes"
# A word means one thing: whoever uses it has to do with that.
WORDS = {"famil": "UNDERSTUDY_ORACLE", "preset": "LATENT", "architectur": "MODEL"}


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
            return SimpleNamespace(
                id=id, type=type_name, tooltip=tooltip, display_name=display_name, options=options.get("options")
            )

        return SimpleNamespace(Input=socket, Output=socket)


@pytest.fixture
def schema_of(without_host, monkeypatch, tmp_path):
    """The schema of a node by its name, in a host that has no model files."""
    import sys

    files = ModuleType("folder_paths")
    files.get_filename_list, files.get_full_path = lambda folder: [], lambda *_: None
    files.get_user_directory = lambda: str(tmp_path)
    samplers = ModuleType("comfy.samplers")
    samplers.KSampler = SimpleNamespace(SAMPLERS=["euler", "dpmpp_2m"], SCHEDULERS=["normal"])
    monkeypatch.setitem(sys.modules, "folder_paths", files)
    monkeypatch.setitem(sys.modules, "comfy.samplers", samplers)
    monkeypatch.setattr(sys.modules["comfy_api.latest"], "io", Types())
    return lambda node: getattr(importlib.import_module(f"understudy.nodes.{NODES[node]}"), node).define_schema()


def test_every_node_class_is_registered():
    written = {
        (path.stem, each.name)
        for path in SOURCES.glob("*.py")
        for each in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(each, ast.ClassDef) and any(ast.unparse(base) == "io.ComfyNode" for base in each.bases)
    }
    assert written == {(module, node) for node, module in NODES.items()}


def test_every_help_page_is_of_a_node():
    assert {path.stem for path in FOLDER.iterdir()} == set(NODES)


@pytest.mark.parametrize("node", NODES)
def test_a_node_says_all_about_itself(schema_of, node):
    schema = schema_of(node)
    assert schema.node_id == node and schema.category.split("/")[0] == "understudy"
    assert schema.display_name == re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node)
    assert schema.description.strip() and all(schema.search_aliases)
    for socket in (*schema.inputs, *schema.outputs):
        assert (socket.tooltip or "").strip(), f"{node}.{socket.id} has no tooltip"
        assert socket.options is None or socket.options, f"{node}.{socket.id} offers nothing"


@pytest.mark.parametrize("node", NODES)
def test_the_help_page_has_the_node_s_title_and_sockets(schema_of, node):
    schema = schema_of(node)
    assert text(node).startswith(f"# {schema.display_name}\n")
    assert sorted(named(node, "Inputs")) == sorted(socket.id for socket in schema.inputs)
    assert sorted(named(node, "Outputs")) == sorted(socket.id for socket in schema.outputs)


@pytest.mark.parametrize("node", NODES)
def test_words_mean_one_thing(schema_of, node):
    schema = schema_of(node)
    sockets = (*schema.inputs, *schema.outputs)
    said = " ".join([schema.description, text(node), *(socket.tooltip for socket in sockets)]).lower()
    for word, kind in WORDS.items():
        assert word not in said or kind in {socket.type for socket in sockets}, f"{node} says {word!r}"
    assert "demo family" not in said


def test_an_empty_folder_of_oracles_says_where_a_file_goes(schema_of):
    (combo,) = (socket for socket in schema_of("UnderstudyLoadOracle").inputs if socket.id == "oracle_name")
    assert combo.options == [NO_ORACLE] and "models/oracles" in NO_ORACLE
    module = importlib.import_module("understudy.nodes.load_oracle")
    for name in (NO_ORACLE, "gone.safetensors"):
        refusal = module.UnderstudyLoadOracle.validate_inputs(name)
        assert f"{name!r} is neither in models/oracles" in refusal and "no oracle is there yet" in refusal
    assert module.UnderstudyLoadOracle.validate_inputs(None) is True


def test_every_preset_has_a_row_on_the_student_s_page(without_host):
    from understudy.nodes.presets import PRESETS

    rows = re.findall(r"^\| ([\w-]+) \| .+ \| .+ \| (.+) \|$", text("UnderstudyStudentSampler").split("## ")[0], re.M)
    assert dict(rows[1:]) == {name: preset.cfg for name, preset in PRESETS.items()}
    assert all(preset.about for preset in PRESETS.values())
