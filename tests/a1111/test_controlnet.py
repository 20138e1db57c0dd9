"""A job with a ControlNet, of each kind, in a real A1111: the teacher works under it or says that it does not.

The ControlNet is a stand-in, or a real one where the host has it (``environment.py``).
"""

import os
import sys
import types
from functools import partial

import pytest
from understudy.a1111 import control

from . import watching
from .jobs import EVERY, SMALL, asked, close, hold, primed, rising, source, up_to_the_first
from .server import encoded

TABS = {"txt2img": {}, "img2img": {"init_images": [encoded(source(1))], "denoising_strength": 0.7}}
# Of a real one alone: a picture that the network itself looks at, without another one.
REFERENCES = " by a reference"
REFERENCE = [f"txt2img{REFERENCES}"] if {"UNDERSTUDY_FORGE", "UNDERSTUDY_CONTROLNET"} & set(os.environ) else []
MAPS = {"txt2img": 1, "img2img": 0}  # what the stand-in adds to the gallery


def make(a1111, tab: str, *args, unit: dict | None = None, **changes):
    primed(a1111)
    units = {"alwayson_scripts": {"controlnet": {"args": [unit]}}} if unit else {}
    job = {"batch_size": 2, **TABS[tab], **SMALL, **changes}
    return a1111.make(*args, tab=tab, **job, **units)


@pytest.fixture(scope="module")
def on(a1111, web_host):
    """A function: a unit that is on, with what is given."""
    unit = {"enabled": True, "weight": 0.2}
    if web_host.controlnet is not None:
        models = a1111.get("/controlnet/model_list")["model_list"]
        model = next(name for name in models if name.startswith("outlines"))
        module = next(name for name in a1111.get("/controlnet/module_list")["module_list"] if name.lower() == "none")
        picture = encoded(source(3).rotate(90))
        unit = {"enabled": True, "weight": 0.5, "module": module, "model": model, "image": picture}
    return lambda **more: {**unit, **more}


@pytest.fixture(scope="module", params=[*TABS, *REFERENCE])
def runs(request, a1111, web_host, on):
    """(a function that makes the job, without us, every picture redone under the ControlNet, and without)."""
    tab, reference = request.param.removesuffix(REFERENCES), request.param in REFERENCE
    if reference and web_host.controlnet is None:
        pytest.skip("a stand-in has no reference")
    unit = on(module="reference_only", model="None", weight=1.0) if reference else on()

    def made(host, *args, **changes):
        return make(host, tab, *args, **{"unit": unit, **changes})

    # That also makes a real one's network for the first time, which draws from torch's state.
    job = partial(made, a1111, **rising(a1111, made))
    under, free = (job(*asked(**EVERY, control=wanted)) for wanted in (True, False))
    return job, job(), under, free


def test_the_teacher_works_under_it_where_it_is_asked_to(runs):
    job, plain, under, free = runs
    assert under.said("decision")[:2] == free.said("decision")[:2] == ["redone"] * 2
    assert under.said("score") == free.said("score")
    assert not any(one == other for one, other in zip(under.pixels[:2], free.pixels[:2], strict=True))
    assert under.said("without")[:2] == free.said("without")[:2] == [None] * 2
    assert job(unit=None).pixels[0] != plain.pixels[0]


@pytest.mark.parametrize("wanted", [True, False])
def test_the_batch_after_a_teachers_pass_is_under_it_as_without_us(runs, wanted):
    job, plain, under, free = runs
    every = under if wanted else free
    made = job(*asked(**up_to_the_first(every), control=wanted))
    assert made.said("decision")[:2] == ["redone", "kept"]
    hold(made, plain, every)


def test_at_the_jobs_end_it_is_the_same_and_its_maps_stay_in_the_gallery(request, web_host, runs):
    job, plain, under, _ = runs
    made = job(*asked(share=100.0))
    assert all(close(*pair) for pair in zip(made.pixels[:2], under.pixels[:2], strict=True))
    maps = MAPS[request.node.callspec.params["runs"]] if web_host.controlnet is None else 1
    assert len(made.images) == len(under.images) == len(plain.images) == 2 + maps
    made, off = job(unit=None), job(unit={"enabled": False})
    assert made.pixels == off.pixels  # nothing is left of it in the network


def test_without_a_controlnet_in_the_job_nothing_changes(a1111):
    bare = make(a1111, "txt2img", *asked(**EVERY))
    off = make(a1111, "txt2img", *asked(**EVERY, control=False), unit={"enabled": False})
    assert bare.pixels == off.pixels


def test_a_unit_that_fails_in_the_teachers_pass_is_said_in_the_texts_and_in_the_page(a1111, web_host, on):
    """The stand-in's fails there alone. A real one without a network fails in the student's as well."""
    fails = {"fails": True} if web_host.controlnet is None else {"model": "None"}
    free = make(a1111, "txt2img", *asked(**EVERY, control=False), unit=on(**fails))
    made = make(a1111, "txt2img", *asked(**EVERY), unit=on(**fails))
    assert made.pixels[:2] == free.pixels[:2]
    assert made.said("without")[:2] == ["ControlNet"] * 2
    assert watching.page(a1111) == ["Understudy: the teacher ran without ControlNet"]


@pytest.mark.parametrize("tab", TABS)
def test_a_picture_for_each_place_of_the_batch_is_no_picture_for_the_places_of_the_teachers_pass(a1111, web_host, tab):
    """Nothing is redone under another's outline, nor in silence without its own."""
    if web_host.controlnet is not None:
        pytest.skip("its pictures would be files of a folder; below it is asked by what a unit says")
    unit = {"enabled": True, "weight": 0.2, "input_mode": "batch"}
    pair = {"batch_size": 2, "n_iter": 1}
    plain, made = make(a1111, tab, unit=unit, **pair), make(a1111, tab, *asked(**EVERY), unit=unit, **pair)
    why = {"txt2img": control.COUNTS_PASSES, "img2img": control.BY_PLACE}[tab]
    assert made.pixels == plain.pixels
    assert made.said("decision")[:2] == [f"not redone: {why}"] * 2
    assert watching.page(a1111) == [f"Understudy: 2 pictures not redone: {why}"]
    made = make(a1111, tab, *asked(share=0.0, best_of=2), unit=unit, **pair)
    tries = {"txt2img": "2", "img2img": None}[tab]  # of the first kind all pictures have the same control
    assert made.said("tries")[:2] == [tries] * 2 and (made.pixels == plain.pixels or tries is not None)
    untried = [line for line in watching.page(a1111) if line == f"Understudy: no other try is made: {control.PLACES}"]
    assert len(untried) == (tries is None)


@pytest.mark.parametrize(
    ("users", "ours"),
    [({}, {}), ({control.SAVES_MAPS: False}, {}), ({control.SAVES_MAPS: True}, {control.SAVES_MAPS: False})],
)
def test_maps_that_the_job_saves_are_not_saved_by_each_pass(stand_in, users, ours):
    stand_in.shared.opts.data = users
    assert control.settings_for_a_pass() == ours


def test_what_is_set_aside_ends_nothing_that_the_job_still_needs(monkeypatch, stand_in):
    """Its maps would be saved, and shown, now and at the job's end."""
    ended = []

    class Maps(Holds):
        def __init__(self):
            self.detected_map = ["map"]

        def postprocess(self, p, processed):
            ended.append(list(self.detected_map))

        def process(self, p):
            ended.append("begun again")

    monkeypatch.setitem(sys.modules, "modules.scripts", types.SimpleNamespace(Script=Script))
    stand_in.processing.Processed = lambda p, images: None
    monkeypatch.setattr(control, "runner_of", lambda script: script)
    script, p = Maps(), types.SimpleNamespace(iteration=0, n_iter=2)
    with control.set_aside(p, script):
        assert ended == [[]]
    assert ended == [[], "begun again"] and script.detected_map == ["map"]


def test_in_the_teachers_pass_it_is_seeded_as_in_the_job():
    seen = []

    class Draws:
        alwayson_scripts, args_from, args_to = (), 0, 0

        def process(self, q):
            seen.append((q.seed, q.subseed, q.all_seeds))
            raise RuntimeError

    p = types.SimpleNamespace(seed=-1, subseed=7, all_seeds=[5, 6], script_args=[])
    q = types.SimpleNamespace(seed=[6], subseed=[8], all_seeds=[6])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "runner_of", lambda script: script)
        control.give(q, p, Draws())
    with pytest.raises(RuntimeError):
        q.scripts.process(q)
    assert seen == [(-1, 7, [5, 6])]
    assert (q.seed, q.subseed, q.all_seeds) == ([6], [8], [6])


class Script:
    def process_before_every_sampling(self, *args):
        """As the host's class has it, and scripts that take no part."""


class Holds(Script):
    args_from, args_to = 0, 1


class PutsItselfIn(Holds):
    def process_before_every_sampling(self, *args):
        """Of its own."""


@pytest.mark.parametrize(
    ("kind", "mode", "batch_size", "wanted", "option", "why"),
    [
        (Holds, "simple", 4, True, None, ""),
        (Holds, "merge", 4, True, None, ""),  # all of them hold for all of the batch
        (Holds, "batch", 1, False, None, control.COUNTS_PASSES),
        (Holds, "simple", 4, True, control.SEPARATE, control.BY_PLACE),
        (Holds, "simple", 4, False, control.SEPARATE, ""),
        (Holds, "simple", 1, True, control.SEPARATE, ""),
        (PutsItselfIn, "simple", 4, True, None, ""),
        (PutsItselfIn, "merge", 4, True, None, control.BY_PLACE),
        (PutsItselfIn, "batch", 4, True, None, control.BY_PLACE),
        (PutsItselfIn, "merge", 4, False, None, ""),
        (PutsItselfIn, "merge", 1, True, None, ""),
    ],
)
@pytest.mark.parametrize("as_object", [False, True])
def test_what_stands_against_redoing(monkeypatch, stand_in, kind, mode, batch_size, wanted, option, why, as_object):
    monkeypatch.setitem(sys.modules, "modules.scripts", types.SimpleNamespace(Script=Script))
    unit = {"enabled": True, "input_mode": mode}
    if as_object:
        unit = types.SimpleNamespace(enabled=True, input_mode=types.SimpleNamespace(value=mode))
    script, p = kind(), types.SimpleNamespace(script_args=[unit], batch_size=batch_size)
    script.ui_batch_option_state = [option or "All ControlNet units for all images in a batch", False]
    assert control.objection(p, script, wanted) == why
    script.title, p.scripts = (lambda: "ControlNet"), types.SimpleNamespace(alwayson_scripts=[script])
    if wanted:
        assert control.objection_to_tries(p) == (control.PLACES if why == control.BY_PLACE else "")
    p.script_args = [types.SimpleNamespace(enabled=False, input_mode=mode) if as_object else {**unit, "enabled": False}]
    if option is None:
        assert control.objection(p, script, wanted) == ""
