import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from understudy.cli import main
from understudy.oracles.calibration import Calibration
from understudy.oracles.published_calibrations import PUBLISHED_CALIBRATIONS
from understudy.pipelines.checkpoint import Checkpoint, open_checkpoint
from understudy.pipelines.stable_diffusion import StableDiffusion

from .test_control import controlnet
from .test_lora import factors
from .two_processes import run_as_two

PROMPTS = ["a cat", "a dog on a roof", "a red house", "blue sky, 4k", "an old tree"]

LCM = next(iter(PUBLISHED_CALIBRATIONS))


@pytest.fixture(scope="module")
def options(sd15, sdxl, clip, tmp_path_factory):
    """Options of a run that works: the SD 1.5 folder as student, the SDXL file as teacher."""
    prompts = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    prompts.write_text("a cat\n\n  a dog on a roof \na red house\nblue sky, 4k\nan old tree\n", encoding="utf-8")
    files = {"student": sd15[0], "teacher": sdxl[1], "oracle": clip, "prompts": prompts}
    half = {"rollback": 0.5, "rollback_mode": "schedule"}
    return {**files, **half, "size": "32", "batch_size": 3, "student_steps": 2, "teacher_steps": 2, "device": "cpu"}


@pytest.fixture
def command(options, tmp_path):
    return {**options, "out": tmp_path / "out"}


@pytest.fixture(scope="module")
def first(options, tmp_path_factory):
    """One run with these options, to look at and to compare others with: (its folder, its report)."""
    out = tmp_path_factory.mktemp("first") / "out"
    return out, generate({**options, "out": out})


def arguments(options):
    pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in options.items() if value is not None)
    return ["generate", *(word for pair in pairs for word in pair)]


def generate(command, **change):
    options = command | change
    try:
        main(arguments(options))
    except SystemExit as end:
        assert not end.code, f"exit code {end.code}"
    return json.loads((options["out"] / "report.json").read_text())


def pictures(out, kind="final"):
    return [path.read_bytes() for path in sorted((out / kind).iterdir())]


def levels_apart(one, two):
    """The largest difference of two folders of pictures, in 8-bit levels: other numbers of threads round otherwise."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    pixels = [[np.asarray(Image.open(folder / name), dtype=int) for name in names] for folder in (one, two)]
    return max(abs(a - b).max() for a, b in zip(*pixels, strict=True))


def test_everything_that_a_run_leaves(first, options):
    out, report = first
    assert sorted(path.name for path in out.iterdir()) == ["final", "grid.png", "report.json", "student"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert [image["prompt"] for image in report["images"]] == PROMPTS
    assert [image["seed"] for image in report["images"]] == [0, 1, 2, 3, 4]
    # 30 % of batches of 3 and 2 is one image each.
    redone = [i for i, image in enumerate(report["images"]) if image["decision"] == "refined"]
    assert len(redone) == 2 and sum(i < 3 for i in redone) == 1
    for i, image in enumerate(report["images"]):
        assert set(image) == {"prompt", "seed", "score", "threshold", "decision", "score_after", "evaluations"}
        below = image["score"] < image["threshold"]
        assert (image["decision"], below) in (("refined", True), ("kept", False))
        assert (image["score_after"] is None) == (i not in redone)
        # Two steps of the student, and two guided ones of the teacher.
        assert image["evaluations"] == (6 if i in redone else 2)
    same = [a == b for a, b in zip(pictures(out, "student"), pictures(out), strict=True)]
    assert same == [i not in redone for i in range(5)]
    totals = report["totals"]
    assert totals["evaluations"] == 5 * 2 + 2 * 4
    # Half of the schedule in two steps is the end of four, each guided.
    assert totals["teacher_only_evaluations"] == 5 * 4 * 2
    assert 0 < totals["seconds"] and 0 < totals["teacher_only_seconds"]
    assert Image.open(out / "final" / "0001.png").size == (32, 32)
    assert str(options["prompts"].parent) not in json.dumps(report["settings"])


def test_an_image_does_not_depend_on_its_batch_or_on_the_others(first, command, tmp_path):
    generate(command, threshold=1000.0, batch_size=1)
    for i, image in enumerate(first[1]["images"]):
        kinds = ("student",) if image["decision"] == "kept" else ("student", "final")
        for kind in kinds:
            assert (pixels(first[0], kind, i) - pixels(command["out"], kind, i)).abs().max() <= 2
    (tmp_path / "last.txt").write_text("an old tree\n")
    generate(command, threshold=1000.0, seed=4, prompts=tmp_path / "last.txt", out=tmp_path / "alone")
    for kind in ("student", "final"):
        last = pixels(command["out"], kind, 4)
        assert (last - pixels(tmp_path / "alone", kind, 0)).abs().max() <= 2
        assert (last - pixels(command["out"], kind, 3)).abs().max() > 20


def pixels(out, kind, index):
    image = Image.open(out / kind / f"{index + 1:04d}.png")
    return torch.tensor(list(image.tobytes()), dtype=torch.int16)


@pytest.mark.parametrize("strategy", ["refine", "regenerate"])
@pytest.mark.parametrize(("student", "teacher"), [("sdxl", "sd15")])
def test_other_pairs_and_strategies(request, command, strategy, student, teacher):
    files = {"student": request.getfixturevalue(student)[0], "teacher": request.getfixturevalue(teacher)[1]}
    report = generate(command, **files, strategy=strategy, worst_fraction=1, rollback_mode="noise")
    decision = {"refine": "refined", "regenerate": "regenerated"}[strategy]
    assert {image["decision"] for image in report["images"]} == {decision}
    # The cut is infinite where all are rejected, which JSON cannot say.
    assert {image["threshold"] for image in report["images"]} == {None}
    alone = report["totals"]["teacher_only_evaluations"]
    assert alone == 5 * 2 * 2 if strategy == "regenerate" else alone > 5 * 2 * 2


def test_an_autoencoder_of_its_own_serves_a_checkpoint_without_one(command, sd15, first, tmp_path):
    weights = load_file(sd15[1])
    save_file({k: v for k, v in weights.items() if not k.startswith("first_stage")}, tmp_path / "bare.safetensors")
    with pytest.raises(SystemExit):
        main(arguments(command | {"student": tmp_path / "bare.safetensors"}))
    report = generate(command, student=tmp_path / "bare.safetensors", vae=sd15[0] / "vae")
    assert levels_apart(command["out"] / "student", first[0] / "student") <= 1
    assert report["settings"]["student"]["vae"] == "vae"
    assert "vae" not in report["settings"]["teacher"], "it is of another architecture and keeps its own"
    assert levels_apart(command["out"] / "final", first[0] / "final") <= 1
    report = generate(command, teacher=tmp_path / "bare.safetensors", vae=sd15[1])
    assert report["settings"]["teacher"]["vae"] == sd15[1].name


def test_student_lora_changes_the_student_and_not_the_teacher(command, sd15, tmp_path):
    weights = {}
    for name, (up, down) in factors(open_checkpoint(sd15[0]).load(torch.float32).unet, ("to_q", "to_out.0")).items():
        weights |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": 4 * up}
    save_file(weights, tmp_path / "lora.safetensors")
    # With as many steps as the student, a regenerating teacher of the same weights draws from the same noise.
    same = {"teacher": sd15[0], "strategy": "regenerate", "worst_fraction": 1, "teacher_cfg": 1, "student_cfg": 1}
    same |= {"student_sampler": "dpmpp_2m", "scheduler": "trailing"}
    generate(command, **same)
    assert pictures(command["out"], "student") == pictures(command["out"])
    plain = pictures(command["out"])
    generate(command, **same, student_lora=tmp_path / "lora.safetensors")
    assert pictures(command["out"]) == plain
    assert all(a != b for a, b in zip(pictures(command["out"], "student"), plain, strict=True))


def test_calibration_is_filled_by_one_run_and_read_by_the_next(command, tmp_path, monkeypatch, capsys):
    loaded = []
    load = Checkpoint.load
    monkeypatch.setattr(Checkpoint, "load", lambda self, *told: loaded.append(self.path) or load(self, *told))
    calibration = tmp_path / "mine.json"
    prompts = tmp_path / "many.txt"
    prompts.write_text("\n".join(f"picture {i}" for i in range(20)))
    many = {"prompts": prompts, "calibration": calibration, "batch_size": 10, "size": "16"}
    before = generate(command, **many, threshold=-1000.0)
    assert loaded == [command["student"]], "nothing was rejected, and yet the teacher was loaded"
    assert {image["decision"] for image in before["images"]} == {"kept"}
    assert before["totals"]["teacher_only_seconds"] > 0
    table = Calibration.load(calibration)
    assert sorted(table.scores_by_image.values()) == sorted(image["score"] for image in before["images"])
    after = generate(command, **many, percentile=25)
    assert loaded[1:] == [command["student"], command["teacher"]]
    assert sum(image["decision"] == "refined" for image in after["images"]) == 5
    assert {image["threshold"] for image in after["images"]} == {table.value_at(25)}
    assert Calibration.load(calibration) == table
    capsys.readouterr()
    spent = generate(command, **many, budget=3)  # two of the student, and four of the teacher for a quarter
    assert spent["totals"]["evaluations"] == 3 * 20 and spent["settings"]["threshold"] == {"budget": 3}
    told = " ".join(capsys.readouterr().err.split())
    assert "(percentile 25); budget 3: 2 for each student, 4 for each redone" in told
    assert Calibration.load(calibration) == table, "which a budget reads, too"
    refused(
        command | many | {"budget": 1.5}, "budget is 1.5 evaluations an image, and the student alone takes 2", capsys
    )
    table.prompts = "0" * 64  # as of a table that 'understudy calibrate' made with other prompts
    table.save(calibration)
    refused(command | many | {"threshold": 0.0}, "prompts was ", capsys)
    assert Calibration.load(calibration) == table
    refused(command | many | {"percentile": 25, "student_steps": 1}, "steps was 2, is 1", capsys)


def test_a_published_table_by_its_name(command, monkeypatch):
    monkeypatch.setattr(PUBLISHED_CALIBRATIONS[LCM], "family", "clipscore")
    report = generate(command, calibration=LCM, percentile=30, student_steps=4)
    assert {image["threshold"] for image in report["images"]} == {0.1546}
    assert report["settings"]["calibration"] == LCM


def test_cut_prompts_are_remarked_once(command, tmp_path, capsys):
    prompts = tmp_path / "long.csv"
    prompts.write_text("caption\n" + "".join(f"{i} {'word ' * 90}\n" for i in range(2)))
    report = generate(command, prompts=prompts)
    told = capsys.readouterr().err
    assert told.count("note: ") == 2 and "clipscore reads the first 77 tokens of a prompt; 2 longer ones" in told
    assert "2 of 2 prompts are longer than the 77 tokens that the text encoder reads" in told
    assert len(report["images"]) == 2, "the header is no prompt"


@pytest.mark.parametrize(
    ("prompts", "change", "alone"),
    [
        (3, {"batch_size": 2}, "the last of the 3 images is alone in a batch"),
        (2, {"batch_size": 1}, "each of the 2 images is alone in a batch"),
        (1, {}, "the only image is alone in a batch"),
        (2, {"batch_size": 2}, None),
        (1, {"worst_fraction": 1}, None),
        (1, {"threshold": 1000.0}, None),
    ],
)
def test_images_that_no_worst_fraction_can_choose_are_told(command, tmp_path, capsys, prompts, change, alone):
    file = tmp_path / "few.txt"
    file.write_text("a tree\n" * prompts)
    report = generate(command, prompts=file, size="16", **change)
    told = " ".join(capsys.readouterr().err.split())
    assert (f"note: --worst-fraction compares the images of a batch, and {alone}" in told) == (alone is not None)
    assert ("note: " in told) == (alone is not None)
    redone = sum(image["decision"] != "kept" for image in report["images"])
    assert redone == (1 if alone is None or prompts == 3 else 0)


def test_the_worst_n_of_each_batch_and_whole_small_batches_are_told(command, capsys):
    report = generate(command, worst_n=2, batch_size=3, size="16")  # five images
    told = " ".join(capsys.readouterr().err.split())
    assert "note: --worst-n compares the images of a batch, and one of 2 has no more than 2: all are redone" in told
    redone = [image["decision"] != "kept" for image in report["images"]]
    assert sum(redone[:3]) == 2 and redone[3:] == [True, True]
    assert sum(image["decision"] != "kept" for image in generate(command, worst_n=1, size="16")["images"]) == 2
    assert "note: " not in capsys.readouterr().err


def refused(options, message, capsys):
    """The run ends with code 2 and one line on stderr, and leaves the folder as it was."""
    folder = options["out"].parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(arguments(options))
    printed = capsys.readouterr()
    assert end.value.code == 2
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1, printed.err
    assert message in printed.err and not printed.out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"percentile": 101, "calibration": "x.json"}, "--percentile is 101; expected 0 to 100"),
        ({"percentile": 30}, "--percentile needs --calibration FILE; make one with 'understudy calibrate'"),
        ({"percentile": 30, "calibration": "none.json"}, "no such calibration file"),
        ({"percentile": 30, "calibration": "none.json"}, "published tables 'ImageReward, LCM-SDXL at 4 steps (publ"),
        ({"percentile": 30, "calibration": LCM}, "steps was 4, is 2"),
        ({"percentile": 30, "calibration": LCM}, "oracle was imagereward, is clipscore"),
        ({"budget": 30}, "--budget needs --calibration FILE; make one with 'understudy calibrate'"),
        ({"budget": 30, "percentile": 30}, "--percentile and --budget exclude each other"),
        ({"worst_n": 1, "worst_fraction": 0.5}, "--worst-fraction and --worst-n exclude each other"),
        ({"worst_n": -1}, "worst n is -1; expected 0 or more images"),
        ({"calibration": LCM}, "is a published table; give --percentile or --budget with it"),
        ({"threshold": 1, "worst_fraction": 0.5}, "--threshold and --worst-fraction exclude each other"),
        ({"worst_fraction": 1.5}, "worst fraction is 1.5; expected 0 to 1"),
        ({"prompts": "none.txt"}, "none.txt: no such prompt file"),
        ({"student": "none.safetensors"}, "none.safetensors: no such file"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"size": "33"}, "size 33x33: width and height must be multiples of 2"),
        ({"size": "big"}, "--size is 'big'"),
        ({"strategy": "both"}, "strategy is 'both'; expected one of refine, regenerate"),
        ({"rollback": 0}, "rollback is 0; expected above 0"),
        ({"scheduler": "magic"}, "scheduler is 'magic'; expected one of normal"),
        ({"student_sampler": "magic"}, "student sampler is 'magic'; expected one of consistency"),
        ({"teacher_steps": 0}, "teacher steps is 0"),
        ({"dtype": "int8"}, "--dtype is 'int8'"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ],
)
def test_bad_options(command, change, message, capsys):
    refused(command | change, message, capsys)


def test_bad_files(command, sd15, tmp_path, capsys):
    page = tmp_path / "page.safetensors"
    page.write_text("<html>not found</html>")
    for option in ("student", "teacher", "oracle", "student_lora"):
        refused(command | {option: page}, "is a web page", capsys)
    refused(command | {"oracle": sd15[1]}, "is not an oracle", capsys)
    refused(command | {"teacher": command["oracle"]}, "a single network or a CLIP", capsys)
    (tmp_path / "empty.txt").write_text(" \n\n")
    refused(command | {"prompts": tmp_path / "empty.txt"}, "empty.txt is empty", capsys)
    (tmp_path / "binary.txt").write_bytes(b"\x89PNG\x00a")
    refused(command | {"prompts": tmp_path / "binary.txt"}, "binary.txt is not UTF-8", capsys)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("years of work")
    refused(command | {"out": tmp_path / "mine"}, "mine holds other files", capsys)


def test_a_run_that_fails_half_way_leaves_the_earlier_report(first, command, monkeypatch):
    shutil.copytree(first[0], command["out"])
    before = pictures(command["out"])

    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(StableDiffusion, "encode", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        generate(command, seed=9)
    assert pictures(command["out"]) == before
    left = sorted(path.name for path in command["out"].parent.iterdir())
    assert left == ["out"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_two_processes_make_the_same_images(first, command):
    done = run_as_two(arguments(command))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 of 5 refined") == 1, "only the main process prints"
    for kind in ("student", "final"):
        assert levels_apart(command["out"] / kind, first[0] / kind) <= 1
    one, two = (json.loads((folder / "report.json").read_text()) for folder in (first[0], command["out"]))
    assert one["settings"] == two["settings"]
    for here, there in zip(one["images"], two["images"], strict=True):
        assert here == pytest.approx(there, abs=1e-2)
    assert one["totals"]["evaluations"] == two["totals"]["evaluations"]
    assert [path.name for path in command["out"].parent.iterdir()] == ["out"]


@pytest.fixture(scope="module")
def given(tmp_path_factory, sd15):
    """A folder of a picture for each prompt, a ControlNet file that counts, and a fresh one."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "in").mkdir()
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    for i in range(len(PROMPTS)):
        noise = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((40, 32)).save(folder / "in" / f"{i}.png")
    unet = open_checkpoint(sd15[1]).load(torch.float32).unet
    for name, trained in (("control", True), ("fresh", False)):
        save_file(controlnet(unet, trained=trained).state_dict(), folder / f"{name}.safetensors")
    return folder


def test_a_strength_that_leaves_nothing_of_the_pictures_is_remarked(command, given, first, tmp_path, capsys):
    edits = command | {"prompts": given / "prompts.txt", "init_image": given / "in", "student_steps": 2}
    for strength, said in ((0.8, True), (0.6, False)):
        generate(edits, strength=strength, out=tmp_path / str(strength))
        told = " ".join(capsys.readouterr().err.split())
        assert ("a strength of 0.8 in the student's 2 steps starts from all the noise" in told) == said
        assert (pictures(tmp_path / str(strength), "student") == pictures(first[0], "student")) == said


def test_edits_follow_their_sources_and_strength_1_is_from_noise(command, given, first, tmp_path):
    command = command | {"prompts": given / "prompts.txt"}
    whole = generate(command, init_image=given / "in", strength=1)
    assert pictures(command["out"], "student") == pictures(first[0], "student")
    assert whole["settings"]["student"]["strength"] == whole["settings"]["teacher"]["strength"] == 1
    edits = command | {"init_image": given / "in", "strength": 0.5}
    report = generate(edits, out=tmp_path / "edits", likeness="ssim")
    assert [image["source"] for image in report["images"]] == [f"{i}.png" for i in range(5)]
    assert report["settings"]["likeness"] == "ssim" and "hint" not in report["images"][0]
    assert pictures(tmp_path / "edits", "student") != pictures(first[0], "student")
    for image in report["images"]:
        assert (image["likeness_after"] is None) == (image["decision"] == "kept")
    # A table in another order; the seed of an image is that of its place, so the third of both is the same.
    table = tmp_path / "edits.csv"
    table.write_text("image,prompt\n" + "".join(f'{i}.png,"{PROMPTS[i]}"\n' for i in (4, 3, 2, 1, 0)))
    other = generate(edits, prompts=table, out=tmp_path / "other", likeness="ssim")
    assert [image["source"] for image in other["images"]] == [f"{i}.png" for i in (4, 3, 2, 1, 0)]
    assert other["images"][2]["likeness"] == pytest.approx(report["images"][2]["likeness"], abs=1e-3)
    least = sorted(image["likeness"] for image in report["images"])[2]
    vetoed = generate(edits, out=tmp_path / "vetoed", likeness="ssim", likeness_min=least, threshold=-1000)
    assert [i["decision"] != "kept" for i in vetoed["images"]] == [i["likeness"] < least for i in vetoed["images"]]
    assert vetoed["settings"]["likeness_min"] == least and sum(i["decision"] != "kept" for i in vetoed["images"]) == 2


def test_both_models_follow_hints_and_a_fresh_controlnet_changes_nothing(command, given, sd15, tmp_path):
    options = command | {"prompts": given / "prompts.txt", "teacher": sd15[1], "worst_fraction": 1, "student_cfg": 2}
    plain = generate(options)
    fresh = {"control": given / "in", "controlnet": given / "fresh.safetensors"}
    generate(options | fresh, out=tmp_path / "fresh")
    report = generate(options | fresh, controlnet=given / "control.safetensors", out=tmp_path / "control")
    for kind in ("student", "final"):
        assert pictures(tmp_path / "fresh", kind) == pictures(command["out"], kind)
        assert all(
            a != b for a, b in zip(pictures(tmp_path / "control", kind), pictures(command["out"], kind), strict=True)
        )
    assert [image["hint"] for image in report["images"]] == [f"{i}.png" for i in range(5)]
    for who in ("student", "teacher"):
        assert report["settings"][who]["controlnet"] == "control.safetensors"
        assert report["settings"][who]["control_strength"] == 1
    assert report["totals"]["evaluations"] == plain["totals"]["evaluations"]
    mixed = options | fresh | {"teacher_controlnet": given / "control.safetensors"}
    report = generate(mixed, out=tmp_path / "mixed")
    assert pictures(tmp_path / "mixed", "student") == pictures(command["out"], "student")
    assert pictures(tmp_path / "mixed", "final") != pictures(command["out"], "final")
    assert report["settings"]["teacher"]["controlnet"] == "control.safetensors"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strength": 0.5}, "--strength needs --init-image"),
        ({"control": "in"}, "--control needs --controlnet"),
        ({"controlnet": "control.safetensors"}, "--controlnet needs --control"),
        ({"likeness": "ssim"}, "--likeness needs --init-image"),
        ({"init_image": "in", "likeness_min": 0.5}, "--likeness-min needs --likeness"),
        ({"init_image": "in", "likeness": "sim"}, "--likeness sim: no such file; expected ssim or a CLIP's file"),
        (
            {"init_image": "in", "likeness": "ssim", "likeness_min": 60.0},
            "--likeness-min is 60, and --likeness ssim is at",
        ),
        ({"init_image": "in", "strength": 1.5}, "strength is 1.5"),
        ({"control": "in", "controlnet": "in/0.png"}, "in/0.png cannot be read as safetensors"),
    ],
)
def test_pictures_without_what_reads_them_are_refused(command, given, capfd, change, words):
    change = {name: given / value if isinstance(value, str) and "." in value or value == "in" else value
              for name, value in change.items()}  # fmt: skip
    with pytest.raises(SystemExit) as end:
        main(arguments(command | {"prompts": given / "prompts.txt"} | change))
    assert end.value.code == 2 and not command["out"].exists()
    assert words in " ".join(capfd.readouterr().err.split())
