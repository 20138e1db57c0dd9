"""The pack loads in ComfyUI: every node, its help page, its workflows, at little cost."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from understudy.nodes import CLASSES
from understudy.translations.write import LANGUAGES, LOCALES

from ..help_pages import FOLDER as DOCS
from ..help_pages import entries, text
from .environment import PACK, cache_dir
from .server import FOLDER

NAMES = "|".join(map(re.escape, ("understudy", FOLDER, str(PACK))))
NODES = [node for names in CLASSES.values() for node in names]


@pytest.fixture(scope="module")
def info(host):
    return host.object_info()


@pytest.mark.parametrize("node", NODES)
def test_every_node_registers_with_the_documented_sockets(info, node):
    inputs = {**info[node]["input"].get("required", {}), **info[node]["input"].get("optional", {})}
    assert set(inputs) == {name for name, _ in entries(text(node), "Inputs")}
    assert list(info[node]["output_name"]) == [name for name, _ in entries(text(node), "Outputs")]
    assert info[node]["category"].split("/")[0] == "understudy"


def test_every_input_and_output_has_a_tooltip(info):
    for node in NODES:
        inputs = {**info[node]["input"].get("required", {}), **info[node]["input"].get("optional", {})}
        for name, (_, options) in inputs.items():
            assert options.get("tooltip"), f"{node}.{name}"
        assert len(info[node]["output_tooltips"] or ()) == len(info[node]["output"]), node
        assert all(info[node]["output_tooltips"] or ()), node


def test_what_writes_a_file_is_an_output_node_and_may_end_a_graph(info):
    files = {"UnderstudyCalibrate", "UnderstudyManageCalibration", "UnderstudyReceipt", "UnderstudyShowCalibration"}
    assert {node for node in NODES if info[node]["output_node"]} == files


def test_names_aliases_and_hidden_widgets_are_told_as_far_as_the_host_has_them(host, info):
    names = [info[node]["display_name"] for node in NODES]
    assert len(set(names)) == len(names) and not any("Understudy" in name for name in names)
    threshold = info["UnderstudyThreshold"]
    if "search_aliases" in threshold:
        assert (
            "quality gate" in threshold["search_aliases"]
            and "imagereward" in info["UnderstudyLoadOracle"]["search_aliases"]
        )
    inputs = {**threshold["input"]["required"], **threshold["input"]["optional"]}
    hidden = {name for name, (_, options) in inputs.items() if options.get("advanced")}
    known = "advanced" in (host.checkout / "comfy_api" / "latest" / "_io.py").read_text(encoding="utf-8")
    assert hidden == (inputs.keys() - {"mode", "fraction", "scores"} if known else set())


def test_a_name_is_of_no_other_node_of_the_host(info):
    ours = {info[node]["display_name"].lower() for node in NODES}
    others = {(info[node]["display_name"] or node).lower() for node in info.keys() - NODES}
    assert ours >= {"split rejected", "merge redone", "score threshold"}
    assert len(others) > 100 and not ours & others


@pytest.mark.parametrize("node", NODES)
def test_help_pages_are_served_for_every_language_of_the_front_ends(host, node):
    pages = f"/extensions/{FOLDER.replace(' ', '%20')}/docs/{node}"
    assert host.get(f"{pages}.md").decode() == text(node)
    for language in ("en", "zh", "zh-TW", "ja", "ko", "fr", "ru", "es", "ar", "tr", "pt-BR", "fa", "he"):
        own = language if (DOCS / node / f"{language}.md").is_file() else "en"
        assert host.get(f"{pages}/{language}.md").decode() == text(node, own), language


def test_the_host_hands_out_the_nodes_words_in_six_languages(host):
    told = host.get("/i18n")
    assert {language for language in told if "UnderstudyTeacher" in told[language].get("nodeDefs", {})} == {
        "en",
        *LANGUAGES,
    }
    for language in ("en", *LANGUAGES):
        ours = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
        assert ours.keys() == set(NODES) and ours.items() <= told[language]["nodeDefs"].items()
    assert told["zh"]["nodeDefs"]["UnderstudyTeacher"]["inputs"]["rollback"]["name"] == "回退幅度"


def test_english_says_what_the_host_s_own_schemas_do(info):
    """And so do the translations, which are made from the same stand-ins' schemas."""
    words = json.loads((LOCALES / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    for node in NODES:
        inputs = {**info[node]["input"].get("required", {}), **info[node]["input"].get("optional", {})}
        outputs = zip(info[node]["output_name"], info[node]["output_tooltips"], strict=True)
        assert words[node] == {
            "display_name": info[node]["display_name"],
            "description": info[node]["description"],
            "inputs": {name: {"name": name, "tooltip": each["tooltip"]} for name, (_, each) in inputs.items()},
            "outputs": {str(at): {"name": name, "tooltip": said} for at, (name, said) in enumerate(outputs)},
        }


def test_workflows_and_thumbnails_are_offered_as_templates(host):
    templates = host.get("/workflow_templates")[FOLDER]
    assert sorted(templates) == sorted(path.stem for path in (PACK / "example_workflows").glob("*.json"))
    assert len(templates) >= 2
    assert all((PACK / "example_workflows" / f"{name}.jpg").is_file() for name in templates)


def test_start_up_says_how_long_the_pack_took_and_nothing_else_of_it(host):
    start, ready, _ = host.log_text().partition("To see the GUI go to")
    elsewhere = re.compile(re.escape(str(cache_dir())) + r"\S*")  # the tests' hosts lie in a folder named as the pack
    lines = [line for line in start.splitlines() if re.search(NAMES, elsewhere.sub("", line), re.IGNORECASE)]
    times = [line for line in lines if re.search(r" [\d.]+ seconds: .*/custom_nodes/", line)]
    assert ready and lines == times
    assert [line.endswith(f"/{FOLDER}") for line in lines].count(True) == 1


def test_start_up_loads_the_pack_and_no_further_library(host):
    script = Path(__file__).with_name("inside_startup.py")
    command = [str(part) for part in (host.python, script, host.checkout, PACK)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=host.base)
    assert done.returncode == 0, done.stderr
    roots = {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])["modules"]}
    assert roots - set(sys.stdlib_module_names) == {"pack_under_test"}


def test_the_environment_is_a_user_s(host):
    code = "from importlib.util import find_spec; print(*(find_spec(n) is not None for n in ('torch', 'diffusers')))"
    found = subprocess.run([host.python, "-c", code], capture_output=True, text=True, check=True, cwd=host.base)
    assert found.stdout.split() == ["True", "False"]


def test_install_makes_the_folder_for_oracles(host):
    assert host.installed.returncode == 0, host.installed.stderr
    assert Path(host.base, "models", "oracles").is_dir()
