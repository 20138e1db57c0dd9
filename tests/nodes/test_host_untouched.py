"""The nodes leave the host as it is: nothing of it is replaced, and no graph is queued again."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACK = Path(__file__).parents[2]
OURS = {PACK.name, "understudy", "torch", "numpy", "PIL", "safetensors", "aiohttp"} | sys.stdlib_module_names
# Which kinds of files lie in a folder of the pack's own: the host has no function for it, and reads it here.
OWN_FOLDER = "folder_paths.folder_names_and_paths[folder]"
FILES = [PACK / "__init__.py", *sorted((PACK / "nodes").glob("*.py"))]


def of_the_host(tree: ast.Module) -> set[str]:
    """The names under which a file has modules of the host, or what is in them."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.asname or name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {name.asname or name.name for name in node.names if node.module.partition(".")[0] not in OURS}
    return found - OURS


def replaced(source: str) -> Iterator[str]:
    """What of the host a file assigns to, deletes or sets."""
    tree = ast.parse(source)
    host = of_the_host(tree)
    for node in ast.walk(tree):
        whole = None
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            whole = node
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("setattr", "delattr"):
            whole = node.args[0]
        place = whole
        while isinstance(place, ast.Attribute | ast.Subscript):
            place = place.value
        if isinstance(place, ast.Name) and place.id in host:
            yield ast.unparse(whole)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_node_replaces_anything_of_the_host_nor_queues_a_graph(file):
    source = file.read_text(encoding="utf-8")
    assert [place for place in replaced(source) if place != OWN_FOLDER] == []
    assert not [word for word in ("prompt_queue", "PromptQueue", "/prompt") if word in source]


@pytest.mark.parametrize("line", [
    "comfy.samplers.KSampler.sample = ours", "execution.limit += 1", "del comfy.x", "setattr(KSampler, 'a', 1)",
    "KSampler.SAMPLERS[0] = 'ours'",
])  # fmt: skip
def test_what_would_replace_something_is_seen(line):
    source = f"import comfy.samplers, execution\nfrom comfy.samplers import KSampler\n{line}\n"
    assert len(list(replaced(source))) == 1
    assert not list(replaced("import comfy.samplers\nsampler = comfy.samplers.KSampler\nself.host = sampler\n"))
