"""Graphs as the front end's JSON."""

import pytest
from understudy.distill_train.config import tomllib
from understudy.templates.__main__ import PACK
from understudy.templates.graph import GAP, TITLE, Graph, Look, Model
from understudy.templates.saved import workflow

pytestmark = pytest.mark.usefixtures("classes")
FILE = Model("a.safetensors", "https://example.org/a.safetensors", "checkpoints", "2 GB", "0f")


def small(**inputs):
    """Loader, prompt and sampler in two columns."""
    graph = Graph("Small")
    left, right = graph.column(300), graph.column(200)
    loader = left.add("Loader", Look(models=[FILE]), file=FILE.name)
    prompt = left.add("Encode", Look("Prompt"), clip=loader["CLIP"], text="a castle")
    given = {"model": loader["MODEL"], "positive": prompt["CONDITIONING"], "steps": 2, **inputs}
    right.add("Sample", Look(control="randomize"), **given)
    return graph


def test_links_lead_from_output_to_input():
    saved = workflow(small())
    loader, prompt, sampler = saved["nodes"]
    assert saved["links"] == [
        [1, 1, 1, 2, 1, "CLIP"],
        [2, 1, 0, 3, 0, "MODEL"],
        [3, 2, 0, 3, 1, "CONDITIONING"],
    ]
    assert [each["links"] for each in loader["outputs"]] == [[2], [1]]
    assert {each["name"]: each["link"] for each in prompt["inputs"]} == {"text": None, "clip": 1}
    assert prompt["inputs"][0]["widget"] == {"name": "text"} and "widget" not in prompt["inputs"][1]
    assert [each.get("shape") for each in sampler["inputs"]] == [None, 7, None, None, None]
    assert sampler["outputs"] == [{"name": "images", "type": "IMAGE", "shape": 6, "links": []}]
    assert (saved["last_node_id"], saved["last_link_id"]) == (3, 3)


def test_values_are_in_the_class_s_order_whatever_is_given():
    *_, sampler = workflow(small(seed=7))["nodes"]
    assert sampler["widgets_values"] == [7, "randomize", 2, 1.0]
    named = {"seed": 7, "control_after_generate": "randomize", "steps": 2, "shift": 1.0}
    assert sampler["widgets_values_named"] == named


def test_hidden_widgets_are_shown_where_they_are_used():
    assert "showAdvanced" not in workflow(small())["nodes"][2]
    assert workflow(small(shift=3.0))["nodes"][2]["showAdvanced"] is True
    assert "showAdvanced" not in workflow(small(shift="default"))["nodes"][2], "a loader's weight_dtype or device"


def test_a_node_names_its_pack_and_its_files():
    loader, prompt, sampler = workflow(small())["nodes"]
    assert loader["properties"] == {
        "Node name for S&R": "Loader",
        "cnr_id": "comfy-core",
        "ver": "0.8.0",
        "models": [
            {
                "name": "a.safetensors",
                "url": "https://example.org/a.safetensors",
                "directory": "checkpoints",
                "hash": "0f",
                "hash_type": "SHA256",
            }
        ],
    }
    project = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = {"cnr_id": project["name"], "ver": project["version"]}
    assert sampler["properties"] == {"Node name for S&R": "Sample", **ours}
    # Titles that are the class's own are left to the front end's language.
    assert prompt["title"] == "Prompt" and "title" not in sampler


@pytest.mark.parametrize(
    "kind, inputs, said",
    [
        ("Loader", {"file": "a", "folder": "b"}, "has no input 'folder'; expected some of \\['file'\\]"),
        ("Loader", {}, "Graph, Load it: file needs a value"),
        ("Sample", {}, "model is not connected"),
        ("Wombat", {}, "Wombat is not in schemas.json; start ComfyUI"),
    ],
)
def test_what_cannot_be_is_refused(kind, inputs, said):
    with pytest.raises(ValueError, match=said):
        Graph("Graph").column().add(kind, **inputs)


def test_a_link_of_another_type_and_an_output_that_is_not_there_are_refused():
    column = Graph("Graph").column()
    loader = column.add("Loader", file="a")
    with pytest.raises(ValueError, match="clip takes CLIP, and was given MODEL"):
        column.add("Encode", clip=loader["MODEL"])
    with pytest.raises(ValueError, match="Load it has no output 'VAE'; expected one of \\['MODEL', 'CLIP'\\]"):
        column.add("Encode", clip=loader["VAE"])
    assert column.add("Any", source=loader["MODEL"]).links["source"].type == "MODEL"


def boxes(saved):
    return [(*node["pos"], *node["size"]) for node in saved["nodes"]]


def test_columns_stand_side_by_side_and_their_nodes_one_below_the_other():
    (x1, y1, w1, h1), (x2, y2, _, _), (x3, y3, _, _) = boxes(workflow(small()))
    assert x1 == x2 == 0 and y1 == y3 == TITLE
    assert y2 - TITLE == y1 + h1 + GAP and x3 == x1 + w1 + GAP


def test_nodes_that_lie_over_each_other_are_refused():
    graph = small()
    graph.column(100, x=250).add("Loader", file="b")
    with pytest.raises(ValueError, match="Small: 'Load it' lies over 'Load it'; move or widen a column"):
        workflow(graph)


def test_a_group_is_around_its_nodes_and_their_titles():
    graph = small()
    graph.group("Left", graph.columns[0])
    (group,) = workflow(graph)["groups"]
    left, top, width, height = group["bounding"]
    for x, y, wide, high in boxes(workflow(graph))[:2]:
        assert left < x and top + 24 < y - 30 and x + wide < left + width and y + high < top + height
    assert left + width < boxes(workflow(graph))[2][0]


def test_a_note_is_a_note():
    graph = Graph("Graph")
    graph.column(360).note("Read me", "## A\n\ntext", 200)
    (note,) = workflow(graph)["nodes"]
    assert note["type"] == "MarkdownNote" and note["widgets_values"] == ["## A\n\ntext\n"]
    assert note["inputs"] == [] and note["properties"] == {} and note["size"] == [360, 200]


def test_nothing_is_stored_of_a_view_and_the_app_s_widgets_are_named():
    graph = small()
    assert workflow(graph)["extra"].keys() == {"workflowRendererVersion"}
    graph.open_as_app([(graph.nodes[1], "text")], [graph.nodes[2]])
    extra = workflow(graph)["extra"]
    assert extra["linearMode"] is True and extra["linearData"] == {"inputs": [["2", "text"]], "outputs": ["3"]}


def test_a_graph_is_saved_the_same_each_time():
    assert workflow(small()) == workflow(small())


def test_of_a_collapsed_node_only_the_title_is_shown():
    graph = Graph("Graph")
    column = graph.column()
    column.add("Loader", Look(collapsed=True), file="a")
    column.add("Loader", file="b")
    first, second = workflow(graph)["nodes"]
    assert (first["flags"], second["flags"]) == ({"collapsed": True}, {})
    assert second["pos"][1] - TITLE == first["pos"][1] + GAP < first["pos"][1] + first["size"][1]


def test_an_input_is_shown_by_its_label_and_keeps_its_name():
    graph = Graph("Labels")
    column = graph.column()
    loader = column.add("Loader", file=FILE.name)
    column.add("Encode", Look(labels={"text": "prompts"}), clip=loader["CLIP"])
    _, encode = workflow(graph)["nodes"]
    assert [(each["name"], each.get("label")) for each in encode["inputs"]] == [("text", "prompts"), ("clip", None)]


def test_a_node_is_found_by_its_title():
    graph = small()
    assert graph.node("Prompt").id == 2 and graph.node("Sample it").id == 3
