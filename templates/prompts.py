"""Saved workflows as the prompts that a front end makes of them: blocks laid open, widgets by their names.

``python -m templates.prompts FOLDER``, in the pack's folder, writes every template for the hosts that ``hosts.json``
knows, a folder for each: prompts as *Export (API)* has them, beside the host's ``object_info.json``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import hosts

OLDEST = "0.8.0"  # that the pack supports
NOTES = ("Note", "MarkdownNote")
BEGIN, END = -10, -20  # a block's own ends among its nodes
PLAIN = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def prompt_of(workflow: Mapping, classes: Mapping[str, Mapping]) -> dict[str, dict]:
    """The prompt, by node id; a node in a block is called "the block's:its own".

    workflow: the front end's JSON. classes: as ``/object_info``. Widgets' values are stored by their place, as all
    front ends read them; which inputs are widgets, and which of them have a value of the front end's own behind theirs,
    follows from the class. Raises ValueError for a class that is not there, and for values that it has no widget for.
    """
    blocks = {each["id"]: each for each in workflow.get("definitions", {}).get("subgraphs", ())}
    return dict(_Level(workflow, blocks, classes).nodes())


class _Level:
    """A workflow, or a block where it is used: what its nodes' inputs are in the prompt."""

    def __init__(
        self, graph: Mapping, blocks: Mapping, classes: Mapping, prefix: str = "", given: Mapping | None = None
    ):
        self.graph, self.blocks, self.classes, self.prefix, self.given = graph, blocks, classes, prefix, given
        self.links = dict(map(_link, graph["links"]))
        self.by_id = {node["id"]: node for node in graph["nodes"]}

    def nodes(self) -> Iterator[tuple[str, dict]]:
        for node in self.graph["nodes"]:
            if node["type"] in self.blocks:
                yield from self.block(node).nodes()
            elif node["type"] not in NOTES:
                if node["type"] not in self.classes:
                    raise ValueError(f"node {self.prefix}{node['id']}: there is no class {node['type']}")
                inputs = widgets(node, self.classes[node["type"]]["input"]) | self.connected(node)
                yield f"{self.prefix}{node['id']}", {"class_type": node["type"], "inputs": inputs}

    def block(self, node: Mapping) -> _Level:
        """The block that a node stands for."""
        inside = self.blocks[node["type"]]
        names = [each["name"] for each in node["inputs"] if "widget" in each]
        own = dict(zip(names, node["widgets_values"], strict=True)) | self.connected(node)
        given = [own.get(each["name"]) for each in inside["inputs"]]
        return _Level(inside, self.blocks, self.classes, f"{self.prefix}{node['id']}:", given)

    def connected(self, node: Mapping) -> dict:
        """What comes of the node's inputs with a link; one that a block leaves open has none."""
        found = {each["name"]: self.source(*self.links[each["link"]]) for each in node["inputs"] if each["link"]}
        return {name: value for name, value in found.items() if value is not None}

    def source(self, origin: int, slot: int) -> object:
        """A link's beginning as the prompt has it, or what a block's input was given."""
        if origin == BEGIN:
            return self.given[slot]
        node = self.by_id[origin]
        if node["type"] not in self.blocks:
            return [f"{self.prefix}{origin}", slot]
        inside = self.block(node)
        (end,) = (each for each in inside.graph["links"] if (each["target_id"], each["target_slot"]) == (END, slot))
        return inside.source(*_link(end)[1])


def _link(link: list | Mapping) -> tuple[int, tuple[int, int]]:
    """Its number, and the node and output that it comes from: workflows have lists, blocks have names."""
    if isinstance(link, list):
        return link[0], (link[1], link[2])
    return link["id"], (link["origin_id"], link["origin_slot"])


def widgets(node: Mapping, described: Mapping[str, Mapping]) -> dict:
    """The values of a saved node's widgets; ValueError for more of them than its class has."""
    optional = described.get("optional", {})
    values, inputs = list(node.get("widgets_values", ())), {}
    for name, (kind, *rest) in {**described.get("required", {}), **optional}.items():
        options = rest[0] if rest else {}
        if not (isinstance(kind, list) or kind in PLAIN) or options.get("forceInput"):
            continue
        if not values:
            if name in optional:
                continue  # the workflow is older than the widget
            raise ValueError(f"{node['type']} {node['id']}: the workflow has no value for {name!r}")
        inputs[name] = values.pop(0)
        if options.get("control_after_generate", name in ("seed", "noise_seed")) or options.get("image_upload"):
            values.pop(0)
    if values:
        raise ValueError(
            f"{node['type']} {node['id']}: the workflow has {len(values)} widget values too many: {values}"
        )
    return inputs


def least_host(workflow: Mapping) -> str:
    """The oldest ComfyUI that a template runs on, as its note says; the pack's oldest where it says none."""
    notes = " ".join(node["widgets_values"][0] for node in workflow["nodes"] if node["type"] in NOTES)
    told = re.search(r"ComfyUI (\d+\.\d+\.\d+) or later", notes)
    return told[1] if told else OLDEST


def by_host() -> Iterator[tuple[str, str, dict]]:
    """Each known host's version, a template's name and its workflow, for the hosts that it runs on."""
    for path in sorted(hosts.TEMPLATES.glob("*.json")):
        workflow = json.loads(path.read_text(encoding="utf-8"))
        known = hosts.versions()
        for version in known[known.index(least_host(workflow)) :]:
            yield version, path.stem, workflow


def main(folder: str) -> None:
    for version, name, workflow in by_host():
        classes, own = hosts.classes(version), Path(folder, version)
        own.mkdir(parents=True, exist_ok=True)
        (own / "object_info.json").write_text(json.dumps(classes), encoding="utf-8")
        (own / f"{name}.prompt.json").write_text(json.dumps(prompt_of(workflow, classes)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
