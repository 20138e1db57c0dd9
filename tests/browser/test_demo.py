"""The demo as somebody meets it: found, run, changed, stopped and brought back by clicking."""

from PIL import Image
from understudy.receipts.page import TEXT
from understudy.templates.__main__ import PACK

from ..from_afar import difference
from ..readable import APP, DEMO, READABLE
from .front_end import APP_RUN, CLASSIC
from .saved_graphs import links, values

PREVIEW = "PreviewImage"  # which shows the receipt
CELLS = (96, 45)  # of ten pixels, from afar
IN_PAIRS = (320, 459), 0.92  # the size of that in templates of pairs, and their zoom
TEACHER, KEEP_BETTER = "UnderstudyTeacher", "UnderstudyKeepBetter"
ADAPTIVE = "teacher ran on "  # so begins the receipt of a run in which it did


def headline(run):
    """What the receipt says first."""
    assert run["status"]["status_str"] == "success", run["status"]
    (receipt,) = (output for output in run["outputs"].values() if "saved" in output)
    return receipt["text"][0].splitlines()[0]


def see_a_picture(page):
    shown = "document.querySelector(`[data-node-id='${node.id}'] img`)"
    page.until("a picture on a node", f"app.canvas.graph.nodes.some(node => node.imgs?.length || {shown})")


def test_the_first_picture_takes_three_clicks_and_later_four(page):
    for first, most in ((True, 3), (False, 4)):
        page.open(first)
        if not first:
            page.browse()
        page.choose(DEMO)
        assert headline(page.run()).startswith(ADAPTIVE)
        see_a_picture(page)
        page.shot(f"demo, {'first' if first else 'later'}")
        assert page.clicks <= most


def test_readme_s_picture_is_of_the_demo_as_it_is(page):
    page.open(first=True)
    page.render(CLASSIC)
    page.choose(DEMO)
    page.run()
    see_a_picture(page)
    page.settle()
    corners = [(x, y, x + width, y + height) for x, y, width, height in (node["box"] for node in page.nodes())]
    lefts, tops, rights, bottoms = zip(*corners, strict=True)
    graph = min(lefts), min(tops), max(rights), max(bottoms)
    shown, kept = page.alone("demo alone"), Image.open(PACK / "docs" / "graph.png")
    page.open()
    assert shown.size == kept.size
    assert difference(shown.crop(graph), kept.crop(graph), CELLS) < 0.5, "copy 'demo alone.png' to docs/graph.png"


def test_all_of_a_receipt_can_be_read_where_it_is_shown(page, demo):
    page.run()
    see_a_picture(page)
    assert TEXT * page.shown(PREVIEW) >= READABLE
    page.shot(f"demo run, {demo}")


def test_the_receipt_of_one_prompt_can_be_read_in_templates_of_pairs(page, demo):
    page.resize(PREVIEW, *IN_PAIRS)
    page.write("UnderstudyPrompts", "a large yellow star above a small blue triangle on a black background")
    page.fill("per prompt", 4)
    page.fill("share", 0.25)
    assert headline(page.run()).startswith("teacher ran on 1 of 4")
    see_a_picture(page)
    assert TEXT * page.shown(PREVIEW) >= READABLE
    page.shot(f"one of four, {demo}")


def test_the_app_shows_the_receipt_of_its_run_behind_the_host_s_tour(page):
    page.setting("Comfy.OnboardingCoachmarks.Seen", [])  # as somebody has it who opens the first app
    page.browse()
    page.choose(APP)
    page.skip_the_tour()
    page.shot("app")
    run = page.run(APP_RUN)
    assert headline(run).startswith(ADAPTIVE)
    (preview,) = (output for output in run["outputs"].values() if "images" in output and "saved" not in output)
    receipt = preview["images"][0]["filename"]
    shown = "[...document.images].some(each => each.src.includes(arguments[0]) && each.naturalWidth)"
    page.until("the receipt", shown, receipt)
    page.shot("app after a run")
    page.leave_the_app()


def test_a_bypassed_node_leaves_a_graph_that_runs(page, demo):
    for kind, said in ((TEACHER, "no receipt of the teacher"), (KEEP_BETTER, ADAPTIVE)):
        page.bypass(kind)
        assert said in headline(page.run())
        page.shot(f"demo without {kind}, {demo}")
        page.bypass(kind)
    assert headline(page.run()).startswith(ADAPTIVE)


def test_a_run_can_be_stopped_and_the_next_one_works(page, demo):
    steps = page.fill("steps", 50)
    before = page.start()
    page.stop()
    stopped = page.end(before)
    assert "execution_interrupted" in [kind for kind, _ in stopped["status"]["messages"]]
    page.shot(f"demo stopped, {demo}")
    page.fill("steps", steps)
    assert headline(page.run()).startswith(ADAPTIVE)


def test_a_saved_picture_brings_its_graph_back(page, demo, server):
    page.run()
    before = page.saved()
    page.drop(max((server.base / "output").rglob("*.png"), key=lambda path: path.stat().st_mtime))
    after = page.saved()
    assert links(after) == links(before) and values(after) == values(before)
    page.shot(f"demo dropped, {demo}")
