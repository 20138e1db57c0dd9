"""The demo command on a stand-in for the embedded family: small random networks and an oracle that likes bright."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from understudy.cli import main
from understudy.demo_family import family
from understudy.demo_family.language import parse
from understudy.demo_family.render import DRAWS, outlined, painted
from understudy.oracles.base import Oracle
from understudy.oracles.calibration import Calibration
from understudy.pipelines import demo
from understudy.pipelines.adaptive_run import described


class Brightness(Oracle):
    family, unit, fingerprint = "brightness", "", "f" * 64
    network = torch.nn.Linear(1, 1)

    def prepare(self, images):
        return images

    def score_prepared(self, pixels, prompts):
        return pixels.mean((1, 2, 3))


@pytest.fixture(scope="module")
def parts():
    config = family.UNET_CONFIG | {"block_out_channels": [32, 32]}
    made = {}
    for seed, part in enumerate(("student", "teacher")):
        torch.manual_seed(seed)
        made[part] = family.Part(family.SceneNetwork(config).eval(), family.autoencoder().eval())
    return made


@pytest.fixture
def loaded(parts, monkeypatch):
    """Puts the stand-in in the embedded family's place; a list of the parts that were loaded."""
    names = []

    def load(part, device, dtype=torch.float32):
        names.append(part)
        return parts[part]

    table = Calibration("demo", {str(i): i / 100 for i in range(101)}, described(demo.STUDENT), "f" * 64, "stand-in")
    monkeypatch.setattr(family, "load", load)
    monkeypatch.setattr(demo, "load_oracle", lambda path, family: Brightness())
    monkeypatch.setattr(Calibration, "load", lambda path: table)
    return names


def understudy(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def report_in(out):
    return json.loads((out / "report.json").read_text())


def test_built_in_prompts(loaded, tmp_path, capsys):
    out = tmp_path / "out"
    assert understudy("demo", "--out", out, "--percentile", 100) == 0
    report = report_in(out)
    assert [image["prompt"] for image in report["images"]] == list(demo.PROMPTS) and len(demo.PROMPTS) == 16
    assert {image["decision"] for image in report["images"]} == {"refined"}
    steps = demo.STUDENT.steps + 2 * demo.TEACHERS["refine"].steps
    assert {image["evaluations"] for image in report["images"]} == {steps}
    assert report["totals"]["evaluations"] == 16 * steps
    assert report["settings"]["percentile"] == 100 and report["settings"]["student"]["steps"] == demo.STUDENT.steps
    assert loaded == ["student", "teacher"]
    assert len(list((out / "final").iterdir())) == len(list((out / "student").iterdir())) == 16
    assert Image.open(out / "final" / "0003.png").size == (64, 64)
    assert "16 of 16 refined" in capsys.readouterr().out
    assert all(parse(prompt) for prompt in demo.PROMPTS)


def test_percentile_decides_and_typed_prompts_repeat(loaded, tmp_path, capsys):
    prompts = ("a red star", "a blue circle left of a green square")
    assert understudy("demo", *prompts, "--count", 3, "--percentile", 0, "--seed", 7, "--out", tmp_path / "none") == 0
    kept = report_in(tmp_path / "none")["images"]
    assert [image["prompt"] for image in kept] == [prompts[0], prompts[1], prompts[0]]
    assert [image["seed"] for image in kept] == [7, 8, 9]
    assert {image["decision"] for image in kept} == {"kept"} and loaded == ["student"]
    assert kept[0]["score"] != kept[2]["score"]
    between = 100 * sorted(image["score"] for image in kept)[1]
    arguments = ("--count", 3, "--seed", 7, "--strategy", "regenerate", "--out", tmp_path / "some")
    assert understudy("demo", *prompts, "--percentile", between, *arguments) == 0
    some = report_in(tmp_path / "some")["images"]
    assert [image["score"] for image in some] == [image["score"] for image in kept]
    assert sorted(image["decision"] for image in some) == ["kept", "kept", "regenerated"]
    for image in some:
        assert (image["score"] < image["threshold"]) == (image["decision"] == "regenerated")
    assert "1 of 3 regenerated" in capsys.readouterr().out


def test_a_budget_decides_and_is_told(loaded, tmp_path, capsys):
    decided = {}
    for budget in (4, 10, 16):  # four of the student, and twelve of the teacher for each that it redoes
        out = tmp_path / str(budget)
        assert understudy("demo", "--count", 3, "--budget", budget, "--out", out) == 0
        report = report_in(out)
        decided[budget] = [image["decision"] for image in report["images"]]
        assert report["settings"]["budget"] == budget and "percentile" not in report["settings"]
        told = " ".join(capsys.readouterr().err.split())
        assert f"budget {budget}: 4 for each student, 12 for each redone" in told
        assert ("(percentile 50)" in told) == (budget == 10)
    assert set(decided[4]) == {"kept"} and set(decided[16]) == {"refined"}


def test_pictures_are_edited_each_by_its_prompt(loaded, tmp_path):
    for i, color in enumerate(("red", "blue")):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), color).save(tmp_path / "in" / f"{i}.png")
    prompts = ("a red star", "a blue circle left of a green square")
    edited = {}
    for name, options in (
        ("plain", ()),
        ("whole", ("--init-image", tmp_path / "in", "--strength", 1)),
        ("both", ("--init-image", tmp_path / "in", "--strength", 0.5)),
        ("one", ("--init-image", tmp_path / "in" / "0.png", "--strength", 0.5)),
    ):
        assert understudy("demo", *prompts, "--count", 4, *options, "--out", tmp_path / name) == 0
        edited[name] = [path.read_bytes() for path in sorted((tmp_path / name / "student").iterdir())]
    assert edited["whole"] == edited["plain"]
    assert [a == b for a, b in zip(edited["both"], edited["one"], strict=True)] == [True, False, True, False]
    assert not set(edited["both"]) & set(edited["plain"])
    report = report_in(tmp_path / "both")
    assert [image["source"] for image in report["images"]] == ["0.png", "1.png", "0.png", "1.png"]
    assert report["settings"]["student"]["strength"] == 0.5
    for image in report["images"]:
        assert 0 < image["likeness"] < 1 and (image["likeness_after"] is None) == (image["decision"] == "kept")
    shown = Image.open(tmp_path / "both" / "source" / "0002.png")
    assert shown.getpixel((5, 5)) == (0, 0, 255) and not (tmp_path / "plain" / "source").exists()
    assert understudy("demo", *prompts, "--count", 4, "--out", tmp_path / "both") == 0  # which is replaced, whole
    assert not (tmp_path / "both" / "source").exists()
    assert report["totals"]["teacher_only_evaluations"] == 4 * 2 * demo.ALONE // 2
    assert sum(image["decision"] != "kept" for image in report["images"]) == 1  # 30 % of four
    out = ("--out", tmp_path / "out")
    assert understudy("demo", *prompts, "a star", "--init-image", tmp_path / "in", *out) == 2
    assert understudy("demo", *prompts, "--strength", 0.5, *out) == 2 and not (tmp_path / "out").exists()


def test_pictures_follow_their_outlines(tmp_path):
    """Of the embedded family, one scene at three places: where its own outline says, and not where another does."""
    scenes = [parse("a large red square on a black background")] * 3
    draws = torch.rand(3, DRAWS, generator=torch.Generator().manual_seed(1))
    (tmp_path / "in").mkdir()
    for i, lines in enumerate(outlined(scenes, draws).mul(255).byte()):
        Image.fromarray(lines[0].numpy()).save(tmp_path / "in" / f"{i}.png")
    prompts, out = ("a large red square on a black background",) * 3, tmp_path / "out"
    assert understudy("demo", *prompts, "--control", tmp_path / "in", "--out", out) == 0
    report = report_in(out)
    assert [image["hint"] for image in report["images"]] == ["0.png", "1.png", "2.png"]
    assert report["settings"]["student"]["steps"] == 2 and report["settings"]["teacher"]["rollback"] == 0.3
    assert sum(image["decision"] != "kept" for image in report["images"]) == 1  # 30 % of three
    covered = painted(scenes, draws)[:, 0] > 0.5
    for kind in ("student", "final"):
        drawn = [np.asarray(Image.open(out / kind / f"000{i}.png"))[..., 0] > 128 for i in (1, 2, 3)]
        for i in range(3):
            alike = [(mask & drawn[i]).sum() / (mask | drawn[i]).sum() for mask in covered.numpy()]
            assert alike[i] == max(alike) and alike[i] > 0.75
    two = ("--control", tmp_path / "in", "--out", tmp_path / "two")
    assert understudy("demo", *prompts[:2], *two) == 2 and not (tmp_path / "two").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a red dragon"], "dragon"),
        (["--percentile", 101], "--percentile is 101; expected 0 to 100"),
        (["--percentile", "nan"], "--percentile is nan; expected 0 to 100"),
        (["--percentile", 10, "--budget", 8], "--percentile and --budget exclude each other; give one"),
        (["--budget", 3], "budget is 3 evaluations an image, and the student alone takes 4"),
        (["--budget", 8, "--init-image", "x.png"], "--budget needs the shipped calibration"),
        (["--count", 0], "--count is 0; expected at least 1"),
        (["--strategy", "both"], "strategy is 'both'; expected one of refine, regenerate"),
        (["--seed", -1], "--seed is -1"),
    ],
)
def test_bad_input_is_one_line_and_code_2(loaded, tmp_path, capsys, arguments, message):
    assert understudy("demo", *arguments, "--out", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert message in printed.err and not printed.out
    assert not list(tmp_path.iterdir()) and not loaded


def test_a_calibration_of_other_settings_is_refused(loaded, tmp_path, capsys, monkeypatch):
    own = demo.STUDENT.steps
    monkeypatch.setattr(demo, "STUDENT", type(demo.STUDENT)(steps=own + 1))
    assert understudy("demo", "--out", tmp_path / "out") == 2
    assert f"steps was {own}, is {own + 1}" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_another_s_folder_is_left_alone(loaded, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert understudy("demo", "--out", tmp_path) == 2
    assert "holds other files" in capsys.readouterr().err
    assert understudy("demo", "--out", tmp_path / "notes.txt") == 2
    assert "notes.txt is a file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_usage_errors_and_help(capsys):
    assert understudy("demo", "--cuont", 3) == 2
    assert "--cuont" in capsys.readouterr().err
    assert understudy("generate") == 2
    assert "--student" in capsys.readouterr().err
    assert understudy("--help") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("demo", "generate", "train"))


def test_something_unexpected_keeps_its_traceback(loaded, tmp_path, monkeypatch):
    monkeypatch.setattr(Brightness, "score_prepared", lambda self, pixels, prompts: pixels.nonsense)
    with pytest.raises(AttributeError, match="nonsense"):
        main(["demo", "a red star", "--out", str(tmp_path / "out")])
    assert not list(tmp_path.iterdir())


def test_train_hands_over(monkeypatch, tmp_path, capsys):
    from understudy.distill_train.run import command

    given = []
    monkeypatch.setattr(command, "train_command", lambda *arguments: given.append(arguments) or "runs/x.safetensors")
    assert understudy("train", "demo-vae", "--out", tmp_path, "--resume") == 0
    assert [str(part) for part in given[0]] == ["demo-vae", str(tmp_path), "True", "auto", "()"]
    assert "runs/x.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["ComfyUI", "o'brien's \"ComfyUI\"", "C:\\new\\ComfyUI", "Grüße 你好"])
def test_train_is_told_the_folder_of_comfyui_as_it_is(monkeypatch, folder):
    from understudy.distill_train.config import tomllib
    from understudy.distill_train.run import command

    given = []
    monkeypatch.setattr(command, "train_command", lambda *arguments: given.append(arguments) or "runs/x.safetensors")
    assert understudy("train", "demo-vae", "--comfyui", folder) == 0
    ((*_, changes),) = given
    assert tomllib.loads("\n".join(changes)) == {"teacher": {"comfyui": folder}}
