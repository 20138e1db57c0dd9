"""What somebody sees of the demo on a small screen right after Run: the receipt, and every prompt."""

from ..readable import APP
from .test_demo import see_a_picture

# The front end's map, which is there unless somebody closes it.
MAP = """(map => map && [map.left, map.top, map.right, map.bottom])(
    document.querySelector('[data-testid="minimap-container"]')?.getBoundingClientRect())"""
LINES = "[...document.querySelectorAll('textarea')].filter(each => each.value.includes(arguments[0]))"


def test_the_receipt_lies_in_the_window_and_no_more_than_its_edge_under_the_map(page, demo):
    page.run()
    see_a_picture(page)
    page.shot(f"seen, {demo}")
    (receipt,) = (node for node in page.nodes() if node["title"] == "Receipt")
    x, y, width, height = receipt["box"]
    assert 0 <= x and 0 <= y
    left, top, right, bottom = page.until("the map", MAP)
    assert right - left > 100 and bottom - top > 100
    covered = max(x + width - left, 0) * max(y + height - top, 0)
    assert covered < 0.05 * width * height, f"{covered / width / height:.0%} of the receipt lie under the map"


def test_every_prompt_is_seen(page, demo):
    assert page.js(f"return {LINES}.map(each => each.scrollHeight - each.clientHeight)[0]", "tiny") <= 0


def test_the_app_calls_its_prompts_prompts(page):
    page.browse()
    page.choose(APP)
    words = "document.querySelector('[data-testid=\"linear-widgets\"]')?.innerText"
    assert page.until("the app's inputs", words).split("\n")[0] == "prompts"
    page.leave_the_app()
