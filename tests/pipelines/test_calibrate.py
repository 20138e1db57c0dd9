"""understudy calibrate: the student's own distribution, in a file that grows."""

import json
import os

import pytest
from safetensors.torch import load_file, save_file
from understudy.cli import main
from understudy.oracles.base import Oracle
from understudy.oracles.calibration import Calibration
from understudy.pipelines import calibrate as module

from ..oracles import small_files
from .two_processes import run_as_two


@pytest.fixture
def options(sd15, clip, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\na dog on a roof\na red house\n", encoding="utf-8")
    files = {"student": sd15[0], "oracle": clip, "prompts": prompts, "out": tmp_path / "mine.json"}
    return {**files, "size": "32", "batch-size": 8, "student-steps": 1, "device": "cpu", "count": 20}


def arguments(options, **change):
    pairs = ((f"--{name}", str(value)) for name, value in (options | change).items() if value is not None)
    return ["calibrate", *(word for pair in pairs for word in pair)]


def calibrate(options, **change):
    try:
        main(arguments(options, **change))
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


def test_another_prompts_file_or_seed_is_refused_with_the_difference(options, tmp_path, capsys):
    assert calibrate(options) == 0
    before = options["out"].read_bytes()
    other = tmp_path / "dogs.txt"
    other.write_text("a dog\n")
    assert calibrate(options, prompts=other, count=24) == 2
    assert 'prompts was "prompts.txt (' in (told := capsys.readouterr().err) and 'is "dogs.txt (' in told
    assert calibrate(options, seed=7, count=24) == 2
    assert "seed was 0, is 7" in capsys.readouterr().err
    assert options["out"].read_bytes() == before
    content = json.loads(before)
    del content["prompts"], content["seed"]
    options["out"].write_text(json.dumps(content))
    assert calibrate(options, prompts=other, seed=7, count=24) == 0, "a table of an earlier version does not say"
    assert Calibration.load(options["out"]).n == 24


def test_a_head_with_its_encoder(options, clip, tmp_path, capsys):
    head = small_files.write(small_files.head_tensors("layers.", 32), tmp_path / "head.safetensors")
    assert calibrate(options, oracle=head, encoder=clip) == 0
    assert Calibration.load(options["out"]).n == 20
    other = tmp_path / "other.safetensors"
    save_file({key: value + 1 for key, value in load_file(clip).items()}, other)
    capsys.readouterr()
    assert calibrate(options, oracle=head, encoder=other) == 2
    assert "encoder was" in capsys.readouterr().err
    assert calibrate(options, oracle=head) == 2
    assert "only the head of laion-aesthetic-v2" in capsys.readouterr().err
    assert calibrate(options, encoder=clip) == 2
    assert "no image encoder is needed" in capsys.readouterr().err


def test_the_prompts_that_are_used_are_remarked_once(options, capsys):
    lines = [f"prompt {i}" for i in range(20)] + ["word " * 90]
    options["prompts"].write_text("\n".join(lines))
    assert calibrate(options) == 0
    assert "note: " not in capsys.readouterr().err
    options["prompts"].write_text("\n".join(reversed(lines)))
    assert calibrate(options, out=options["out"].with_name("b.json")) == 0
    told = capsys.readouterr().err
    assert told.count("note: ") == 2 and "77 tokens of a prompt; 1 longer ones are cut" in told
    assert "1 of 20 prompts is longer than the 77 tokens that the text encoder reads" in told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_two_processes_make_the_same_table(options, tmp_path):
    options["batch-size"] = 10
    assert calibrate(options) == 0
    one = Calibration.load(options["out"])
    done = run_as_two(arguments(options, out=tmp_path / "two.json"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("20 images") == 1, "only the main process prints"
    two = Calibration.load(tmp_path / "two.json")
    assert sorted(two.scores_by_image.values()) == pytest.approx(sorted(one.scores_by_image.values()), abs=1e-2)
    assert two.settings == one.settings


def test_an_oracle_reads_prompts_without_syntax_unless_told(options, monkeypatch, capsys):
    read, real = [], Oracle.__call__
    monkeypatch.setattr(
        Oracle, "__call__", lambda self, images, prompts: read.extend(prompts) or real(self, images, prompts)
    )
    options["prompts"] = options["prompts"].with_suffix(".jsonl")
    options["prompts"].write_text('{"prompt": "a (cat:1.3)"}\n{"prompt": "a dog"}\n')
    assert calibrate(options) == 0
    assert set(read) == {"a cat", "a dog"} and "'a (cat:1.3)' is read as 'a cat'" in capsys.readouterr().err
    literal = [*arguments(options), "--literal-prompts"]
    with pytest.raises(SystemExit) as end:
        main(literal)
    assert end.value.code == 2 and "literal_prompts" in capsys.readouterr().err, "percentiles of other texts"
    options["out"].unlink()
    read.clear()
    with pytest.raises(SystemExit) as end:
        main(literal)
    assert not end.value.code and set(read) == {"a (cat:1.3)", "a dog"}
