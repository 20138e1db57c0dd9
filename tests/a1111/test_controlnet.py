"""A job with a ControlNet, of each kind, in a real A1111: the teacher works under it or says that it does not."""

import pytest

from .jobs import asked, close, primed, source
from .server import encoded

TABS = {
    "txt2img": {},
    "img2img": {"init_images": [encoded(source(1))], "denoising_strength": 0.7},
}
EVERY = {"rule": "below score", "score": 100.0}
BATCHES = {"batch_size": 2, "n_iter": 2}


def make(a1111, tab: str, *args, unit: dict | None = None, **changes):
    primed(a1111)
    units = {"alwayson_scripts": {"controlnet": {"args": [unit]}}} if unit else {}
    return a1111.make(*args, tab=tab, **TABS[tab], **BATCHES, **units, **changes)


def on(**more) -> dict:
    return {"enabled": True, "weight": 0.2, **more}


@pytest.mark.parametrize("tab", TABS)
def test_the_teacher_works_under_the_jobs_controlnet_where_it_is_asked_to(a1111, tab):
    under = make(a1111, tab, *asked(**EVERY), unit=on())
    free = make(a1111, tab, *asked(**EVERY, control=False), unit=on())
    assert under.said("decision") == free.said("decision") == ["redone"] * 4
    assert under.said("score") == free.said("score")
    assert not any(one == other for one, other in zip(under.pixels, free.pixels, strict=False))
    assert under.said("without") == free.said("without") == [None] * 4


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("control", [True, False])
def test_batches_after_a_teachers_pass_are_under_it_as_without_us(a1111, tab, control):
    plain = make(a1111, tab, unit=on())
    assert plain.pixels[:4] != make(a1111, tab).pixels[:4]
    every = make(a1111, tab, *asked(**EVERY, control=control), unit=on())
    first = sorted(map(float, every.said("score")[:2]))
    made = make(a1111, tab, *asked(rule="below score", score=sum(first) / 2, control=control), unit=on())
    assert sorted(made.said("decision")[:2]) == ["kept", "redone"]
    for place, decision in enumerate(made.said("decision")):
        of = plain if decision == "kept" else every
        assert close(made.pixels[place], of.pixels[place])
    assert make(a1111, tab).pixels == make(a1111, tab, unit={"enabled": False}).pixels


@pytest.mark.parametrize("tab", TABS)
def test_at_the_jobs_end_it_is_the_same_and_its_maps_stay_in_the_gallery(a1111, tab):
    by_batch = make(a1111, tab, *asked(**EVERY), unit=on())
    at_the_end = make(a1111, tab, *asked(share=100.0), unit=on())
    assert at_the_end.pixels[:4] == by_batch.pixels[:4]
    maps = 1 if tab == "txt2img" else 0
    assert len(at_the_end.images) == len(make(a1111, tab, unit=on()).images) == 4 + maps


def test_without_a_controlnet_in_the_job_nothing_changes(a1111):
    bare = make(a1111, "txt2img", *asked(**EVERY))
    off = make(a1111, "txt2img", *asked(**EVERY), unit={"enabled": False})
    unasked = make(a1111, "txt2img", *asked(**EVERY, control=False))
    assert bare.pixels == off.pixels == unasked.pixels


def test_a_unit_that_fails_in_the_teachers_pass_is_said_in_the_texts_and_in_the_page(a1111):
    free = make(a1111, "txt2img", *asked(**EVERY, control=False), unit=on())
    made = make(a1111, "txt2img", *asked(**EVERY), unit=on(fails=True))
    assert made.pixels[:4] == free.pixels[:4]
    assert made.said("without") == ["ControlNet"] * 4
    assert "the teacher ran without ControlNet" in a1111.log_text()
