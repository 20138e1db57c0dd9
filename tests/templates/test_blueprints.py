"""What templates have of the node library: its blocks, as they are there."""

import json

import pytest
from understudy.templates.__main__ import PACK
from understudy.templates.blocks import BLUEPRINTS

from ..readable import TEMPLATES


def definitions(path):
    """A file's blocks by their names."""
    saved = json.loads(path.read_text(encoding="utf-8"))
    return {block["name"]: block for block in saved["definitions"]["subgraphs"]}


BLUEPRINTS_BY_NAME = {
    name: block for path in sorted((PACK / "subgraphs").glob("*.json")) for name, block in definitions(path).items()
}


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
