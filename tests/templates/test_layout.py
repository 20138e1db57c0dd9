"""Templates are small enough to be read where they open."""

import json

import pytest
from understudy.templates.__main__ import PACK
from understudy.templates.graph import GAP, TITLE, Graph
from understudy.templates.layout import BELOW, columns

PATHS = sorted((PACK / "example_workflows").glob("*.json"))
WINDOW, FILLED, LEAST = (1366, 625), 0.75, 11  # of the canvas; pixels
SOCKETS, TEXTS = 12, 10  # the front end's letters


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_text_is_at_least_eleven_pixels_high_in_a_small_window(path):
    """Front end 1.49.6 opens a template in three quarters of the canvas, whatever view its file has. In the demo notes
    and prompts can be read at once, too."""
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    sides = []
    for axis, above in ((0, 0), (1, TITLE)):
        low = min(node["pos"][axis] - above for node in nodes)
        sides.append(max(node["pos"][axis] + node["size"][axis] for node in nodes) - low + 20)
    zoom = min(FILLED * have / wanted for have, wanted in zip(WINDOW, sides, strict=True))
    assert zoom * (TEXTS if "Demo (no" in path.stem or "Demo as an app" in path.stem else SOCKETS) >= LEAST, sides


def test_columns_stand_side_by_side():
    graph = Graph("Columns")
    assert [(each.x, each.width, each.gap) for each in columns(graph, 100, 200, 50)] == [
        (0, 100, BELOW),
        (100 + GAP, 200, BELOW),
        (300 + 2 * GAP, 50, BELOW),
    ]
