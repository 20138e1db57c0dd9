"""Budgets and calibrations of whole jobs, evaluations, and the receipt."""

import pytest
from PIL import Image
from understudy.oracles.budget import Budget
from understudy.oracles.calibration import Calibration
from understudy.oracles.threshold import Threshold

from .test_txt2img import asked, value_of
from .watching_files import named, new_files

BUDGET = {"rule": "budget", "calibration": "mine", "budget": 7.0, "share": 0.0}
SIZE = {"width": 32, "height": 32}
MANY = {"batch_size": 10, "n_iter": 2, "seed": 100, **SIZE}


@pytest.fixture(scope="module")
def a1111(webui):
    """The other server has enough to do."""
    return webui


@pytest.fixture(scope="module")
def calibration(a1111):
    """Of 20 pictures, recorded by a job that redoes none."""
    made = a1111.make(*asked(share=0.0, record="mine"), **MANY)
    table = Calibration.load(a1111.base / "models" / "understudy_calibrations" / "mine.json")
    assert table.n == 20 and table.settings["steps"] == 2 and table.settings["sampler"] == "Euler"
    assert sorted(map(float, made.said("score"))) == pytest.approx(sorted(table.scores_by_image.values()), abs=1e-4)
    return table


def below(threshold, calibration, made) -> list[float]:
    """Of the scores in the texts, which are rounded, as many as the calibration, made of the same, has below it."""
    count = sum(score < threshold.value for score in calibration.scores_by_image.values())
    return sorted(map(float, made.said("score")))[:count]


def test_a_budget_redoes_what_it_pays_for_and_every_picture_says_what_it_took(a1111, calibration):
    made = a1111.make(*asked(**BUDGET), **MANY)
    # Two steps of the student and three of the teacher, each with the negative.
    worst = below(Threshold.budget(calibration, Budget(7.0, 4, 6)), calibration, made)
    assert len(worst) == 10
    redone = [word == "redone" for word in made.said("decision")]
    assert [float(score) in worst for score in made.said("score")] == redone
    assert made.said("evaluations") == ["10" if changed else "4" for changed in redone]


def test_below_a_percentile_of_the_calibration_that_share_is_redone(a1111, calibration):
    made = a1111.make(*asked(rule="below percentile", percentile=30.0, calibration="mine"), **MANY)
    worst = below(Threshold.percentile(calibration, 30.0), calibration, made)
    assert len(worst) == 6
    redone = [word == "redone" for word in made.said("decision")]
    assert [float(score) in worst for score in made.said("score")] == redone
    assert made.said("percentile") == ["30"] * 20 and made.said("calibration") == ["mine"] * 20


def test_a_budget_with_tries_counts_them(a1111, calibration):
    made = a1111.make(*asked(**{**BUDGET, "budget": 8.0}, best_of=2), **MANY)
    tries = [int(count or 1) for count in made.said("tries")]
    redone = [6 * (word == "redone") for word in made.said("decision")]
    took = list(map(int, made.said("evaluations")))
    assert took == [4 * count + more for count, more in zip(tries, redone, strict=True)]
    assert 6.5 <= sum(took) / 20 <= 8.8 and 2 in tries


@pytest.mark.parametrize(
    ("changes", "job", "words"),
    [
        ({"budget": 3.0}, {}, "not redone: budget is 3 evaluations an image, and the student alone takes 4"),
        ({"sampler": "DPM adaptive"}, {}, "not redone: it cannot be told what the teacher with DPM adaptive takes"),
        ({}, {"s_min_uncond": 1.0}, "not redone: it cannot be told what the student takes"),
        ({}, {"steps": 3}, "steps was 2, is 3"),
        ({"calibration": "small"}, {}, "'small' has 2 scores; percentiles need at least 20"),
        ({"record": "../x"}, {}, "calibration name '../x'"),
    ],
)
def test_what_a_budget_cannot_do_is_said_in_the_pictures(a1111, calibration, changes, job, words):
    if "sampler" in changes:
        there = {sampler["name"] for sampler in a1111.get("/sdapi/v1/samplers")}
        a1111.needs(changes["sampler"] in there, changes["sampler"])
    a1111.make(*asked(share=0.0, record="small"), batch_size=2, **SIZE)
    made = a1111.make(*asked(**{**BUDGET, **changes}), batch_size=2, **SIZE, **job)
    assert made.pixels == a1111.make(batch_size=2, **SIZE, **job).pixels
    assert all(words in text for text in made.texts)


def test_the_same_pictures_count_once_and_those_of_other_settings_not_at_all(a1111, calibration):
    a1111.make(*asked(share=0.0, record="mine"), **{**MANY, "n_iter": 1})
    a1111.make(*asked(share=0.0, record="mine"), batch_size=2, seed=900, steps=4, **SIZE)
    file = a1111.base / "models" / "understudy_calibrations" / "mine.json"
    assert Calibration.load(file).n == 20 and "nothing is recorded: calibration 'mine'" in a1111.log_text()
    # Tries do not: the calibration is of the student's own.
    a1111.make(*asked(share=0.0, record="mine", best_of=2), **{**MANY, "batch_size": 2, "n_iter": 1, "seed": 901})
    assert Calibration.load(file).n == 22


def test_heun_takes_two_evaluations_a_step_but_the_last(a1111):
    made = a1111.make(*asked(sampler="Heun"), batch_size=2, **SIZE)
    assert sorted(made.said("evaluations")) == ["14", "4"]


@pytest.mark.parametrize("saved", [True, False])
def test_the_receipt_is_one_more_picture_at_the_end(a1111, saved):
    with new_files(a1111) as files:
        files_are = {"grid_format": "png"}  # of which Forge Neo's own are JPEG
        made = a1111.make(*asked(receipt=True), save_images=saved, override_settings=files_are, **SIZE)
        plain = a1111.make(*asked(), save_images=saved, override_settings=files_are, **SIZE)
    *pictures, receipt = made.images
    assert made.pixels[:-1] == plain.pixels and len(made.texts) == 5
    assert receipt.width > 300 and value_of(made.texts[-1], "Understudy rule") == "worst share of the job"
    grids = named(files, ".png", grid=True)
    assert len([path for path in grids if path.name.startswith("receipt")]) == saved
    assert len(grids) == (3 if saved else 0)
    if saved:
        of_job, of_plain = (Image.open(path).tobytes() for path in grids if path.name.startswith("grid"))
        assert of_job == of_plain


def test_a_receipt_of_a_job_without_scores_is_left_out(a1111):
    made = a1111.make(*asked(receipt=True, rule="budget", calibration="none"), **SIZE)
    assert len(made.images) == len(made.texts) == 4
