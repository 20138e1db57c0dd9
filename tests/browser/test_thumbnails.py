"""The thumbnails of templates that need no download: what a click on Run shows, as small as the dialog has it."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from understudy.templates.thumbnail import square

from ..readable import TEMPLATES
from .front_end import APP_RUN, CLASSIC, RUN

NO_DOWNLOAD = [name for name in TEMPLATES if name.endswith("(no download)")]
FROM_AFAR = (50, 50)  # of the thumbnail's 400: machines' rounding and JPEG do not show, another picture does


@pytest.mark.parametrize("name", NO_DOWNLOAD)
def test_a_thumbnail_is_the_receipt_of_its_template(page, server, name):
    page.render(CLASSIC)
    page.browse()
    page.choose(name)
    app = page.js("return !!app.graph.extra.linearMode")
    run = page.run(APP_RUN if app else RUN)
    if app:
        page.leave_the_app()
    (receipt,) = (output["images"] for output in run["outputs"].values() if "saved" in output)
    thumbnail = square(Image.open(server.file(receipt[0])))
    if folder := os.environ.get("UNDERSTUDY_SCREENSHOTS"):
        thumbnail.save(Path(folder) / f"{name}.jpg", quality=90)  # to be put beside the template
    committed = Image.open(TEMPLATES[name].with_suffix(".jpg"))
    made, kept = (np.asarray(each.resize(FROM_AFAR, Image.BOX), float) for each in (thumbnail, committed))
    assert np.abs(made - kept).mean() < 2, "take the one that UNDERSTUDY_SCREENSHOTS leaves"
