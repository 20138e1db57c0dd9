"""The thumbnails of templates that need no download: what a click on Run shows, as small as the dialog has it, and
large enough to be read on the canvas."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image
from understudy.receipts.letters import LINE
from understudy.receipts.page import HEADLINE, MARGIN, TEXT
from understudy.templates.thumbnail import SIDE, save

from ..from_afar import difference
from ..readable import NO_DOWNLOAD, READABLE, TEMPLATES
from .front_end import APP_RUN, CLASSIC, RUN
from .test_demo import PREVIEW, see_a_picture


def without_headline(thumbnail: Image.Image, receipt: Image.Image) -> Image.Image:
    """The part of a receipt's thumbnail that is the same on any machine: below the line with the seconds."""
    scale = SIDE / max(receipt.size)
    top = (SIDE - scale * receipt.height) / 2 + scale * (MARGIN + LINE * HEADLINE)
    return thumbnail.crop((0, round(top), SIDE, SIDE))


@pytest.mark.parametrize("name", NO_DOWNLOAD)
def test_a_thumbnail_is_the_receipt_of_its_template(page, server, name):
    page.render(CLASSIC)
    page.browse()
    page.choose(name)
    app = page.js("return !!app.graph.extra.linearMode")
    run = page.run(APP_RUN if app else RUN)
    if app:
        page.leave_the_app()
    else:
        see_a_picture(page)
        page.shot(f"run of {name}")
        assert TEXT * page.shown(PREVIEW) >= READABLE
    (receipt,) = (output["images"] for output in run["outputs"].values() if "saved" in output)
    picture, made = Image.open(server.file(receipt[0])), io.BytesIO()
    save(picture, made)
    if folder := os.environ.get("UNDERSTUDY_SCREENSHOTS"):
        (Path(folder) / f"{name}.jpg").write_bytes(made.getvalue())  # to be put beside the template
    files = made, TEMPLATES[name].with_suffix(".jpg")
    shown, kept = (without_headline(Image.open(file), picture) for file in files)
    assert difference(shown, kept) < 0.5, "take the one that UNDERSTUDY_SCREENSHOTS leaves"
