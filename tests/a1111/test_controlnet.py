"""A job with a ControlNet, of each kind, in a real A1111: the teacher works under it or says that it does not."""

import pytest

from . import watching
from .jobs import EVERY, RISING, SMALL, asked, close, hold, primed, source, up_to_the_first
from .server import encoded

TABS = {"txt2img": {}, "img2img": {"init_images": [encoded(source(1))], "denoising_strength": 0.7}}
MAPS = {"txt2img": 1, "img2img": 0}  # what the stand-in adds to the gallery


def make(a1111, tab: str, *args, unit: dict | None = None, **changes):
    primed(a1111)
    units = {"alwayson_scripts": {"controlnet": {"args": [unit]}}} if unit else {}
    return a1111.make(*args, tab=tab, **TABS[tab], **SMALL, **RISING, **units, **changes)


def on(**more) -> dict:
    return {"enabled": True, "weight": 0.2, **more}


@pytest.fixture(scope="module", params=TABS)
def runs(request, a1111):
    """(tab, without us, every picture redone under the ControlNet, and without)."""
    tab = request.param
    under, free = (make(a1111, tab, *asked(**EVERY, control=control), unit=on()) for control in (True, False))
    return tab, make(a1111, tab, unit=on()), under, free


def test_the_teacher_works_under_it_where_it_is_asked_to(a1111, runs):
    tab, plain, under, free = runs
    assert under.said("decision") == free.said("decision") == ["redone"] * 2
    assert under.said("score") == free.said("score")
    assert not any(one == other for one, other in zip(under.pixels[:2], free.pixels[:2], strict=True))
    assert under.said("without") == free.said("without") == [None] * 2
    assert make(a1111, tab).pixels[0] != plain.pixels[0]


@pytest.mark.parametrize("control", [True, False])
def test_the_batch_after_a_teachers_pass_is_under_it_as_without_us(a1111, runs, control):
    tab, plain, under, free = runs
    every = under if control else free
    made = make(a1111, tab, *asked(**up_to_the_first(every), control=control), unit=on())
    assert made.said("decision") == ["redone", "kept"]
    hold(made, plain, every)


def test_at_the_jobs_end_it_is_the_same_and_its_maps_stay_in_the_gallery(a1111, runs):
    tab, plain, under, _ = runs
    made = make(a1111, tab, *asked(share=100.0), unit=on())
    assert all(close(*pair) for pair in zip(made.pixels[:2], under.pixels[:2], strict=True))
    assert len(made.images) == len(under.images) == len(plain.images) == 2 + MAPS[tab]
    made, off = make(a1111, tab), make(a1111, tab, unit={"enabled": False})
    assert made.pixels == off.pixels  # nothing is left of it in the network


def test_without_a_controlnet_in_the_job_nothing_changes(a1111):
    bare = make(a1111, "txt2img", *asked(**EVERY))
    off = make(a1111, "txt2img", *asked(**EVERY, control=False), unit={"enabled": False})
    assert bare.pixels == off.pixels


@pytest.mark.parametrize("runs", ["txt2img"], indirect=True)
def test_a_unit_that_fails_in_the_teachers_pass_is_said_in_the_texts_and_in_the_page(a1111, runs):
    tab, _, _, free = runs
    made = make(a1111, tab, *asked(**EVERY), unit=on(fails=True))
    assert made.pixels[:2] == free.pixels[:2]
    assert made.said("without") == ["ControlNet"] * 2
    assert watching.page(a1111) == ["Understudy: the teacher ran without ControlNet"]
