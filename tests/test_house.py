"""The house's rooms: who imports whom, by CONTRIBUTING's table."""

import ast
import re
import sys
from pathlib import Path

import pytest

PACK = Path(__file__).parents[1]
EVERYBODYS = {"files", "lettering"}
HOST = ("comfy", "comfy_extras", "comfy_kitchen", "folder_paths", "nodes", "utils")  # ComfyUI's own top-level packages


def table():
    """{room: the rooms that it may use}"""
    text = (PACK / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/` \| .+ \| (.+) \|$", text, flags=re.MULTILINE)
    rooms = [room for room, _ in rows]
    return {room: {name for name in rooms if re.search(rf"\b{name}\b", uses)} | EVERYBODYS for room, uses in rows}


def imported(room):
    """{another room: a file that imports from it}"""
    found = {}
    for file in sorted((PACK / room).rglob("*.py")):
        place = file.relative_to(PACK).parent.parts
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = place[: len(place) - node.level + 1]
                ends = [node.module] if node.module else [name.name for name in node.names]
                for end in ends:
                    other = (*base, *end.split("."))[0]
                    if other != room:
                        found.setdefault(other, file.name)
    return found


@pytest.mark.parametrize("room", table())
def test_a_room_uses_only_those_that_its_row_names(room):
    assert {other: file for other, file in imported(room).items() if other not in table()[room]} == {}


def test_each_package_at_the_root_has_its_row():
    rooms = {path.parent.name for path in PACK.glob("*/__init__.py")} - {"tests", "bench"}
    assert rooms == set(table())


def from_elsewhere(room):
    """{a package outside of the house: the files of a room that import from it}"""
    found = {}
    for file in sorted((PACK / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(file.relative_to(PACK / room).as_posix())
    return found


def test_one_module_of_the_trainer_imports_comfyui():
    found = from_elsewhere("distill_train")
    host = {name: found[name] for name in HOST if name in found}
    assert host and set().union(*host.values()) == {"host.py"}, host


def test_samplers_need_nothing_but_torch():
    found = from_elsewhere("samplers")
    assert found.pop("torchsde") == {"noise.py"}  # the noise of those of the host's samplers that draw it so
    assert {*found} - sys.stdlib_module_names == {"torch"}
