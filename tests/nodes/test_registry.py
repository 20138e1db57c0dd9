"""Every node of the pack says all about itself: in its class, and on a help page that has the same sockets.

Whoever adds a node makes three files, its module and its help page in two languages, and a row in three (CONTRIBUTING).
"""

import ast
import importlib
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from understudy.nodes import CLASSES
from understudy.nodes.folders import NO_ORACLE
from understudy.samplers.presets import STUDENTS
from understudy.samplers.presets.settings import Flux2, Grid, Sigmas, Timesteps, listed
from understudy.templates.hosts import nodes_of
from understudy.translations.write import table

from ..help_pages import ENGLISH, FOLDER, LANGUAGES, entries, of_input, of_output, text

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


PAGES = [(path.parent.name, path.stem) for path in sorted(FOLDER.glob("*/*.md"))]


def test_every_help_page_is_of_a_node_and_a_language():
    assert {path.stem for path in FOLDER.glob("*.md")} == set(NODES)
    assert {language for _, language in PAGES} <= {*LANGUAGES} - {"en"}
    assert {node for node, language in PAGES if language == "zh"} == {node for node, _ in PAGES} == set(NODES)
    assert {path.suffix for path in FOLDER.rglob("*") if path.is_file()} == {".md"}


@pytest.mark.parametrize("node", NODES)
def test_a_node_says_all_about_itself(schema_of, node):
    schema = schema_of(node)
    assert schema.node_id == node and schema.category.split("/")[0] == "understudy"
    assert schema.description.strip() and all(schema.search_aliases)
    for socket in (*schema.inputs, *schema.outputs):
        assert (socket.tooltip or "").strip(), f"{node}.{socket.id} has no tooltip"
        assert socket.options is None or socket.options, f"{node}.{socket.id} offers nothing"


@pytest.mark.parametrize("node", NODES)
def test_the_help_page_says_of_each_socket_what_the_schema_does(schema_of, node):
    schema, page = schema_of(node), text(node)
    assert page.startswith(f"# {schema.display_name}\n")
    inputs, outputs = (entries(page, heading) for heading in ENGLISH.headings)
    assert inputs == [(socket.id, of_input(socket)) for socket in schema.inputs]
    assert outputs == [(socket.display_name, of_output(socket)) for socket in schema.outputs]


@pytest.mark.parametrize("node, language", PAGES)
def test_a_page_in_another_language_says_the_same_by_its_own_names(schema_of, node, language):
    schema, page, words, names = schema_of(node), text(node, language), LANGUAGES[language], table(language)
    assert page.startswith(f"# {names[schema.display_name]}\n")
    inputs, outputs = (entries(page, heading, words) for heading in words.headings)
    assert inputs == [(names[each.id], each.id, of_input(each, words)) for each in schema.inputs]
    shown = [(each.display_name, of_output(each, words)) for each in schema.outputs]
    assert outputs == [(names[name], name, facts) for name, facts in shown]
    kept, given = (Counter(re.findall(r"^(?:##|-|\d\.) ", each, re.M)) for each in (text(node), page))
    assert given == kept, "another number of sections or entries than the English page"


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.md")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_help_page_fits_into_a_narrow_panel(path):
    """Of 255 pixels: no tables, and no code that is not broken, such as paths, of more letters than there is room for.
    A mark after it stays beside it, and one of Chinese is as wide as two letters."""
    page = path.read_text(encoding="utf-8")
    assert not re.findall(r"^\||^ {4}|^```", page, re.M)
    for block in re.split(r"\n(?=\n|- |\d\. )", page):
        room = 22 if re.match(r"- |\d\. ", block) else 26
        for code, mark in re.findall(r"`([^`]+)`([,.;:，。、；：]?)", block):
            assert max(map(len, code.split())) + len(mark) + (mark > ";") <= room, code


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.md")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_bold_is_read_as_bold(path):
    """Markdown takes asterisks for itself only where a mark inside of them has a space or another mark outside."""

    def mark(sign):
        return unicodedata.category(sign)[0] in "PS"

    page = re.sub(r"`[^`]+`", "code", path.read_text(encoding="utf-8"))
    assert page.count("**") % 2 == 0
    for bold in re.finditer(r"\*\*(.+?)\*\*", page, re.S):
        before, after = page[bold.start() - 1], page[bold.end()]
        assert not mark(bold[1][0]) or before.isspace() or mark(before), bold[0]
        assert not mark(bold[1][-1]) or after.isspace() or mark(after), bold[0]


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


FACTS = re.compile(r"`\w+`|\d+(?:[.,]\d+)?")


def preset_line(student):
    """What the help page's list says of a preset."""
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
    made_for = f"`{student.sampler}`, {schedule}; steps {steps}; cfg {cfg}"
    return f"- **{student.key}**: {student.about}. Loads as {classes}; {made_for}"


def test_every_preset_has_its_line_on_the_student_s_page():
    lines = text("UnderstudyStudentSampler").split("## Which preset for what\n\n")[1].split("\n\n")[0].splitlines()
    missing = [line for line in map(preset_line, STUDENTS.values()) if line not in lines]
    assert not missing, "the help page lacks these lines:\n" + "\n".join(missing)
    assert len(lines) == len(STUDENTS)


@pytest.mark.parametrize("language", [language for node, language in PAGES if node == "UnderstudyStudentSampler"])
def test_what_other_languages_say_of_a_preset_is_so(language):
    """They may lack a preset, but say nothing else of one."""
    last = text("UnderstudyStudentSampler", language).rsplit("\n## ", 1)[1]
    lines = re.findall(r"^- \*\*(\S+?)\*\*(.+)$", last, re.M)
    assert lines
    for key, line in lines:
        facts, told = preset_line(STUDENTS[key]).split("Loads as ")[1], line.split("。")[-1]
        assert Counter(FACTS.findall(told)) == Counter(FACTS.findall(facts)), (key, told)


def test_the_widget_offers_what_the_host_has(schema_of):
    (combo,) = (socket for socket in schema_of("UnderstudyStudentSampler").inputs if socket.id == "preset")
    assert combo.options == ["auto", "demo", "LCM", "LCM-LoRA", "consistency", "codi", "z-image-turbo"]


# What is seen of a new node whose widgets depend on a mode, where the host has advanced inputs. Teacher redo's rollback
# and seed are among it: they hold where the table has no way back, as for another teacher's student, and where no seed
# comes with the latent.
SEEN = {
    "UnderstudyThreshold": ["mode", "fraction"],
    "UnderstudyLikeness": ["measure"],
    "UnderstudyTeacher": [
        *["start_from", "strategy", "settings", "rollback_mode", "rollback", "strength"],
        *["upscale_by", "images_at_once", "seed_from", "seed"],
    ],
    "UnderstudyTeacherAdvanced": [
        *["start_from", "strategy", "rollback_mode", "rollback", "strength"],
        *["upscale_by", "images_at_once", "seed_from", "seed"],
    ],
    "UnderstudyStudentSampler": ["seed", "preset", "steps", "cfg", "denoise"],
    "UnderstudyBestOf": ["seed", "preset", "steps", "cfg", "denoise", "prompt", "n", "literal_prompts"],
}


@pytest.mark.parametrize("node, seen", SEEN.items())
def test_a_node_shows_the_widgets_that_it_uses_as_it_is_made(schema_of, node, seen):
    widgets = [each for each in schema_of(node).inputs if each.type in ("COMBO", "FLOAT", "INT", "BOOLEAN", "STRING")]
    assert [each.id for each in widgets if not each.advanced] == seen
    assert len(widgets) > len(seen)


# Of a saved node: which value is a mode's, and with which no hidden widget is used.
PLAIN = {"UnderstudyThreshold": [(0, "worst_fraction")], "UnderstudyTeacher": [(2, "by the table"), (5, "fixed")]}


def test_templates_show_the_widgets_that_they_use():
    paths = sorted((SOURCES.parent / "example_workflows").glob("*.json"))
    judged = [node for path in paths for node in nodes_of(path) if node["type"] in PLAIN]
    assert len(judged) >= len(paths) > 0
    for node in judged:
        plain = all(node["widgets_values"][place] == value for place, value in PLAIN[node["type"]])
        assert node.get("showAdvanced", False) != plain, (node["type"], node["id"])


def test_a_host_without_advanced_inputs_gets_none(schema_of):
    from types import SimpleNamespace

    schema = importlib.import_module("understudy.nodes.schema").schema
    old, new = SimpleNamespace(id="a"), SimpleNamespace(id="a", advanced=None)
    for each in (old, new):
        schema(search_aliases=[], advanced=["a"], node_id="", display_name="", description="", inputs=[each])
    assert vars(old) == {"id": "a"} and new.advanced
