"""A calibration shown: in words and as a picture."""

from types import SimpleNamespace

import pytest
from understudy.oracles.calibration import Calibration
from understudy.oracles.scores import Scores


@pytest.fixture
def folder(without_host, monkeypatch, tmp_path):
    from understudy.nodes import folders

    monkeypatch.setattr(folders, "calibrations_folder", lambda: tmp_path)
    monkeypatch.setattr("understudy.nodes.calibrations.calibrations_folder", lambda: tmp_path)
    return tmp_path


def show(name, *scores):
    from understudy.nodes.show_calibration import UnderstudyShowCalibration

    UnderstudyShowCalibration.hidden = SimpleNamespace(unique_id="1")
    image, text = UnderstudyShowCalibration.execute([name], scores)
    return image, text.splitlines()


def made(folder, count, settings=None):
    table = Calibration("mine", {str(i): float(i) for i in range(count)}, settings or {}, "f" * 64, "cats.txt")
    table.save(folder / "mine.json")
    return table


def scores(settings):
    return Scores((1.0,), ("",), "f" * 64, ("",), settings)


def test_it_says_count_percentiles_their_certainty_and_settings(folder):
    table = made(folder, 80, {"KSampler": {"steps": 4}, "width": 64})
    image, lines = show("mine")
    low, high = table.interval(30)
    assert lines[0] == "mine: 80 scores, 0.000 to 79.000; cats.txt"
    assert f"percentile 30 is 23.700 (95 %: {low:.3f} to {high:.3f}): 30 % are below" in lines
    assert lines[-4:] == ["made with", f"- oracle: {'f' * 12}", "- KSampler.steps: 4", "- width: 64"]
    assert image.shape[0] == 1 and image.shape[3] == 3 and 0 <= image.min() < image.max() <= 1
    made(folder, 30)
    assert (show("mine")[0] != image).any() and not any("95 %" in line for line in show("mine")[1])


def test_few_scores_have_no_percentiles_and_a_published_one_those_that_it_knows(folder):
    made(folder, 19)
    lines = show("mine")[1]
    assert lines[1] == "1 more to read percentiles" and not any(line.startswith("percentile") for line in lines)
    lines = show("ImageReward, SDXL-Turbo at 2 steps (published)")[1]
    assert "an unknown number of scores" in lines[0] and lines[1].startswith("percentile 10 is -0.308: 10 %")
    assert not any(line.startswith(("percentile 5 ", "percentile 95 ")) for line in lines)


def test_scores_are_held_against_its_settings(folder):
    made(folder, 30, {"steps": 4})
    assert show("mine", scores({"steps": 4}))[1][-1] == "these scores were made alike"
    lines = show("mine", scores({"steps": 8, "cfg": 2}), scores({"steps": 8, "cfg": 2}))[1]
    assert lines[-3:] == [
        "these scores were made otherwise:",
        "- cfg: calibration has not set, this student has 2",
        "- steps: calibration has 4, this student has 8",
    ]


def test_none_and_unknown_ones_are_refused(folder):
    with pytest.raises(ValueError, match="no calibration is chosen; choose one, or make one with Calibrate scores"):
        show("none")
    with pytest.raises(ValueError, match="no calibration 'gone'; there are: "):
        show("gone")
