"""What a graph has to know of the nodes' classes: the sockets and widgets in their order.

It is kept in ``schemas.json``, so that templates can be written and tested without a host. ``python -m
understudy.templates.schemas http://127.0.0.1:8188`` renews it from a running ComfyUI that has the pack; further classes
are named behind the address.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CORE, PACK = "comfy-core", "understudy-nodes"  # as the registry calls them
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
FILE = Path(__file__).with_name("schemas.json")


@dataclass(frozen=True)
class Input:
    """A socket, or a widget, which has a socket, too.

    default: of a widget; None where it follows from the files that a host has. follows: the values that the front end
    keeps behind the widget's own ("fixed" of control_after_generate, "image" of an upload's button). label: what is
    shown instead of its name.
    """

    name: str
    type: str
    optional: bool = False
    widget: bool = False
    default: object = None
    follows: str | None = None
    advanced: bool = False
    multiline: bool = False
    label: str = ""


@dataclass(frozen=True)
class Socket:
    """An output."""

    name: str
    type: str
    is_list: bool = False


@dataclass(frozen=True)
class Schema:
    type: str
    pack: str
    title: str
    inputs: tuple[Input, ...]
    outputs: tuple[Socket, ...]

    @property
    def widgets(self) -> list[Input]:
        return [each for each in self.inputs if each.widget]


def reduced(info: Mapping) -> Schema:
    """One class of ``/object_info``."""
    inputs = []
    for part in ("required", "optional"):
        described = info["input"].get(part, {})
        inputs += [_input(name, *described[name], optional=part == "optional") for name in described]
    return Schema(
        type=info["name"],
        pack=CORE if info["python_module"].split(".")[0] in ("nodes", "comfy_extras") else PACK,
        title=info["display_name"],
        inputs=tuple(inputs),
        outputs=tuple(map(Socket, info["output_name"], info["output"], info["output_is_list"])),
    )


def _input(name: str, kind: str | list, options: Mapping | None = None, *, optional: bool) -> Input:
    options = options or {}
    kind = "COMBO" if isinstance(kind, list) else kind
    if kind not in WIDGETS or options.get("forceInput"):
        return Input(name, kind, optional)
    follows = None
    if kind == "INT" and options.get("control_after_generate", name in ("seed", "noise_seed")):
        follows = "fixed"
    elif options.get("image_upload"):
        follows = "image"
    default = options.get("default", {"STRING": ""}.get(kind))
    marks = {mark: bool(options.get(mark)) for mark in ("advanced", "multiline")}
    return Input(name, kind, optional, True, default, follows, **marks)


@cache
def schemas() -> dict[str, Schema]:
    """All classes of the file."""
    told = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: _read(name, each) for name, each in told.items()}


def schema_of(name: str) -> Schema:
    """One class of the file; ValueError, with the way to add it, where it is not there."""
    if name not in schemas():
        raise ValueError(
            f"{name} is not in {FILE.name}; start ComfyUI with the pack and run "
            f"'python -m understudy.templates.schemas http://127.0.0.1:8188 {name}'"
        )
    return schemas()[name]


def _read(name: str, told: Mapping) -> Schema:
    inputs, outputs = ([kind(**each) for each in told[part]] for part, kind in (("inputs", Input), ("outputs", Socket)))
    return Schema(name, told["pack"], told["title"], tuple(inputs), tuple(outputs))


def written(found: Collection[Schema]) -> str:
    """The file's text: a line for each socket, without what is as usual."""
    classes = []
    for schema in sorted(found, key=lambda each: each.type):
        head = f" {json.dumps(schema.type)}: {{\n  " + json.dumps({"pack": schema.pack, "title": schema.title})[1:-1]
        sockets = (f'  "{part}": [{_lines(getattr(schema, part))}]' for part in ("inputs", "outputs"))
        classes.append(",\n".join([head, *sockets]) + "\n }")
    return "{\n" + ",\n".join(classes) + "\n}\n"


def _lines(sockets: Collection[Input | Socket]) -> str:
    told = []
    for each in sockets:
        usual = vars(type(each)("", ""))
        told.append(json.dumps({name: value for name, value in vars(each).items() if value != usual[name]}))
    return "".join(f"\n   {line}," for line in told)[:-1] + "\n  " * bool(told)


def main(address: str, *more: str) -> None:
    with urllib.request.urlopen(f"{address}/object_info") as answer:
        told = json.load(answer)
    names = {name for name, each in told.items() if reduced(each).pack == PACK} | {*schemas(), *more}
    FILE.write_text(written([reduced(told[name]) for name in names if name in told]), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
