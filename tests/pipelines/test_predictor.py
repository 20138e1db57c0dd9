"""A student under its gradient predictor, from the command line."""

import json

import pytest
import torch
from safetensors.torch import save_file
from understudy.cli import main
from understudy.demo_family import family
from understudy.oracles.calibration import Calibration
from understudy.pipelines.demo import DemoModel
from understudy.pipelines.model import StudentPlan, draw
from understudy.predictor import Layout, Predictor
from understudy.predictor.file import described

SD15 = Layout.of(4, 64, (32, 32, 32, 64), 16, "gradient")  # of the small pipeline
TEXT = "a small red star on a gray background"


def random(layout, text=None, by=0.05):
    torch.manual_seed(3)
    predictor = Predictor(layout)
    if text is not None:
        predictor.add_prior(text)
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter += by * torch.randn(parameter.shape)
    return predictor.eval().requires_grad_(False)


def written(predictor, path):
    save_file(predictor.state_dict(), path, described(predictor.layout))
    return path


@pytest.fixture
def arguments(sd15, clip, tmp_path):
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    options = {"student": sd15[0], "teacher": sd15[1], "oracle": clip, "prompts": tmp_path / "prompts.txt"}
    options |= {"size": 32, "student-steps": 2, "teacher-steps": 1, "device": "cpu", "threshold": -1e9}
    return ["generate", *(str(word) for key, value in options.items() for word in (f"--{key}", value))]


def generate(arguments, out, *more):
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--out", str(out), *map(str, more)])
    assert not end.value.code
    return [path.read_bytes() for path in sorted((out / "student").iterdir())]


def test_pictures_are_moved_and_by_zeros_they_are_not(arguments, tmp_path):
    predictor = random(SD15, text=32)
    plain = generate(arguments, tmp_path / "plain")
    moved = generate(arguments, tmp_path / "moved", "--predictor", written(predictor, tmp_path / "p.safetensors"))
    assert len(plain) == len(moved) == 2 and all(a != b for a, b in zip(plain, moved, strict=True))
    predictor.branch.out.weight.zero_()
    predictor.branch.out.bias.zero_()
    assert (
        generate(arguments, tmp_path / "still", "--predictor", written(predictor, tmp_path / "0.safetensors")) == plain
    )
    report = json.loads((tmp_path / "moved" / "report.json").read_text())
    assert report["settings"]["student"]["predictor"] and all("predictor" not in key for key in report["settings"])


def test_a_calibration_is_of_one_predictor(arguments, tmp_path, capsys):
    table = tmp_path / "table.json"
    arguments = [word for word in arguments if word not in ("--threshold", "-1000000000.0")]
    generate(arguments, tmp_path / "plain", "--worst-fraction", 0.5, "--calibration", table)
    assert Calibration.load(table).n == 2
    predictor = written(random(SD15, text=32), tmp_path / "p.safetensors")
    for asked in (["--worst-fraction", "0.5"], ["--percentile", "30"]):
        with pytest.raises(SystemExit) as end:
            more = ["--calibration", str(table), "--predictor", str(predictor), *asked]
            main([*arguments, "--out", str(tmp_path / "moved"), *more])
        assert end.value.code == 2 and "predictor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("layout", "text", "said"),
    [
        (SD15, None, "has no prior, and there is no picture to take its place"),
        (Layout.of(4, 64, (32, 32, 64), 16, "gradient"), 32, "is for a network of 4 channels, 64 in the middle"),
        (SD15, 48, "a pooled text of 48 numbers; there is one of 32"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, tmp_path, capsys, layout, text, said):
    predictor = written(random(layout, text), tmp_path / "p.safetensors")
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--out", str(tmp_path / "out"), "--predictor", str(predictor)])
    assert end.value.code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("steps", [1, 4])
def test_each_image_is_moved_by_its_own_seed_alone(steps):
    def images(seeds, predictor):
        model = DemoModel(family.load("student"), torch.device("cpu"))
        model.predictor = predictor
        return draw(model, [TEXT] * len(seeds), seeds, (64, 64), StudentPlan(steps), lambda step, steps: None)

    middle, skips = 128, (64, 64, 64, 128)
    predictor = random(Layout.of(8, middle, skips, 8, "gradient"), text=512)
    together, evaluations = images([5, 6], predictor)
    assert evaluations == steps
    torch.testing.assert_close(images([6], predictor)[0][0], together[1], atol=1e-3, rtol=0)
    assert (together - images([5, 6], None)[0]).abs().max() > 0.01
