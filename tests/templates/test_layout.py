"""Templates are small enough to be read where they open."""

import json

import pytest
from understudy.templates.graph import GAP, TITLE, Graph
from understudy.templates.layout import BELOW, columns

from ..readable import READABLE, TEMPLATES, TEXTS, least

SMALL, USUAL, FILLED = (1366, 625), (1600, 757), 0.75  # of the canvas, in windows of 1366 x 768 and 1600 x 900


@pytest.mark.parametrize("window", [SMALL, USUAL], ids=["small", "usual"])
@pytest.mark.parametrize("path", TEMPLATES.values(), ids=TEMPLATES)
def test_text_is_at_least_eleven_pixels_high(path, window):
    """Front end 1.49.6 opens a template in three quarters of the canvas, whatever view its file has. Notes and prompts
    can be read at once in the demos, elsewhere in a window that is not small."""
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    sides = []
    for axis, above in ((0, 0), (1, TITLE)):
        low = min(node["pos"][axis] - above for node in nodes)
        sides.append(max(node["pos"][axis] + node["size"][axis] for node in nodes) - low + 20)
    zoom = min(FILLED * have / wanted for have, wanted in zip(window, sides, strict=True))
    assert zoom * (least(path.stem) if window == SMALL else TEXTS) >= READABLE, sides


def test_columns_stand_side_by_side():
    graph = Graph("Columns")
    assert [(each.x, each.width, each.gap) for each in columns(graph, 100, 200, 50)] == [
        (0, 100, BELOW),
        (100 + GAP, 200, BELOW),
        (300 + 2 * GAP, 50, BELOW),
    ]
