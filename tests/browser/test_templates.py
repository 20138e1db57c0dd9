"""Each template as it opens: whole, apart, and large enough to be read on a small screen."""

import json
from itertools import combinations, product

import pytest

from ..chromium import SIZE
from ..readable import APP, DEMO, READABLE, SOCKETS, TEMPLATES, TEXTS, least
from .front_end import CLASSIC, DIALOG, FOLDER, NOTE, RENDERERS
from .saved_graphs import links, models, models_of, values

CARD = f'{DIALOG} [data-testid^="template-workflow-"]'
NAMES, FIND = (
    "[...document.querySelectorAll(arguments[0])].map(each => each.dataset.testid)",
    "document.querySelector(arguments[0])",
)


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
    lack = {str(node["id"]) for node in file["nodes"] for each in models_of(node) if each["name"] in missing}
    assert {node["id"]: node["title"] for node in nodes if node["red"] and node["id"] not in lack} == {}
    if renderer == CLASSIC:
        zoom, hidden = page.js("return [app.canvas.ds.scale, app.canvas.low_quality]")
        assert not hidden and SOCKETS * zoom >= READABLE, f"at zoom {zoom:.2f}"
    # Nodes 2.0 makes nodes higher, and fits a graph that was an app to them anew: what can be read of it, without its
    # note, are sockets and widgets, half a pixel smaller than elsewhere.
    anew = renderer != CLASSIC and file["extra"].get("linearMode")
    notes = {node["id"] for node in nodes if node["type"] == NOTE and anew}
    shown = [(text, size, pixels) for text, size, pixels, node in page.texts() if node not in notes]
    size_read, readable = (SOCKETS, READABLE - 0.5) if anew else (least(name), READABLE)
    assert [(text, pixels) for text, size, pixels in shown if size >= size_read and pixels < readable] == []
    assert not missing or page.downloads() == missing
    for block in page.blocks():
        inside = page.nodes()
        assert all(node["known"] and not node["red"] for node in inside), f"in block {block}"
        assert overlapping(inside) == [], f"in block {block}"


LARGER = [name for name in TEMPLATES if name.startswith(("Understudy 10 ", "Understudy 51 ", "Understudy 54 "))]


@pytest.fixture(params=LARGER)
def larger(request, page):
    """One of those of which not all could be read above, chosen in a window of 1600 x 900. By their sizes all others
    are as large there: ``tests/templates/test_layout.py``."""
    page.render(CLASSIC)  # Nodes 2.0 has the same zoom
    page.driver.set_window_size(1600, 900)
    page.browse()
    page.choose(request.param)
    yield
    page.driver.set_window_size(*SIZE)


def test_in_a_larger_window_all_of_a_template_can_be_read(page, larger):
    assert [(text, pixels) for text, size, pixels, _ in page.texts() if size >= TEXTS and pixels < READABLE] == []


@pytest.fixture
def cards(page):
    """The dialog, sorted by names."""
    page.setting("Comfy.Templates.SortBy", "alphabetical")
    page.browse()
    page.click("the pack's category", '[role="dialog"] [role="button"]', FOLDER)
    page.until("its templates", "document.querySelector(arguments[0])", CARD)
    yield
    page.open()
    page.setting("Comfy.Templates.SortBy", "default")


def test_sorted_by_name_the_demo_is_first_and_every_template_has_its_picture(page, cards):
    names = []
    while more := page.js(f"return {NAMES}.slice(arguments[1])", CARD, len(names)):
        for name in more:  # the dialog adds further ones, and loads pictures, as somebody scrolls
            page.js(f"{FIND}.scrollIntoView()", f'{DIALOG} [data-testid="{name}"]')
            page.until(f"a picture of {name}", f"{FIND}.querySelector('img')?.naturalWidth", f'[data-testid="{name}"]')
        names += more
    names = [name.removeprefix("template-workflow-") for name in names]
    assert names[:2] == [DEMO, APP] and sorted(names) == sorted(TEMPLATES)
    page.shot("dialog")
