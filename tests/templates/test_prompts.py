"""Saved workflows as prompts, and every template as each host's prompt."""

import json
import re

import pytest
from understudy.templates import hosts, prompts
from understudy.templates.prompts import by_host, least_host, prompt_of
from understudy.templates.schemas import CORE, schemas

CLASSES = {
    "Loader": {"input": {"required": {"file": ["COMBO", {}]}}},
    "Text": {"input": {"required": {"text": ["STRING", {}], "clip": ["CLIP"]}}},
    "Sample": {
        "input": {
            "required": {"model": ["MODEL"], "positive": ["CONDITIONING"], "seed": ["INT", {}], "steps": ["INT", {}]},
            "optional": {"note": ["STRING", {"forceInput": True}], "shift": ["FLOAT", {}]},
        }
    },
}


def saved(number, kind, values=(), **links):
    """A saved node; an input of a widget's name is the widget's."""
    widgets = ("file", "text", "seed", "steps", "prompt")
    inputs = [
        {"name": name, "link": link, **({"widget": {"name": name}} if name in widgets else {})}
        for name, link in links.items()
    ]
    return {"id": number, "type": kind, "inputs": inputs, "widgets_values": list(values)}


def test_widgets_come_by_name_and_links_by_node():
    graph = {
        "nodes": [
            {"id": 9, "type": "MarkdownNote", "widgets_values": ["Read me"], "inputs": []},
            saved(1, "Loader", ["a.safetensors"]),
            saved(2, "Text", ["a castle"], clip=7),
            saved(3, "Sample", [5, "fixed", 8], model=8, positive=9, seed=None),
        ],
        "links": [[7, 1, 1, 2, 1, "CLIP"], [8, 1, 0, 3, 0, "MODEL"], [9, 2, 0, 3, 1, "CONDITIONING"]],
    }
    prompt = prompt_of(graph, CLASSES)
    assert prompt == {
        "1": {"class_type": "Loader", "inputs": {"file": "a.safetensors"}},
        "2": {"class_type": "Text", "inputs": {"text": "a castle", "clip": ["1", 1]}},
        "3": {
            "class_type": "Sample",
            "inputs": {"seed": 5, "steps": 8, "model": ["1", 0], "positive": ["2", 0]},
        },
    }
    graph["nodes"][1]["widgets_values"].append(1)
    with pytest.raises(ValueError, match=r"Loader 1: .* 1 widget values too many: \[1\]"):
        prompt_of(graph, CLASSES)
    graph["nodes"][1] = saved(1, "Loader")
    with pytest.raises(ValueError, match="Loader 1: .* no value for 'file'"):
        prompt_of(graph, CLASSES)
    graph["nodes"][1] = saved(1, "Other")
    with pytest.raises(ValueError, match="node 1: there is no class Other"):
        prompt_of(graph, CLASSES)


def test_blocks_are_laid_open():
    """A block in a block, used twice: what it is given reaches its nodes, and what they make comes out."""
    inner = {
        "id": "inner",
        "inputs": [{"name": "clip"}, {"name": "prompt"}],
        "nodes": [saved(5, "Text", ["unused"], text=1, clip=2)],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 1, "target_id": 5, "target_slot": 0},
            {"id": 2, "origin_id": -10, "origin_slot": 0, "target_id": 5, "target_slot": 1},
            {"id": 3, "origin_id": 5, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
    }
    outer = {
        "id": "outer",
        "inputs": [{"name": "model"}, {"name": "clip"}, {"name": "seed"}],
        "nodes": [
            saved(6, "inner", ["a castle"], clip=1, prompt=None),
            saved(7, "Sample", [0, "fixed", 4], model=2, positive=3, seed=4),
        ],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 1, "target_id": 6, "target_slot": 0},
            {"id": 2, "origin_id": -10, "origin_slot": 0, "target_id": 7, "target_slot": 0},
            {"id": 3, "origin_id": 6, "origin_slot": 0, "target_id": 7, "target_slot": 1},
            {"id": 4, "origin_id": -10, "origin_slot": 2, "target_id": 7, "target_slot": 2},
            {"id": 5, "origin_id": 7, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
    }
    graph = {
        "nodes": [
            saved(1, "Loader", ["a"]),
            saved(2, "outer", [11], model=1, clip=2, seed=None),
            saved(3, "outer", [12], model=1, clip=2, seed=None),
            saved(4, "Text", [""], text=4, clip=3),
        ],
        "links": [[1, 1, 0, 2, 0], [2, 1, 1, 2, 1], [3, 1, 1, 4, 1], [4, 3, 0, 4, 0]],
        "definitions": {"subgraphs": [inner, outer]},
    }
    prompt = prompt_of(graph, CLASSES)
    assert sorted(prompt) == ["1", "2:6:5", "2:7", "3:6:5", "3:7", "4"]
    assert prompt["2:6:5"]["inputs"] == {"text": "a castle", "clip": ["1", 1]}
    assert prompt["3:7"]["inputs"] == {"model": ["1", 0], "positive": ["3:6:5", 0], "seed": 12, "steps": 4}
    assert prompt["2:7"]["inputs"]["seed"] == 11 and prompt["4"]["inputs"]["text"] == ["3:7", 0]


def test_a_template_s_note_says_its_oldest_host():
    note = {"type": "MarkdownNote", "widgets_values": ["- ComfyUI 0.23.0 or later\n- 3 GB of files"]}
    assert least_host({"nodes": [note]}) == "0.23.0"
    assert least_host({"nodes": [{"type": "Note", "widgets_values": ["Press Run."]}]}) == "0.8.0"


def cases():
    return [pytest.param(*each, id=f"{each[1]} in {each[0]}") for each in by_host()]


@pytest.mark.parametrize("version, name, workflow", cases())
def test_a_template_is_as_each_of_its_hosts_has_the_nodes(version, name, workflow):
    classes = hosts.classes(version)
    prompt = prompt_of(workflow, classes)
    assert not list(objections(prompt, classes))


def test_a_control_net_reaches_both_conditionings_of_student_and_teacher():
    """That of a picture's outline: loaded and not applied, it would be no error."""
    (workflow,) = (workflow for version, name, workflow in by_host() if (version, name[11:13]) == ("0.33.0", "51"))
    prompt = prompt_of(workflow, hosts.classes("0.33.0"))
    of_kind = {node["class_type"]: (key, node["inputs"]) for key, node in prompt.items()}
    key, under = of_kind["ControlNetApplyAdvanced"]
    assert [prompt[under[name][0]]["class_type"] for name in ("control_net", "image")] == ["ControlNetLoader", "Canny"]
    assert under["strength"] == 1
    for kind in ("UnderstudyStudentSampler", "UnderstudyTeacher"):
        _, inputs = of_kind[kind]
        assert [inputs["positive"], inputs["negative"]] == [[key, 0], [key, 1]]


def objections(prompt, classes):
    """What a host would say of a prompt, but for files and numbers' ranges."""
    for key, node in prompt.items():
        described, given = classes[node["class_type"]]["input"], node["inputs"]
        required, known = (
            described.get("required", {}),
            {**described.get("required", {}), **described.get("optional", {})},
        )
        yield from (f"{key}: {name} is missing" for name in required.keys() - given.keys())
        yield from (f"{key}: there is no {name}" for name in given.keys() - known.keys())
        for name in given.keys() & known.keys():
            kind, *rest = known[name]
            options = kind if isinstance(kind, list) else (rest[0] if rest else {}).get("options")
            value = given[name]
            if isinstance(value, list):
                made = classes[prompt[value[0]]["class_type"]]["output"][value[1]]
                if "*" not in (made, kind) and made not in str(kind).split(","):
                    yield f"{key}: {name} takes {kind}, and is given {made}"
            elif options is not None and value not in options:
                yield f"{key}: {name} is {value!r}, which is none of {options}"
            elif str(kind) in KINDS and not isinstance(value, KINDS[kind]):
                yield f"{key}: {name} is {value!r}, which is no {kind}"


KINDS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool, "COMBO": str}


def test_objections_are_found():
    classes = {
        "A": {"input": {"required": {"kind": [["x", "y"]], "n": ["INT", {}]}}, "output": ["MODEL"]},
        "B": {"input": {"required": {"model": ["MODEL"]}, "optional": {"clip": ["CLIP"]}}, "output": []},
    }
    right = {
        "1": {"class_type": "A", "inputs": {"kind": "x", "n": 1}},
        "2": {"class_type": "B", "inputs": {"model": ["1", 0]}},
    }
    assert not list(objections(right, classes))
    for number, change, said in (
        ("1", {"kind": "z"}, "kind is 'z'"),
        ("1", {"n": "2"}, "n is '2'"),
        ("2", {"clip": ["1", 0]}, "clip takes CLIP, and is given MODEL"),
        ("2", {"other": 1}, "there is no other"),
    ):
        wrong = json.loads(json.dumps(right))
        wrong[number]["inputs"] |= change
        (found,) = objections(wrong, classes)
        assert said in found
    del right["2"]["inputs"]["model"]
    assert list(objections(right, classes)) == ["2: model is missing"]


def test_the_command_writes_what_a_linter_reads(tmp_path):
    prompts.main(str(tmp_path))
    written = {(path.parent.name, path.name.removesuffix(".prompt.json")) for path in tmp_path.glob("*/*.prompt.json")}
    assert written == {(version, name) for version, name, _ in by_host()}
    for version in {version for version, _ in written}:
        told = json.loads((tmp_path / version / "object_info.json").read_text(encoding="utf-8"))
        assert told == hosts.classes(version)


def test_the_oldest_host_of_a_template_is_known():
    told = {least_host(workflow) for _, _, workflow in by_host()}
    assert told <= set(hosts.versions()) and hosts.versions()[0] == prompts.OLDEST


def test_classes_of_the_pack_are_as_the_builder_knows_them():
    found = hosts.classes(hosts.versions()[-1])
    own = {name for name, each in schemas().items() if each.pack != CORE}
    assert own and {name for name in found if name.startswith("Understudy")} == own
    for name in own:
        inputs = found[name]["input"]
        widgets = {each.name for each in schemas()[name].widgets}
        both = inputs["required"] | inputs["optional"]
        assert {key for key, (_, options) in both.items() if not options.get("forceInput")} == widgets
        assert [*inputs["required"], *inputs["optional"]] == [
            each.name for each in sorted(schemas()[name].inputs, key=lambda it: it.optional)
        ]


def test_a_version_that_is_not_known_is_named():
    with pytest.raises(KeyError, match=re.escape("ComfyUI 9.9.9 is not in hosts.json, which has 0.8.0, ")):
        hosts.classes("9.9.9")


def test_a_class_is_kept_without_what_no_check_needs():
    info = {
        "input": {
            "required": {
                "ckpt_name": [["a.safetensors"], {"tooltip": "Which"}],
                "model_name": ["COMBO", {"options": ["b.pth"]}],
                "type": [["sdxl", "flux"], {"tooltip": "Of what"}],
                "seed": ["INT", {"default": 0, "control_after_generate": True}],
            },
            "optional": {
                "text": ["STRING", {"forceInput": True, "multiline": True}],
                "image": [["c.png"], {"image_upload": True}],
            },
            "hidden": {"prompt": "PROMPT"},
        },
        "output": ["MODEL"],
        "output_name": ["model"],
        "description": "Loads",
    }
    assert hosts.reduced(info) == {
        "input": {
            "required": {
                "ckpt_name": ["COMBO"],
                "model_name": ["COMBO"],
                "type": [["sdxl", "flux"]],
                "seed": ["INT", {"control_after_generate": True}],
            },
            "optional": {"text": ["STRING", {"forceInput": True}], "image": ["COMBO", {"image_upload": True}]},
        },
        "output": ["MODEL"],
        "output_name": ["model"],
    }


def test_versions_are_written_in_their_order():
    text = hosts.written({"0.33.0": {"A": {"output": []}}, "0.8.0": {"A": {"output": ["X"]}, "B": {}}})
    assert list(json.loads(text)) == ["0.8.0", "0.33.0"]
    assert text.splitlines()[1:3] == [' "0.8.0": {', '  "A": {"output": ["X"]},']
