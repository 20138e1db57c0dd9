"""Calibrations as the nodes find, combine and show them."""

import pytest
import torch
from understudy.oracles.calibration import Calibration, CalibrationError, CalibrationMismatch

# What settings_upstream finds in the demo's workflow.
DEMO = {
    "UnderstudyLoadDemo.part": "student",
    "UnderstudyStudentSampler.model": "UnderstudyLoadDemo[0]",
    "UnderstudyStudentSampler.preset": "demo",
    "UnderstudyStudentSampler.denoise": 1,
    "UnderstudyStudentSampler.latent_image": "EmptyLatentImage[0]",
    "EmptyLatentImage.width": 64,
    "EmptyLatentImage.height": 64,
    "VAEDecode.samples": "UnderstudyStudentSampler[0]",
    "VAEDecode.vae": "UnderstudyLoadDemo[2]",
    "images": "VAEDecode[0]",
}


@pytest.fixture
def folder(without_host, monkeypatch, tmp_path):
    from understudy.nodes import folders

    monkeypatch.setattr(folders, "calibrations_folder", lambda: tmp_path)
    return tmp_path


def calibration(count):
    return Calibration("mine", {str(i): float(i) for i in range(count)}, {}, "f" * 64, "")


def test_how_sure_a_percentile_is_shows_from_50_images_on(folder):
    from understudy.nodes.calibrate import _confidence
    from understudy.nodes.threshold import _described, _interval
    from understudy.oracles.threshold import Threshold

    assert "95 %" not in _confidence(calibration(49)) and "1 more to say how sure" in _confidence(calibration(49))
    low, high = calibration(50).interval(20)
    assert f"percentile 20 is 9.800 (95 %: {low:.3f} to {high:.3f}): 20 % are below" in _confidence(calibration(50))
    for count, sure in ((49, False), (50, True)):
        calibration(count).save(folder / "mine.json")
        text = _described(Threshold.percentile(calibration(count), 20), [], _interval("mine", 20))
        assert ("95 % confidence" in text) == sure


@pytest.mark.parametrize("count", [40, 80])
def test_the_true_share_of_a_judge_of_whole_numbers_is_stated(folder, count):
    """Of scores of which most are equal, a percentile sends what is below it, whatever its name says."""
    from understudy.nodes.calibrate import _confidence
    from understudy.nodes.threshold import _described
    from understudy.oracles.threshold import Threshold

    scores = [0.0] * (count // 10) + [1.0] * (count * 9 // 10)
    table = Calibration("judge", {str(i): score for i, score in enumerate(scores)}, {}, "f" * 64, "")
    assert "10 % are below" in _confidence(table)
    told = _described(Threshold.percentile(table, 30), [], None)
    assert told == "sends scores below 1.000, which are 10 % of calibration 'judge' (percentile 30)"


def test_a_batch_of_one_is_told_that_it_has_no_worst(folder):
    from understudy.nodes.threshold import _described
    from understudy.oracles.scores import Scores
    from understudy.oracles.threshold import Threshold

    def told(*values, threshold=None):
        scores = [Scores((value,), ("",), None, ("",)) for value in values]
        return _described(threshold or Threshold.worst_fraction(0.25), scores, None)

    for text in (told(1.0), told()):  # without scores the node does not know how many there are
        assert "a single image has no worst" in text and "percentile, fixed and budget work for one image" in text
    assert "of these 1 images: 0" in told(1.0)
    assert told(1.0, 1.0) == "sends the worst 25 %\nof these 2 images: 1"
    assert "no worst" not in told(1.0, threshold=Threshold.fixed(2.0))


def made(folder, scores=(), **widgets):
    """What the node makes of a calibration of 0 to 79 and says, as the host calls it."""
    from understudy.nodes.threshold import _described, _interval, make

    calibration(80).save(folder / "mine.json")
    given = {"mode": "budget", "percentile": 30.0, "value": 0.0, "fraction": 0.25, "calibration": "mine"} | widgets
    threshold = make(**given, scores=list(scores))
    return threshold, _described(threshold, scores, _interval("mine", threshold.k), given.get("seconds_per_evaluation"))


def test_a_budget_says_what_it_chose_and_what_that_costs(folder):
    from understudy.oracles.scores import Scores

    threshold, told = made(folder, budget=12.0, student_evaluations=4.0, teacher_evaluations=40.0)
    assert (threshold.mode, threshold.value, threshold.calibration) == ("budget", 16.0, "mine")
    low, high = calibration(80).interval(20)
    assert told.splitlines() == [
        "sends scores below 16.000, which are 20 % of calibration 'mine' (percentile 20); "
        "budget 12: 4 for each student, 40 for each redone",
        "on average 12 evaluations an image",
        f"with 95 % confidence the true cut is {low:.3f} to {high:.3f}",
    ]
    scores = [Scores((3.0, 20.0), ("", ""), "f" * 64, ("", ""), {})]
    assert made(folder, scores, budget=8.0)[1].endswith("of these 2 images: 1, 24 evaluations an image")
    with pytest.raises(ValueError, match="budget is 3 evaluations an image, and the student alone takes 4"):
        made(folder, budget=3.0)
    every = made(folder, budget=50.0)[1]
    assert "all images" in every and "no more than 44 can be spent" in every and "confidence" not in every


def test_seconds_are_told_and_decide_nothing(folder):
    without, plain = made(folder)
    timed, told = made(folder, seconds_per_evaluation=0.125)
    assert timed == without and "on average 12 evaluations, about 1.5 s, an image" in told and "s, an" not in plain
    assert made(folder, budget=8.0)[0] != without, "but evaluations do"


def test_a_budget_needs_a_calibration_of_the_same_settings(folder):
    from understudy.oracles.scores import Scores

    with pytest.raises(CalibrationError, match="mode budget needs a calibration; choose one"):
        made(folder, calibration="none")
    with pytest.raises(CalibrationMismatch, match="was made with other settings"):
        made(folder, [Scores((3.0,), ("",), "f" * 64, ("",), {"steps": 4})])


def test_the_worst_n_of_a_list_are_sent(folder):
    from understudy.nodes.threshold import _described, make
    from understudy.oracles.scores import Scores

    given = {"mode": "worst_n", "percentile": 30.0, "value": 0.0, "fraction": 0.25, "calibration": "none", "scores": []}
    two, one = make(**given, worst_n=2), make(**given)
    scores = [Scores((value,), ("",), None, ("",)) for value in (3.0, 1.0, 2.0)]
    assert _described(two, scores, None) == "sends the worst 2\nof these 3 images: 2"
    assert _described(one, scores, None) == "sends the worst 1\nof these 3 images: 1"
    assert "of these 1 images: 1\nworst_n compares the images of a batch, and sends all" in _described(
        one, scores[:1], None
    )


def test_an_open_interval_is_told_as_one_bound(folder):
    from understudy.nodes.threshold import _described, _interval
    from understudy.oracles.threshold import Threshold

    calibration(50).save(folder / "mine.json")
    texts = [_described(Threshold.percentile(calibration(50), k), [], _interval("mine", k)) for k in (1, 99)]
    assert "with 95 % confidence the true cut is below 2.000" in texts[0]
    assert "with 95 % confidence the true cut is above 47.000" in texts[1]


def test_no_scores_at_all_are_refused(folder):
    from understudy.nodes.calibrate import UnderstudyCalibrate

    with pytest.raises(CalibrationError, match="there are no scores to count; connect Score images by oracle"):
        UnderstudyCalibrate.execute([], ["mine"])


def test_a_calibration_that_grew_runs_the_nodes_that_read_it_again(folder):
    from understudy.nodes.combine import UnderstudyCombineOracles
    from understudy.nodes.threshold import UnderstudyThreshold

    def threshold(mode="percentile", calibration="mine"):
        return UnderstudyThreshold.fingerprint_inputs(mode=[mode], calibration=[calibration], percentile=[30.0])

    def combine(a, b):
        return UnderstudyCombineOracles.fingerprint_inputs(calibration_a=a, calibration_b=b, oracle_a=None, weight_a=1)

    linked = None  # what the host hands over of a linked widget: it may be any calibration
    calls = [
        lambda: combine("mine", "none"),
        lambda: combine("demo (shipped)", "mine"),
        lambda: combine("none", linked),
        threshold,
        lambda: threshold("budget"),
        lambda: threshold(calibration=linked),
        lambda: threshold(mode=linked),
    ]
    calibration(30).save(folder / "mine.json")
    before = [call() for call in calls]
    assert before == [call() for call in calls]
    rest = threshold("fixed"), threshold("worst_n"), combine("none", "demo (shipped)")
    calibration(31).save(folder / "mine.json")
    assert all(old != call() for old, call in zip(before, calls, strict=True))
    assert rest == (threshold("fixed"), threshold("worst_n"), combine("none", "demo (shipped)"))


class DemoOracle:
    family = "demo"

    def __init__(self, fingerprint):
        self.fingerprint = fingerprint

    def __call__(self, images, prompts):
        return torch.zeros(len(images))


def test_the_demo_s_calibration_combines_on_the_demo_s_own_graph(folder):
    from understudy.nodes.calibrations import SHIPPED, find_calibration
    from understudy.nodes.combine import UnderstudyCombineOracles

    (name,) = SHIPPED
    table = find_calibration(name)
    oracle = DemoOracle(table.oracle)
    (both,) = UnderstudyCombineOracles.execute(oracle, name, 1.0, 0.0, oracle, name, 1.0, 10.0)
    settings = DEMO | {"UnderstudyStudentSampler.steps": table.settings["steps"]}
    both.require(settings)
    with pytest.raises(CalibrationMismatch, match=f"steps was {table.settings['steps']}, is 9"):
        both.require(settings | {"UnderstudyStudentSampler.steps": 9})
    with pytest.raises(CalibrationMismatch, match="EmptyLatentImage.width was not set, is 96"):
        both.require(settings | {"EmptyLatentImage.width": 96})


def judged(settings, oracle="f" * 64):
    from understudy.oracles.scores import Scores

    return Scores((3.0, 20.0), ("", ""), oracle, ("", ""), settings)


def test_a_threshold_of_other_settings_lists_them_and_can_be_told_to_accept(folder):
    from understudy.nodes.threshold import _described, make

    Calibration("ours", {str(i): float(i) for i in range(80)}, {"steps": 4, "K": {"cfg": 1.0}}, "f" * 64, "").save(
        folder / "ours.json"
    )
    given = {"percentile": 30.0, "value": 0.0, "fraction": 0.25, "calibration": "ours"}
    listed = "- K.cfg: calibration has 1.0, this student has not set\n- steps: calibration has 4, this student has 8\n"
    for mode in ("percentile", "budget"):

        def made_of(scores, mode=mode, **more):
            return make(mode=mode, **given, scores=scores, **more)

        with pytest.raises(CalibrationMismatch) as caught:
            made_of([judged({"steps": 8})])
        assert listed in str(caught.value) and "or switch accept_other_settings on" in str(caught.value)
        accepted = made_of([judged({"steps": 8}), judged({"steps": 8})], accept_other_settings=True)
        alike = made_of([judged({"steps": 4, "K": {"cfg": 1.0}})], accept_other_settings=True)
        assert accepted.value == alike.value and alike.accepted == () and alike.remark(2) is None
        said = "calibration 'ours' was made with other settings, which was accepted: K.cfg: calibration has 1.0, this"
        assert accepted.remark(2).startswith(said) and accepted.remark(2).endswith("steps: calibration has 4, this "
                                                                                  "student has 8")  # fmt: skip
        assert said in _described(accepted, [judged({"steps": 8})], None)
        with pytest.raises(CalibrationMismatch, match="another oracle's scores are other numbers, so this cannot be"):
            made_of([judged({"steps": 8}, "a" * 64)], accept_other_settings=True)


def test_the_receipt_s_totals_say_what_was_accepted():
    from dataclasses import replace

    from understudy.oracles.threshold import Threshold
    from understudy.receipts.receipt import rows_of, threshold_lines

    table = calibration(80)
    table.settings = {"steps": 4}
    plain = Threshold.percentile(table, 30)
    images, scores = [torch.zeros(2, 2, 3)] * 2, [judged({"steps": 8})]
    rows = rows_of(images, images, {}, scores, None)
    accepted = replace(plain, accepted=("steps: calibration has 4, this student has 8",))
    assert not any("accepted" in line for line in threshold_lines(rows, plain, None))
    assert [line for line in threshold_lines(rows, accepted, None) if "accepted" in line] == [accepted.remark(2)]
