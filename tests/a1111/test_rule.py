"""Rules as the pack's thresholds; calibrations of this host, of others, and how they grow."""

from types import SimpleNamespace

import pytest
from understudy.a1111 import host, rule
from understudy.a1111.choices import BUDGET, PERCENTILE, SCORE, WORST, Choices, RefusedChoice
from understudy.a1111.counting import Evaluations, count, count_for, runs_in
from understudy.oracles.calibration import Calibration, CalibrationError, CalibrationMismatch
from understudy.oracles.published_calibrations import PUBLISHED_CALIBRATIONS

ORACLE = SimpleNamespace(fingerprint="f" * 64, family="imagereward")
OURS = {"checkpoint": "c0ffee", "steps": 4, "cfg": 1.0, "image_to_image": None}


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "models_folder", lambda name: tmp_path / name)
    return tmp_path / rule.FOLDER


def images(count, first=0):
    return [(f"{i:064}", float(i), "a cat") for i in range(first, first + count)]


def choices(of=PERCENTILE, **changes):
    return Choices(enabled=True, oracle="o", rule=of, calibration="mine", **changes)


def test_scores_are_recorded_once_each_and_are_read_as_a_percentile(folder):
    assert rule.record("mine", OURS, ORACLE, images(15)).n == 15
    with pytest.raises(CalibrationError, match="has 15 scores; percentiles need at least 20"):
        rule.calibration_of(choices(), OURS, ORACLE)
    assert rule.record("mine", OURS, ORACLE, images(10, 10)).n == 20
    table = rule.calibration_of(choices(), OURS, ORACLE)
    threshold = rule.threshold_of(choices(percentile=50), table)
    assert threshold.rejected([9, 10]) == [True, False]
    assert rule.calibration_files()[0] == "mine"
    assert Calibration.load(folder / "mine.json").n == 20  # the pack's own file


@pytest.mark.parametrize(
    ("settings", "oracle", "words"),
    [
        ({**OURS, "steps": 8}, ORACLE, "steps was 4, is 8"),
        ({**OURS, "image_to_image": {"denoising_strength": 0.5}}, ORACLE, "image_to_image"),
        (OURS, SimpleNamespace(fingerprint="e" * 64, family="imagereward"), "oracle was"),
    ],
)
def test_other_settings_and_oracles_are_refused_in_reading_and_in_recording(folder, settings, oracle, words):
    rule.record("mine", OURS, ORACLE, images(20))
    before = (folder / "mine.json").read_bytes()
    with pytest.raises(CalibrationMismatch, match=words):
        rule.calibration_of(choices(), settings, oracle)
    with pytest.raises(CalibrationMismatch, match=words):
        rule.record("mine", settings, oracle, images(1, 50))
    assert (folder / "mine.json").read_bytes() == before


@pytest.mark.parametrize("key", ["StudentSampler.steps", "student_steps"])
def test_a_calibration_of_comfyui_is_read_by_its_oracle_and_its_steps(folder, key):
    folder.mkdir()
    scores = {f"{i:064}": float(i) for i in range(20)}
    Calibration("mine", scores, {key: 4, "VAELoader.vae": "x"}, ORACLE.fingerprint, "").save(folder / "mine.json")
    assert rule.calibration_of(choices(), OURS, ORACLE).n == 20
    with pytest.raises(CalibrationMismatch, match="with 4 steps, and these pictures have 5"):
        rule.calibration_of(choices(), {**OURS, "steps": 5}, ORACLE)
    with pytest.raises(CalibrationMismatch, match="another oracle"):
        rule.calibration_of(choices(), OURS, SimpleNamespace(fingerprint="e" * 64, family="imagereward"))


def test_published_tables_are_there_and_cannot_grow(folder):
    name = next(name for name, table in PUBLISHED_CALIBRATIONS.items() if table.settings["steps"] == 4)
    asked = Choices(enabled=True, oracle="o", rule=PERCENTILE, calibration=name)
    assert name in rule.calibration_files() and rule.calibration_of(asked, OURS, ORACLE).name == name
    with pytest.raises(CalibrationMismatch, match="oracle was imagereward, is hpsv2"):
        rule.calibration_of(asked, OURS, SimpleNamespace(fingerprint="f", family="hpsv2"))
    with pytest.raises(ValueError, match="calibration name 'ImageReward"):
        rule.record(name, OURS, ORACLE, images(1))


def test_rules_without_a_calibration_read_none(folder):
    assert rule.calibration_of(choices(WORST), OURS, ORACLE) is None
    assert rule.threshold_of(choices(WORST, share=25), None).rejected([3, 1, 2, 4]) == [False, True, False, False]
    assert rule.threshold_of(choices(SCORE, score=2.5), None).rejected([2, 3]) == [True, False]


@pytest.mark.parametrize(("cfg", "teacher"), [(1.0, 10), (5.0, 20)])
def test_a_budget_pays_for_as_many_of_the_worst_as_it_can(folder, stand_in, cfg, teacher):
    stand_in.sd_samplers.find_sampler_config = lambda name: SimpleNamespace(total_steps=lambda steps: steps)
    rule.record("mine", OURS, ORACLE, images(40))
    asked = choices(BUDGET, budget=9, steps=10, cfg=cfg, sampler="Euler")
    table = rule.calibration_of(asked, OURS, ORACLE)
    threshold = rule.threshold_of(asked, table, Evaluations(each=4, rows=1))
    paid = 4 + teacher * sum(threshold.rejected(range(40))) / 40
    assert paid <= 9 < paid + teacher / 40
    with pytest.raises(ValueError, match="budget is 9 evaluations an image, and the student alone takes 10"):
        rule.threshold_of(asked, table, Evaluations(each=10, rows=1))
    with pytest.raises(RefusedChoice, match="what the student takes"):
        rule.threshold_of(asked, table, Evaluations(each=None, rows=1))
    with pytest.raises(RefusedChoice, match="what the teacher with DPM adaptive takes"):
        rule.threshold_of(choices(BUDGET, sampler="DPM adaptive"), table, Evaluations(each=4, rows=1))


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("budget", [4, 5, 9, 20, 60])
def test_a_budget_of_tries_is_what_they_come_to_on_average(n, budget):
    share = rule.budget_with_tries(budget, 4, 40, n).share
    spent = sum(4 * share**number for number in range(n)) + 40 * share**n
    assert spent == pytest.approx(min(budget, 4 * n + 40), abs=1e-6)


class Denoiser:
    def __init__(self, p):
        self.p = p


@pytest.mark.parametrize(("rows", "cfg", "each"), [(2, 1.0, 2), (4, 1.0, 4), (4, 7.0, 4), (2, 7.0, 4)])
def test_evaluations_are_what_the_host_gives_its_network(stand_in, rows, cfg, each):
    """Two pictures, two steps. Some hosts list the negative's inputs among the rows, others leave them out."""
    p = SimpleNamespace(prompts=["a", "b"], cfg_scale=cfg)
    counted = count_for(p)
    other = count_for(SimpleNamespace(prompts=["a"], cfg_scale=cfg))
    for _ in range(2):
        count(SimpleNamespace(x=[0] * rows, denoiser=Denoiser(p)))
    assert counted.each == each and other.each == 0
    count(SimpleNamespace(x=[0] * 3, denoiser=Denoiser(p)))  # one prompt joined of two by AND
    assert counted.each is None


def test_where_the_host_leaves_the_negative_out_of_some_steps_nothing_is_claimed(stand_in):
    p = SimpleNamespace(prompts=["a"], cfg_scale=7, s_min_uncond=1.0)
    counted = count_for(p)
    count(SimpleNamespace(x=[0, 0], denoiser=Denoiser(p)))
    assert counted.each is None and counted.rows == 2


def test_a_sampler_of_the_second_order_runs_twice_a_step_but_the_last(stand_in):
    stand_in.sd_samplers.find_sampler_config = lambda name: {
        "Euler": SimpleNamespace(total_steps=lambda steps: steps),
        "PLMS": SimpleNamespace(total_steps=lambda steps: steps),
        "Heun": SimpleNamespace(total_steps=lambda steps: 2 * steps),
    }.get(name)
    assert [runs_in(name, 10) for name in ("Euler", "PLMS", "Heun", "Nonesuch")] == [10, 11, 19, None]
