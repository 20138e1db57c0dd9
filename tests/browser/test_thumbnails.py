"""The thumbnails of templates that need no download: what a click on Run shows, as small as the dialog has it, and
large enough to be read on the canvas."""

import os
from pathlib import Path

import pytest
from PIL import Image
from understudy.receipts.page import TEXT
from understudy.templates.thumbnail import square

from ..from_afar import difference
from ..readable import NO_DOWNLOAD, READABLE, TEMPLATES
from .front_end import APP_RUN, CLASSIC, RUN
from .test_demo import PREVIEW, see_a_picture


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
    thumbnail = square(Image.open(server.file(receipt[0])))
    if folder := os.environ.get("UNDERSTUDY_SCREENSHOTS"):
        thumbnail.save(Path(folder) / f"{name}.jpg", quality=90)  # to be put beside the template
    committed = Image.open(TEMPLATES[name].with_suffix(".jpg"))
    assert difference(thumbnail, committed) < 0.5, "take the one that UNDERSTUDY_SCREENSHOTS leaves"
