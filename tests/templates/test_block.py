"""Blocks in workflows, and as blueprints."""

import pytest
from understudy.templates.block import Block
from understudy.templates.graph import Graph
from understudy.templates.saved import blueprint, workflow

pytestmark = pytest.mark.usefixtures("classes")


def small():
    block = Block("Small block", category="Images", description="Makes it.")
    model, text, seed = block.input("model"), block.input("prompt", "a castle"), block.input("seed", label="number")
    left, right = block.column(), block.column()
    loader = left.add("Loader", file="a")
    prompt = left.add("Encode", clip=loader["CLIP"], text=text)
    first = right.add("Sample", model=model, positive=prompt["CONDITIONING"], seed=seed)
    right.add("Sample", model=model, seed=seed)
    block.output("pictures", first["images"])
    return block


def test_a_block_s_inputs_and_outputs_are_what_its_nodes_make_of_them():
    schema = small().schema()
    assert [(each.name, each.type, each.widget, each.default) for each in schema.inputs] == [
        ("model", "MODEL", False, None),
        ("prompt", "STRING", True, "a castle"),
        ("seed", "INT", True, 0),
    ]
    assert [(each.name, each.type, each.is_list) for each in schema.outputs] == [("pictures", "IMAGE", True)]


def test_a_definition_s_links_begin_and_end_at_its_ends():
    (saved,) = workflow(with_block())["definitions"]["subgraphs"]
    links = {link["id"]: link for link in saved["links"]}
    model, prompt, seed = saved["inputs"]
    assert {links[each]["target_id"] for each in model["linkIds"]} == {103, 104}
    assert (prompt["type"], seed["type"], seed["label"], "label" in model) == ("STRING", "INT", "number", False)
    for slot, each in enumerate(saved["inputs"]):
        assert {(links[link]["origin_id"], links[link]["origin_slot"]) for link in each["linkIds"]} == {(-10, slot)}
    (pictures,) = saved["outputs"]
    (link,) = pictures["linkIds"]
    assert links[link] == {
        "id": link,
        "origin_id": 103,
        "origin_slot": 0,
        "target_id": -20,
        "target_slot": 0,
        "type": "IMAGE",
    }
    inside = {node["id"]: node for node in saved["nodes"]}
    assert link in inside[103]["outputs"][0]["links"]
    for each in links.values():
        if each["target_id"] != -20:
            assert inside[each["target_id"]]["inputs"][each["target_slot"]]["link"] == each["id"]
    assert inside[102]["widgets_values"] == ["a castle"]
    assert saved["state"]["lastNodeId"] == 104 and saved["state"]["lastLinkId"] == len(links)


def with_block(**inputs):
    graph = Graph("With a block")
    loader = graph.column().add("Loader", file="b")
    block = graph.column().add(small(), model=loader["MODEL"], **inputs)
    graph.column().add("Any", source=block["pictures"])
    return graph


def test_a_workflow_has_the_block_as_a_node_and_its_definition():
    saved = workflow(with_block(prompt="a tower"))
    _, node, _ = saved["nodes"]
    (definition,) = saved["definitions"]["subgraphs"]
    assert node["type"] == definition["id"] and (definition["name"], definition["category"]) == (
        "Small block",
        "Images",
    )
    assert [each.get("label") for each in node["inputs"]] == [None, None, "number"]
    assert node["widgets_values"] == ["a tower", 0] and node["properties"]["cnr_id"] == "understudy-nodes"
    assert saved["links"] == [[1, 1, 0, 2, 0, "MODEL"], [2, 2, 0, 3, 0, "IMAGE"]]
    numbers = [each["id"] for each in (*saved["nodes"], *definition["nodes"])]
    assert len(numbers) == len(set(numbers))


def test_a_blueprint_is_nothing_but_the_block():
    saved = blueprint(small())
    (node,) = saved["nodes"]
    (definition,) = saved["definitions"]["subgraphs"]
    assert node["type"] == definition["id"] and saved["links"] == []
    assert node["widgets_values"] == ["a castle", 0] and definition["description"] == "Makes it."
    assert definition == workflow(with_block())["definitions"]["subgraphs"][0]


def test_an_input_that_drives_two_kinds_or_nothing_is_refused():
    block = Block("Block", category="Images", description="")
    given = block.input("given")
    with pytest.raises(ValueError, match="the block's input 'given' is connected to no node"):
        block.schema()
    block.column().add("Sample", model=given)
    with pytest.raises(ValueError, match="clip takes CLIP, and was given MODEL"):
        block.column().add("Encode", clip=given)
