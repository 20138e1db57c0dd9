"""What the front end's library, its search and its panel for help have of the pack."""

import pytest

from ..host.environment import PACK
from ..nodes.search import WANTED
from .front_end import CLASSIC, RENDERERS

NODE = "UnderstudyStudentSampler"  # with the longest page
PANEL = 255  # pixels: the narrowest that somebody has the help in
ADD = """
const node = LiteGraph.createNode(arguments[0])
node.pos = [300, 200]
app.graph.add(node)
app.canvas.selectItems([node])
"""
HELP = """(help => help?.innerText.includes('Which preset for what') && help)(
    document.querySelector('.node-help-content'))"""
CUT = """
const [help, width] = arguments
help.style.width = `${width}px`
return [help, ...help.querySelectorAll('*')].filter(each => each.scrollWidth > each.clientWidth && each.clientWidth)
  .map(each => each.innerText)
"""
BLOCKS = [path.stem for path in sorted((PACK / "subgraphs").glob("*.json"))]
ADD_A_NODE = 'input[placeholder^="Add a node"]'
FOUND = "[...document.querySelectorAll('[data-testid=\"result-item\"]')].map(each => each.innerText.split('\\n')[0])"
NODES_TAB, SEARCH = ".node-library-tab-button", 'input[placeholder^="Search"]'


@pytest.fixture
def empty(page):
    """A canvas with nothing on it."""
    page.render(CLASSIC)
    page.command("Comfy.NewBlankWorkflow")
    page.until("an empty canvas", "!app.graph.nodes.length")
    yield
    page.setting("Comfy.RightSidePanel.IsOpen", False)
    page.open()


def test_a_help_page_fits_into_a_narrow_panel(page, empty):
    page.js(ADD, NODE)
    page.click("the button for help", '[data-testid="info-button"]')
    help_page = page.until("the help page", HELP)
    page.shot("help")
    assert page.js(CUT, help_page, PANEL) == []


def test_the_search_finds_what_people_type(page, empty):
    page.command("Workspace.SearchBox.Toggle")
    box = page.until("the search", "document.querySelector(arguments[0])", ADD_A_NODE)
    for query, wanted in WANTED.items():
        names = [page.js("return LiteGraph.registered_node_types[arguments[0]].title", node) for node in wanted]
        page.type_over(box, "qqqq")
        page.until("an empty list", f"!{FOUND}.length")
        page.type_over(box, query)
        page.until(f"{names} for {query!r}", f"arguments[0].every(name => {FOUND}.includes(name))", names)
    page.shot("search")


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_of_the_node_library_is_placed_whole(page, empty, renderer, name):
    page.render(renderer)
    page.click("the node library", NODES_TAB)
    page.until("its search", "document.querySelector(arguments[0])", SEARCH).send_keys(name)
    page.click(f"the block {name}", '[role="treeitem"]', name)
    page.click_canvas()
    page.until("the block", "app.graph.nodes.length")
    page.settle()
    page.shot(f"block {name}, {renderer}")
    (block,) = page.nodes()
    assert block["title"] == name and not block["red"]
    for _ in page.blocks():
        assert len(page.nodes()) > 3 and all(node["known"] and not node["red"] for node in page.nodes())
