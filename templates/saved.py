"""Graphs as the front end's JSON: workflows, and blueprints, which are workflows of one block."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .block import BEGIN, END, SPACE, Block, BlockInput
from .graph import NOTE, ROW, Graph, Look, Model, Node, around
from .prompts import OLDEST
from .schemas import CORE, PACK, Input, Socket

PYPROJECT = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
OWN = re.search(r'^version = "(.+)"$', PYPROJECT, re.M)[1]
VERSIONS = {CORE: OLDEST, PACK: OWN}
OPTIONAL, LIST = 7, 6  # shapes of sockets
GROUP_TITLE, PADDING = 40, 15
UNUSED = "default"  # what the host's own combos call that, which have to be given a value all the same
BLUE, DARK = "#3f789e", {"color": "#222", "bgcolor": "#000"}
# Positions and sizes are those of the classic canvas; Nodes 2.0 makes its own of them.
RENDERER = {"workflowRendererVersion": "LG"}


@dataclass(frozen=True)
class Link:
    id: int
    origin_id: int
    origin_slot: int
    target_id: int
    target_slot: int
    type: str


def workflow(graph: Graph) -> dict:
    """A template's JSON, without a stored view: it opens with all nodes in sight.

    Raises:
        ValueError: two nodes lie over each other.
    """
    links = _links(graph)
    saved = {
        "id": str(uuid.uuid5(SPACE, graph.name)),
        "revision": 0,
        "last_node_id": graph.last_id,
        "last_link_id": len(links),
        **_contents(graph, links),
        "links": [list(vars(link).values()) for link in links],
        "config": {},
        "extra": {**RENDERER, **_app(graph)},
        "version": 0.4,
    }
    if graph.blocks:
        saved["definitions"] = {"subgraphs": [_definition(block) for block in graph.blocks.values()]}
    return saved


def blueprint(block: Block, width: int = 400) -> dict:
    """A file for ``subgraphs/``: nothing but this block, with no socket connected."""
    graph = Graph(f"{block.name}, blueprint")
    graph.blocks[block.id] = block
    schema = block.schema()
    values = {each.name: each.default for each in schema.widgets}
    graph.nodes.append(Node(graph.next_id(), schema, Look(), values, {}, frozenset(), 0, 0, width))
    return workflow(graph)


def _links(graph: Graph) -> list[Link]:
    found = []
    for node in graph.nodes:
        for slot, each in enumerate(node.schema.inputs):
            if source := node.links.get(each.name):
                found.append(Link(len(found) + 1, source.origin, source.slot, node.id, slot, source.type))
    return found


def _contents(graph: Graph, links: Sequence[Link]) -> dict:
    """Nodes and groups."""
    graph.refuse_overlaps()
    return {
        "nodes": [_node(node, order, links) for order, node in enumerate(graph.nodes)],
        "groups": [_group(number, *group) for number, group in enumerate(graph.groups, 1)],
    }


def _app(graph: Graph) -> dict:
    if graph.app is None:
        return {}
    inputs, outputs = graph.app
    shown = {"inputs": [[str(node.id), name] for node, name in inputs], "outputs": [str(node.id) for node in outputs]}
    return {"linearMode": True, "linearData": shown}


def _node(node: Node, order: int, links: Sequence[Link]) -> dict:
    values, by_name = _values(node)
    saved = {
        "id": node.id,
        "type": node.schema.type,
        "pos": [node.x, node.y],
        "size": [node.width, node.height],
        "flags": {"collapsed": True} if node.look.collapsed else {},
        "order": order,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": values,
        "widgets_values_named": by_name,
    }
    if node.look.title:
        saved["title"] = node.look.title
    if node.schema is NOTE:
        return {**saved, **DARK}
    into = {link.target_slot: link.id for link in links if link.target_id == node.id}
    saved["inputs"] = [_input(node, each, into.get(slot)) for slot, each in enumerate(node.schema.inputs)]
    saved["outputs"] = [_output(node, slot, each, links) for slot, each in enumerate(node.schema.outputs)]
    saved["properties"] = {
        "Node name for S&R": node.schema.type,
        "cnr_id": node.schema.pack,
        "ver": VERSIONS[node.schema.pack],
        **({"models": [_model(each) for each in node.look.models]} if node.look.models else {}),
    }
    used = [each for each in node.schema.widgets if each.name in node.named and node.values[each.name] != UNUSED]
    if any(each.advanced for each in used):
        saved["showAdvanced"] = True
    return saved


def _values(node: Node) -> tuple[list, dict[str, object]]:
    """As all front ends read them, by place, and as newer ones do, by name."""
    values, by_name = [], {}
    for each in node.schema.widgets:
        by_name[each.name] = node.values[each.name]
        values.append(node.values[each.name])
        if each.follows == "fixed":
            by_name["control_after_generate"] = node.look.control
            values.append(node.look.control)
        elif each.follows:
            values.append(each.follows)
    return values, by_name


def _input(node: Node, each: Input, link: int | None) -> dict:
    shown = node.look.labels.get(each.name, each.label)
    label = {"label": shown} if shown else {}
    shape = {"shape": OPTIONAL} if each.optional else {}
    widget = {"widget": {"name": each.name}} if each.widget else {}
    return {"name": each.name, "type": each.type, **label, **shape, **widget, "link": link}


def _output(node: Node, slot: int, socket: Socket, links: Sequence[Link]) -> dict:
    shape = {"shape": LIST} if socket.is_list else {}
    mine = [link.id for link in links if (link.origin_id, link.origin_slot) == (node.id, slot)]
    return {"name": socket.name, "type": socket.type, **shape, "links": mine}


def _model(model: Model) -> dict:
    hashed = {"hash": model.sha256, "hash_type": "SHA256"} if model.sha256 else {}
    return {"name": model.name, "url": model.url, "directory": model.directory, **hashed}


def _group(number: int, title: str, nodes: Sequence[Node]) -> dict:
    box = around(nodes)
    left, top = box.left - PADDING, box.top - PADDING - GROUP_TITLE
    bounding = [left, top, box.right + PADDING - left, box.bottom + PADDING - top]
    return {"id": number, "title": title, "bounding": bounding, "color": BLUE, "font_size": 24, "flags": {}}


def _definition(block: Block) -> dict:
    """A block among a workflow's definitions."""
    links = _links(block)
    for slot, (_, source) in enumerate(block.outputs):
        links.append(Link(len(links) + 1, source.origin, source.slot, END, slot, source.type))
    contents = _contents(block, links)
    box = around(block.nodes)
    begin, end = box.left - 240, box.right + 80
    return {
        "id": block.id,
        "version": 1,
        "state": {
            "lastGroupId": len(block.groups),
            "lastNodeId": block.last_id,
            "lastLinkId": len(links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": block.name,
        "category": block.category,
        "description": block.description,
        "inputNode": {"id": BEGIN, "bounding": [begin, box.top, 160, 40 + ROW * len(block.inputs)]},
        "outputNode": {"id": END, "bounding": [end, box.top, 160, 40 + ROW * len(block.outputs)]},
        "inputs": [_begin(block, each, links, [begin + 140, box.top]) for each in block.inputs],
        "outputs": [_end(block, slot, links, [end + 20, box.top]) for slot in range(len(block.outputs))],
        "widgets": [],
        **contents,
        "links": [vars(link) for link in links],
        "extra": RENDERER,
    }


def _begin(block: Block, source: BlockInput, links: Sequence[Link], corner: Sequence[int]) -> dict:
    mine = [link.id for link in links if (link.origin_id, link.origin_slot) == (BEGIN, source.slot)]
    label = {"label": source.label} if source.label else {}
    return {**_slot(block, "input", source.name, source.slot, mine, corner), "type": source.type, **label}


def _end(block: Block, slot: int, links: Sequence[Link], corner: Sequence[int]) -> dict:
    name, source = block.outputs[slot]
    mine = [link.id for link in links if (link.target_id, link.target_slot) == (END, slot)]
    return {**_slot(block, "output", name, slot, mine, corner), "type": source.type}


def _slot(block: Block, side: str, name: str, slot: int, links: Sequence[int], corner: Sequence[int]) -> dict:
    place = [corner[0], corner[1] + ROW * (slot + 1)]
    return {"id": str(uuid.uuid5(SPACE, f"{block.name} {side} {name}")), "name": name, "linkIds": links, "pos": place}
