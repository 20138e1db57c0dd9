"""understudy calibrate: the student's own distribution, in a file that grows."""

import json

import pytest
from understudy.cli import main
from understudy.oracles.calibration import Calibration
from understudy.pipelines import calibrate as module


@pytest.fixture
def options(sd15, clip, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\na dog on a roof\na red house\n", encoding="utf-8")
    files = {"student": sd15[0], "oracle": clip, "prompts": prompts, "out": tmp_path / "mine.json"}
    return {**files, "size": "32", "batch-size": 8, "student-steps": 1, "device": "cpu", "count": 20}


def calibrate(options, **change):
    pairs = ((f"--{name}", str(value)) for name, value in (options | change).items() if value is not None)
    try:
        main(["calibrate", *(word for pair in pairs for word in pair)])
    except SystemExit as end:
        return end.code or 0
    return 0


def test_images_are_counted_and_percentiles_shown_with_their_intervals(options, capsys):
    assert calibrate(options) == 0
    made = Calibration.load(options["out"])
    assert made.n == 20 and made.prompt_set == "prompts.txt" and made.settings["steps"] == 1
    assert made.settings["size"] == "32x32"
    told = capsys.readouterr().out
    assert "20 images" in told and "95 % interval" in told and f"{made.value_at(50):.4f}" in told


def test_a_cut_off_run_goes_on_to_the_same_table(options, tmp_path, monkeypatch):
    assert calibrate(options) == 0
    whole = json.loads(options["out"].read_text())["scores_by_image"]
    real, calls = module.draw, []

    def draw(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "draw", draw)
    other = tmp_path / "mine2.json"
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        main(["calibrate", *(w for k, v in (options | {"out": other}).items() for w in (f"--{k}", str(v)))])
    assert Calibration.load(other).n == 8
    monkeypatch.setattr(module, "draw", real)
    assert calibrate(options, out=other) == 0
    assert json.loads(other.read_text())["scores_by_image"] == pytest.approx(whole, abs=1e-4)


def test_other_settings_and_bad_requests_are_refused(options, capsys):
    assert calibrate(options) == 0
    before = options["out"].read_bytes()
    assert calibrate(options, **{"student-steps": 2}) == 2
    assert "steps was 1, is 2" in capsys.readouterr().err
    assert options["out"].read_bytes() == before
    assert calibrate(options, count=5) == 2
    assert calibrate(options, out=options["prompts"]) == 2
    told = capsys.readouterr().err
    assert "percentiles need at least 20" in told and "ends in .json" in told
