"""Every node of the pack says all about itself: in its class, and on a help page that has the same sockets.

Whoever adds a node makes three files right: its module, its line in ``nodes.CLASSES``, its help page.
"""

import ast
import importlib
import re
from pathlib import Path

import pytest
from understudy.nodes import CLASSES
from understudy.nodes.folders import NO_ORACLE
from understudy.samplers.presets import STUDENTS
from understudy.samplers.presets.settings import Flux2, Grid, Sigmas, Timesteps, listed

from ..help_pages import FOLDER, named, text

NODES = {name: module for module, names in CLASSES.items() for name in names}
SOURCES = Path(__file__).parents[2] / "nodes"
# A word means one thing: whoever uses it has to do with that.
WORDS = {"famil": "UNDERSTUDY_ORACLE", "preset": "LATENT", "architectur": "MODEL"}


def test_every_node_class_is_registered():
    written = {
        (path.stem, each.name)
        for path in SOURCES.glob("*.py")
        for each in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(each, ast.ClassDef)
        and any(isinstance(own, ast.FunctionDef) and own.name == "define_schema" for own in each.body)
    }
    assert written == {(module, node) for node, module in NODES.items()}


def test_every_help_page_is_of_a_node():
    assert {path.stem for path in FOLDER.iterdir()} == set(NODES)


@pytest.mark.parametrize("node", NODES)
def test_a_node_says_all_about_itself(schema_of, node):
    schema = schema_of(node)
    assert schema.node_id == node and schema.category.split("/")[0] == "understudy"
    assert schema.description.strip() and all(schema.search_aliases)
    for socket in (*schema.inputs, *schema.outputs):
        assert (socket.tooltip or "").strip(), f"{node}.{socket.id} has no tooltip"
        assert socket.options is None or socket.options, f"{node}.{socket.id} offers nothing"


@pytest.mark.parametrize("node", NODES)
def test_the_help_page_has_the_node_s_title_and_sockets(schema_of, node):
    schema = schema_of(node)
    assert text(node).startswith(f"# {schema.display_name}\n")
    assert sorted(named(node, "Inputs")) == sorted(socket.id for socket in schema.inputs)
    assert sorted(named(node, "Outputs")) == sorted(socket.display_name for socket in schema.outputs)


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
    for name, lacks in ((NO_ORACLE, ""), ("gone.safetensors", "'gone.safetensors' is not in models/oracles; ")):
        refusal = module.UnderstudyLoadOracle.validate_inputs(name)
        assert refusal.startswith(f"{lacks}models/oracles is empty. Put a file of ")
        assert "into /models/oracles and press R" in refusal and "download NAME' fetches a published one: " in refusal
        assert "ImageReward" in refusal and "hpsv2" in refusal
    assert module.UnderstudyLoadOracle.validate_inputs(None) is True


def test_an_empty_folder_of_predictors_says_where_a_file_goes(schema_of):
    (combo,) = (each for each in schema_of("UnderstudyApplyGradientPredictor").inputs if each.id == "predictor_name")
    (given,) = combo.options
    module = importlib.import_module("understudy.nodes.apply_predictor")
    refusal = module.UnderstudyApplyGradientPredictor.validate_inputs(given)
    assert "models/understudy_predictors" in given
    assert refusal.startswith("models/understudy_predictors is empty. Put the file into /models/understudy_predictors")
    assert "'understudy train sferd-predictor'" in refusal


def preset_row(student):
    """A preset's row in the help page's table."""
    known = {
        Timesteps: lambda it: f"timesteps {', '.join(map(str, it.values[:2]))}" + " ..." * (len(it.values) > 2),
        Sigmas: lambda it: f"{len(it.values) - 1} noise levels of its own",
        Flux2: lambda it: "Flux2Scheduler's",
        Grid: lambda it: (
            {
                ("trailing", 50): "999, 979, ... 19",
                ("trailing", 20): "999, 949, ... 49",
                ("leading", 50): "981, 961, ... 1",
            }[it.spacing, it.grid]
            + " of 1,000"
        ),
    }
    schedule = known.get(type(student.schedule), lambda it: f"`{it}`")(student.schedule)
    steps = f"{student.steps}" if len(student.allowed) == 1 else f"{student.steps} ({listed(student.allowed)})"
    cfg = f"{student.cfg:g}"
    if student.cfgs is None:
        cfg += " (as it was distilled)"
    elif student.cfgs[0] != student.cfgs[1]:
        cfg += f" ({student.cfgs[0]:g} to {student.cfgs[1]:g})"
    classes = " or ".join(student.architectures) or "any"
    return f"| {student.key} | {student.about} | {classes} | `{student.sampler}`, {schedule} | {steps} | {cfg} |"


def test_every_preset_has_a_row_on_the_student_s_page():
    rows = text("UnderstudyStudentSampler").split("## ")[0]
    missing = [row for row in map(preset_row, STUDENTS.values()) if row not in rows.splitlines()]
    assert not missing, "the help page lacks these rows:\n" + "\n".join(missing)
    assert len(re.findall(r"^\| .*\|$", rows, re.M)) == len(STUDENTS) + 1  # and its heading


def test_the_widget_offers_what_the_host_has(schema_of):
    (combo,) = (socket for socket in schema_of("UnderstudyStudentSampler").inputs if socket.id == "preset")
    assert combo.options == ["auto", "demo", "LCM", "LCM-LoRA", "consistency", "codi", "z-image-turbo"]


# What is seen of a new node whose widgets depend on a mode, where the host has advanced inputs.
SEEN = {
    "UnderstudyThreshold": ["mode", "fraction"],
    "UnderstudyLikeness": ["measure"],
    "UnderstudyTeacher": [
        *["start_from", "strategy", "settings", "rollback_mode", "rollback", "strength"],
        *["upscale_by", "images_at_once", "seed_from", "seed"],
    ],
}


@pytest.mark.parametrize("node, seen", SEEN.items())
def test_a_node_shows_the_widgets_that_it_uses_as_it_is_made(schema_of, node, seen):
    widgets = [each for each in schema_of(node).inputs if each.type in ("COMBO", "FLOAT", "INT", "BOOLEAN", "STRING")]
    assert [each.id for each in widgets if not each.advanced] == seen
    assert len(widgets) > len(seen)


def test_a_host_without_advanced_inputs_gets_none(schema_of):
    from types import SimpleNamespace

    schema = importlib.import_module("understudy.nodes.schema").schema
    old, new = SimpleNamespace(id="a"), SimpleNamespace(id="a", advanced=None)
    for each in (old, new):
        schema(search_aliases=[], advanced=["a"], node_id="", display_name="", description="", inputs=[each])
    assert vars(old) == {"id": "a"} and new.advanced
