"""What hosts of several versions say of the nodes that templates use, so that a template can be held against a host
that is not there.

It is kept in ``hosts.json``, for each version in the form of ``/object_info``, less what no check needs. ``python -m
understudy.templates.hosts http://127.0.0.1:8188`` renews the version of a running ComfyUI, or adds it.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from .schemas import CORE, PACK, Input, Schema, schemas

FILE = Path(__file__).with_name("hosts.json")
TEMPLATES = Path(__file__).parents[1] / "example_workflows"
# Combos of files, which are other ones on each host.
OF_FILES = frozenset(
    "ckpt_name unet_name lora_name vae_name control_net_name clip_name clip_name1 clip_name2 model_name image".split()
)
# What decides whether an input is a widget and what the front end keeps behind it, and what a combo offers.
OPTIONS = ("control_after_generate", "forceInput", "image_upload", "options")


def classes(version: str) -> dict[str, dict]:
    """The classes of a host and the pack's, as ``/object_info`` has them. Raises KeyError for a version that is not
    known."""
    told = _read()
    if version not in told:
        raise KeyError(f"ComfyUI {version} is not in {FILE.name}, which has {', '.join(told)}")
    return told[version] | {name: _of_pack(each) for name, each in schemas().items() if each.pack == PACK}


def versions() -> list[str]:
    """Those that are known, the oldest first."""
    return list(_read())


def reduced(info: Mapping) -> dict:
    """A class of ``/object_info``, with combos of files open to any."""
    inputs = {
        part: {name: _input(name, *described) for name, described in info["input"][part].items()}
        for part in ("required", "optional")
        if info["input"].get(part)
    }
    return {"input": inputs, "output": info["output"], "output_name": info["output_name"]}


def _input(name: str, kind: str | list, options: Mapping | None = None) -> list:
    kept = {key: options[key] for key in OPTIONS if key in (options or {})}
    if name in OF_FILES and (isinstance(kind, list) or kind == "COMBO"):
        kind = "COMBO"
        kept.pop("options", None)
    return [kind, kept] if kept else [kind]


def _of_pack(schema: Schema) -> dict:
    """A class of the pack's, its combos open: they are the same on each host, but for files."""
    inputs = {
        "required": {each.name: _described(each) for each in schema.inputs if not each.optional},
        "optional": {each.name: _described(each) for each in schema.inputs if each.optional},
    }
    outputs = {"output": [each.type for each in schema.outputs], "output_name": [each.name for each in schema.outputs]}
    return {"input": inputs, **outputs}


def _described(each: Input) -> list:
    return [each.type, {"control_after_generate": each.follows == "fixed"} if each.widget else {"forceInput": True}]


def used() -> list[str]:
    """The host's classes that templates have."""
    kinds = {node["type"] for path in TEMPLATES.glob("*.json") for node in nodes_of(path)}
    return sorted(name for name, each in schemas().items() if each.pack == CORE and name in kinds)


def nodes_of(path: Path) -> Iterator[dict]:
    """A template's saved nodes, and those of its blocks."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    for level in (workflow, *workflow.get("definitions", {}).get("subgraphs", ())):
        yield from level["nodes"]


@cache
def _read() -> dict[str, dict]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def written(told: Mapping[str, Mapping]) -> str:
    """The file's text: versions in their order, a line for each class."""
    parts = []
    for version in sorted(told, key=lambda each: [int(number) for number in each.split(".")]):
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(each)}" for name, each in told[version].items())
        parts.append(f' "{version}": {{\n{lines}\n }}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(address: str) -> None:
    def get(path: str):
        with urllib.request.urlopen(f"{address}/{path}") as answer:
            return json.load(answer)

    version, told = get("system_stats")["system"]["comfyui_version"], get("object_info")
    found = {name: reduced(told[name]) for name in used() if name in told}
    FILE.write_text(written(_read() | {version: found}), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
