"""Every option of the student, in both commands that draw with one."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from understudy.cli import main
from understudy.oracles.calibration import Calibration
from understudy.pipelines.checkpoint import open_checkpoint

from .test_lora import factors
from .test_predictor import SD15, random, written


@pytest.fixture(scope="module")
def options(sd15, clip, tmp_path_factory):
    """(what every run needs, all that may be said of the student)"""
    folder = tmp_path_factory.mktemp("options")
    (folder / "prompts.txt").write_text("a cat\na dog on a roof\na red house\n")
    lora = {}
    for name, (up, down) in factors(open_checkpoint(sd15[0]).load(torch.float32).unet, ("to_q", "to_out.0")).items():
        lora |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": 4 * up}
    save_file(lora, folder / "lora.safetensors")
    vae = {key: 1.1 * value for key, value in load_file(sd15[1]).items() if key.startswith("first_stage_model.")}
    save_file(vae, folder / "vae.safetensors")
    needed = {"student": sd15[0], "oracle": clip, "prompts": folder / "prompts.txt", "size": 32, "device": "cpu"}
    student = {
        "student-steps": 2,
        "student-cfg": 2.0,
        "student-sampler": "euler",
        "student-lora": folder / "lora.safetensors",
        "predictor": written(random(SD15, text=32), folder / "predictor.safetensors"),
        "vae": folder / "vae.safetensors",
        "negative": "blurry",
        "seed": 5,
        "dtype": "bfloat16",
    }
    return needed, student


def run(command, options):
    words = (str(word) for name, value in options.items() for word in (f"--{name}", value))
    with pytest.raises(SystemExit) as end:
        main([command, *words])
    assert not end.value.code, options


def calibrated(folder, options) -> list[float]:
    run("calibrate", options | {"count": 20, "out": folder / "table.json"})
    scores = Calibration.load(folder / "table.json").scores_by_image
    (folder / "table.json").unlink()
    return [*scores.values()]


def test_none_is_lost_on_the_way_to_a_calibration(options, tmp_path):
    needed, student = options
    everything = calibrated(tmp_path, needed | student)
    for name in student:
        without = needed | {other: value for other, value in student.items() if other != name}
        scores = calibrated(tmp_path, without)
        assert all(abs(a - b) > 1e-4 for a, b in zip(scores, everything, strict=True)), name


def test_a_calibration_is_of_the_pictures_that_generate_makes(options, sd15, tmp_path):
    needed, student = options
    table, out = tmp_path / "table.json", tmp_path / "out"
    run("calibrate", needed | student | {"count": 20, "out": table})
    (tmp_path / "prompts.txt").write_text((needed["prompts"].read_text() * 7)[: -len("a red house\n")])
    more = {"prompts": tmp_path / "prompts.txt", "teacher": sd15[1], "teacher-steps": 1, "percentile": 50}
    run("generate", needed | student | more | {"calibration": table, "out": out})
    made = json.loads((out / "report.json").read_text())["images"]
    counted = Calibration.load(table).scores_by_image.values()
    assert sorted(image["score"] for image in made) == pytest.approx(sorted(counted), abs=1e-3)
    assert sum(image["decision"] == "kept" for image in made) == 10
