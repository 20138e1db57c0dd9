"""Titles of nodes, and of blocks among them, are whole on the classic canvas."""

import json

import pytest
from understudy.templates.graph import NOTE
from understudy.templates.schemas import schema_of

from ..letters import width
from ..readable import TEMPLATES

LETTERS, SIZE, MARGIN = 20, 14, 60  # of front end 1.49.6: of a collapsed node's title, and what a title leaves free


def titled(workflow):
    """Every node with its title, those of blocks too."""
    blocks = workflow.get("definitions", {}).get("subgraphs", ())
    named = {block["id"]: block["name"] for block in blocks} | {NOTE.type: NOTE.title}
    for graph in (workflow, *blocks):
        for node in graph["nodes"]:
            yield node, node.get("title") or named.get(node["type"]) or schema_of(node["type"]).title


@pytest.mark.parametrize("path", TEMPLATES.values(), ids=TEMPLATES)
def test_no_title_is_cut_off(path):
    cut = [
        title
        for node, title in titled(json.loads(path.read_text(encoding="utf-8")))
        if (len(title) > LETTERS if node["flags"].get("collapsed") else width(title, SIZE) > node["size"][0] - MARGIN)
    ]
    assert cut == []
