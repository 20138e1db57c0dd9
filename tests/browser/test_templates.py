"""Each template as it opens: whole, apart, and large enough to be read on a small screen."""

import json
from itertools import combinations, product

import pytest

from ..readable import READABLE, SOCKETS, TEMPLATES, least
from .front_end import CLASSIC, RENDERERS
from .saved_graphs import links, models, values

NOTE = "MarkdownNote"


@pytest.fixture(params=product(RENDERERS, TEMPLATES), ids=" ".join)
def opened(request, page):
    """A template, chosen in the dialog: its renderer, its name and what its file says."""
    renderer, name = request.param
    page.render(renderer)
    page.browse()
    page.choose(name)
    page.shot(f"template {name}, {renderer}")
    file = json.loads(TEMPLATES[name].read_text(encoding="utf-8"))
    if file["extra"].get("linearMode"):
        page.leave_the_app()
        page.render(renderer)  # an app turns Nodes 2.0 on
        page.shot(f"template {name}, {renderer}, as a graph")
    return renderer, name, file


def overlapping(nodes):
    """The pairs of nodes that lie over each other by more than a line."""
    pairs = []
    for one, other in combinations(nodes, 2):
        (x, y, width, height), (left, top, wide, high) = one["box"], other["box"]
        if min(x + width, left + wide) - max(x, left) > 1 and min(y + height, top + high) - max(y, top) > 1:
            pairs.append((one["title"], other["title"]))
    return pairs


def test_a_template_opens_whole_apart_and_readable_and_offers_the_files_that_it_lacks(page, server, opened):
    renderer, name, file = opened
    nodes, saved = page.nodes(), page.saved()
    assert len(nodes) == len(file["nodes"]) and all(node["known"] for node in nodes), nodes
    assert {node["title"]: node["open"] for node in nodes if node["open"]} == {}, "sockets that need a link"
    expected = links(file)
    assert not [link for link in expected if None in link], "links that the file itself has lost"
    assert links(saved) == expected and values(saved) == values(file)
    assert overlapping(nodes) == []
    width, height = page.js("return [innerWidth, innerHeight]")
    for node in nodes:
        if node["type"] == NOTE and renderer != CLASSIC:
            continue  # it is as high there as its text, of which the beginning is in the window
        x, y, wide, high = node["box"]
        assert 0 <= x and 0 <= y and x + wide <= width and y + high <= height, f"{node['title']} is cut off"
    missing = {file["name"] for file in models(file)} - {path.name for path in server.models.rglob("*")}
    assert missing or not [node["title"] for node in nodes if node["red"]]
    if renderer == CLASSIC:
        zoom, hidden = page.js("return [app.canvas.ds.scale, app.canvas.low_quality]")
        assert not hidden and SOCKETS * zoom >= READABLE, f"at zoom {zoom:.2f}"
    small = [(text, pixels) for text, size, pixels in page.texts() if size >= least(name) and pixels < READABLE]
    # A graph that was an app is fitted anew in Nodes 2.0, and so with the whole height of its note.
    assert small == [] or renderer != CLASSIC and file["extra"].get("linearMode")
    assert not missing or page.downloads() == missing
    for block in page.blocks():
        inside = page.nodes()
        assert all(node["known"] for node in inside) and overlapping(inside) == [], f"in block {block}"
