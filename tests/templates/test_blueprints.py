"""What templates have of the node library: its blocks, as they are there."""

import json

import pytest
from understudy.templates.__main__ import PACK
from understudy.templates.blocks import BLUEPRINTS

from ..readable import DEMO, TEMPLATES

WIDGETS = 8  # of a block, at most


def definitions(path):
    """A file's blocks by their names."""
    saved = json.loads(path.read_text(encoding="utf-8"))
    return {block["name"]: block for block in saved["definitions"]["subgraphs"]}


BLUEPRINTS_BY_NAME = {
    name: block for path in sorted((PACK / "subgraphs").glob("*.json")) for name, block in definitions(path).items()
}


def nodes(path):
    return json.loads(path.read_text(encoding="utf-8"))["nodes"]


def test_the_node_library_has_a_file_for_each_blueprint():
    assert BLUEPRINTS_BY_NAME.keys() == {make().name for make in BLUEPRINTS}


@pytest.mark.parametrize("name", BLUEPRINTS_BY_NAME)
def test_every_blueprint_is_used_by_a_template(name):
    assert any(name in definitions(path) for path in TEMPLATES.values())


@pytest.mark.parametrize("path", TEMPLATES.values(), ids=TEMPLATES)
def test_a_block_by_a_blueprint_s_name_is_that_blueprint(path):
    blocks = definitions(path)
    assert blocks
    for name in blocks.keys() & BLUEPRINTS_BY_NAME.keys():
        assert blocks[name] == BLUEPRINTS_BY_NAME[name]


@pytest.mark.parametrize("path", sorted((PACK / "subgraphs").glob("*.json")), ids=lambda path: path.stem)
def test_a_blueprint_is_one_node_with_few_widgets(path):
    (block,) = nodes(path)
    assert 0 < sum("widget" in each for each in block["inputs"]) <= WIDGETS


def test_the_demo_is_a_block_with_its_two_loaders_prompts_a_receipt_and_a_note():
    blocks = {block["id"]: name for name, block in definitions(TEMPLATES[DEMO]).items()}
    found = [(node.get("title", ""), blocks.get(node["type"], node["type"])) for node in nodes(TEMPLATES[DEMO])]
    assert sorted(found) == [
        ("", "Adaptive sampler"),
        ("Prompts", "UnderstudyPrompts"),
        ("Read me", "MarkdownNote"),
        ("Receipt", "PreviewImage"),
        ("Student", "UnderstudyLoadDemo"),
        ("Teacher", "UnderstudyLoadDemo"),
    ]
