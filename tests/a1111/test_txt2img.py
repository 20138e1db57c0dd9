"""Text to image in a real A1111: what is redone, what is kept, and what the pictures say of it."""

import re
from dataclasses import astuple
from pathlib import Path

import pytest
from PIL import Image
from understudy.a1111.choices import Choices

from . import watching
from .jobs import ORACLE, SMALL
from .server import value_of
from .watching_files import named, new_files


def asked(**changes) -> list:
    """The panel's values in order: the worst half of the job, by the same checkpoint."""
    values = {"enabled": True, "oracle": ORACLE, "rule": "worst share of the job", "share": 50.0}
    values |= {"steps": 3, "cfg": 3.0, "sampler": "Euler", "keep_better": False, **changes}
    return list(astuple(Choices(**values)))


def by_score(made, places: int = 2) -> float:
    """A score below which exactly so many of a job's pictures are."""
    scores = sorted(map(float, made.said("score")))
    return (scores[places - 1] + scores[places]) / 2


@pytest.fixture(scope="module")
def plain(a1111):
    return a1111.make()


@pytest.fixture(scope="module")
def small(a1111):
    return a1111.make(**SMALL)


@pytest.fixture(scope="module")
def worst(a1111):
    return a1111.make(*asked())


def test_off_is_the_same_to_the_bit_as_without_us(a1111, plain):
    with watching.without_us(a1111):
        absent = a1111.make(*asked())
    assert absent.said("decision") == [None] * 4, "the job was ours"
    for off in (plain, a1111.make(*asked(enabled=False))):
        assert off.pixels == absent.pixels and off.texts == absent.texts


def test_the_worst_half_is_redone_and_the_others_are_those_of_a_run_without_us(plain, worst):
    decisions, scores = worst.said("decision"), [float(score) for score in worst.said("score")]
    assert sorted(decisions) == ["kept", "kept", "redone", "redone"]
    redone = [decision == "redone" for decision in decisions]
    assert [score in sorted(scores)[:2] for score in scores] == redone
    assert [one != other for one, other in zip(worst.pixels, plain.pixels, strict=True)] == redone


def test_an_image_alone_is_redone_as_among_others(a1111, worst):
    place = worst.said("decision").index("redone")
    alone = a1111.make(*asked(rule="below score", score=100.0), batch_size=1, seed=1 + place)
    pairs = list(zip(alone.pixels[0], worst.pixels[place], strict=True))
    assert max(abs(a - b) for a, b in pairs) <= 1
    assert sum(a != b for a, b in pairs) < len(pairs) / 100


def test_below_a_score_a_batch_goes_through_the_teacher_before_it_is_saved(a1111, plain, worst):
    made = a1111.make(*asked(rule="below score", score=by_score(worst)))
    assert made.pixels == worst.pixels and made.said("decision") == worst.said("decision")
    assert made.said("score after") == worst.said("score after") and None in made.said("score after")


def test_the_whole_job_counts_where_people_make_one_picture_at_a_time(a1111, worst):
    made = a1111.make(*asked(), batch_size=1, n_iter=4)
    assert made.said("decision") == worst.said("decision")


def test_the_whole_job_takes_one_switch_to_the_teacher_and_one_back(a1111, worst):
    made = a1111.make(*asked(teacher="teacher.safetensors"), batch_size=1, n_iter=4)
    assert made.said("decision") == worst.said("decision")
    assert watching.seen(a1111)["loads"] == ["teacher.safetensors", "student.safetensors"]


def test_the_worst_share_of_a_single_picture_is_nothing_and_the_page_says_so(a1111):
    made = a1111.make(*asked(), batch_size=1)
    (said,) = watching.page(a1111)
    assert made.said("decision") == ["kept"] and "the worst share of a single picture is nothing" in said


def test_another_checkpoint_redoes_and_the_students_is_back(a1111, plain, worst):
    before = a1111.log_text()
    made = a1111.make(*asked(teacher="teacher.safetensors"))
    assert watching.seen(a1111)["encoded"] == 2  # each of the two by the teacher's VAE, and once
    log = a1111.log_text()[len(before) :]
    assert log.count("the teacher is another checkpoint, loaded once for this job, the student's after it") == 1
    assert len(re.findall(r"loading the student's checkpoint again took \d+\.\d s", log)) == 1
    assert made.said("decision") == worst.said("decision")
    changed = [decision == "redone" for decision in made.said("decision")]
    assert [one != other for one, other in zip(made.pixels, worst.pixels, strict=True)] == changed
    assert "student" in a1111.get("/sdapi/v1/options")["sd_model_checkpoint"]
    assert a1111.make().pixels == plain.pixels


def test_the_better_of_both_is_kept(a1111, plain, worst):
    made = a1111.make(*asked(keep_better=True))
    for place, decision in enumerate(made.said("decision")):
        before, after = float(made.said("score")[place]), made.said("score after")[place]
        assert decision == "kept" or (decision == "redone") == (float(after) > before)
        of = worst if decision == "redone" else plain
        assert made.pixels[place] == of.pixels[place]


def test_files_hold_what_is_shown_and_the_students_beside_on_wish(a1111):
    with new_files(a1111) as files:
        made = a1111.make(*asked(save_student=True), save_images=True)
    pictures, students = named(files, ".png"), named(files, ".png", student=True)
    saved = [Image.open(path) for path in pictures]
    assert [image.convert("RGB").tobytes() for image in saved] == made.pixels
    assert [value_of(image.info["parameters"], "Understudy decision") for image in saved] == made.said("decision")
    assert list(map(Path, watching.seen(a1111)["saved_as"])) == pictures  # by which the page knows them
    redone = {path.stem for path, word in zip(pictures, made.said("decision"), strict=True) if word == "redone"}
    assert {path.stem.removesuffix("-student") for path in students} == redone


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"oracle": "absent.safetensors"}, "models/oracles has no 'absent.safetensors'"),
        ({"oracle": "none"}, "no oracle is chosen"),
        ({"rule": "sometimes"}, "the rule is 'sometimes'"),
        ({"noise": 1.5}, "noise is 1.5; expected more than 0 and less than 1"),
        ({"sampler": "Nonesuch"}, "no sampler 'Nonesuch'"),
        ({"scheduler": "Nonesuch"}, "no schedule 'Nonesuch'; there are: Automatic, "),
        ({"share": "much"}, "share is 'much'; expected a number"),
        ({"rule": "below percentile", "calibration": "absent"}, "no calibration 'absent'"),
    ],
)
def test_what_cannot_be_honoured_is_said_in_the_texts_and_changes_nothing(a1111, small, changes, words):
    made = a1111.make(*asked(**changes), **SMALL)
    assert made.pixels == small.pixels
    assert all(words in text for text in made.texts)


@pytest.mark.parametrize(("flow", "sigma"), [(False, 1.2247), (True, 0.5505)])
def test_the_way_back_is_a_share_of_the_variance_in_flow_models_as_well(a1111, flow, sigma):
    """sigma² / (1 + sigma²) of it is noise where noise is added, sigma² / (sigma² + (1 - sigma)²) where it is mixed."""
    watching.do(a1111, flow=flow)
    try:
        made = a1111.make(*asked(noise=0.6), batch_size=2, **SMALL)
    finally:
        watching.do(a1111, flow=False)
    (said,) = {float(word) for word in made.said("sigma") if word}
    assert said == pytest.approx(sigma, abs=1e-3)


def test_the_history_of_prompts_is_the_students(a1111):
    a1111.make(*asked(cfg=4.5), batch_size=2, **SMALL)
    assert "CFG scale: 1.5" in (a1111.base / "params.txt").read_text()
