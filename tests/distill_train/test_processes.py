"""Whole runs in processes of their own, on a small demo teacher: killed ones, and two that share a batch."""

import json
import multiprocessing
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from understudy import distill_train
from understudy.demo_family import family
from understudy.distill_train.config import Recipe, load_recipe
from understudy.distill_train.run.loop import train

from .two_processes import free_port, run_in_two_processes

pytestmark = pytest.mark.slow

# Forked from one process that has everything imported, as eleven starts would take a while.
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(
    ["understudy.distill_train.run.loop", "accelerate", "understudy.pipelines.checkpoint"]
    + ["diffusers.models.autoencoders.autoencoder_kl", "diffusers.models.unets.unet_2d_condition"]
    + ["diffusers.loaders.single_file_utils", "transformers.models.clip.modeling_clip"]
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    config = family.UNET_CONFIG | {"block_out_channels": [8, 8], "norm_num_groups": 4}
    network = family.SceneNetwork(config)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    family.save(network, path, {"understudy": "demo-teacher", "config": json.dumps(config)})
    return path


def recipe(teacher, method="pd", loop=None, student=None, **settings):
    settings = settings or {"teacher_steps": 4}
    loop = {"steps": 30, "batch_size": 4, "lr": 1e-3, "log_every": 1, "sample_every": 10, "checkpoint_every": 3} | (
        loop or {}
    )
    return Recipe(
        method=method,
        seed=1,
        export="student.safetensors",
        loop=loop | {"tracker": "none"},
        teacher={"path": teacher},
        student=(student or {"train": "full"}) | {"dtype": "fp32"},
        data={"kind": "scenes", "pictures": 16},
        samples={"teacher_steps": 2},
        settings=settings,
    )


def start(recipe, directory, resume=False):
    process = FORKSERVER.Process(target=train, args=(recipe, directory, resume, "cpu"))
    process.start()
    return process


def logged(directory):
    path = directory / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def losses(directory):
    return [entry["loss"] for entry in logged(directory) if "loss" in entry]


def unbroken(recipe, directory):
    process = start(recipe, directory)
    process.join()
    assert process.exitcode == 0


def killed(recipe, directory, times):
    """Train to the end with so many kills, each when some random number of losses was logged."""
    chance, kills = random.Random(7), 0
    process = start(recipe, directory)
    for target in sorted(chance.choices(range(recipe.loop.steps - 5), k=times)):
        while process.is_alive() and len(losses(directory)) <= target:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)  # somewhere in the step, or while something is written
        process.kill()
        process.join()
        kills += process.exitcode == -9
        process = start(recipe, directory, resume=(directory / "recipe.json").exists())
    process.join()
    assert process.exitcode == 0 and kills == times


def same_results(one, other):
    ours, theirs = (load_file(folder / "exports" / "student.safetensors") for folder in (one, other))
    assert losses(one) == losses(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_ten_kills_at_random_steps_end_in_the_same_weights(teacher, tmp_path):
    r, run = recipe(teacher), tmp_path / "run"
    unbroken(r, tmp_path / "unbroken")
    killed(r, run, 10)
    assert same_results(run, tmp_path / "unbroken")
    assert len(list((run / "checkpoints").glob("*.pt"))) == 2


def test_kills_lose_no_turn_of_two_adapters(teacher, tmp_path):
    lora, loop = {"train": "lora", "rank": 2}, {"steps": 15, "checkpoint_every": 2}
    r, run = recipe(teacher, "dmd", loop, lora, student_steps=2, cfg=2.0), tmp_path / "run"
    unbroken(r, tmp_path / "unbroken")
    killed(r, run, 3)
    assert same_results(run, tmp_path / "unbroken")


KILLED = {
    "a-lora": ({"train": "lora", "rank": 2, "dtype": "fp32"}, "fp32", (1, 10, 30)),
    "all-weights-in-fp16": ({"train": "full", "dtype": "fp32"}, "fp16", ()),
}


@pytest.mark.parametrize("case", KILLED)
def test_kills_lose_no_picture_no_target_and_no_scale(sd15, tmp_path, case):
    """Of a checkpoint, on pictures: killed when so many of them are encoded, then three times at random steps."""
    student, precision, encoded = KILLED[case]
    loop = {"steps": 12, "batch_size": 4, "lr": 1e-3, "log_every": 1, "checkpoint_every": 2, "sample_every": 12}
    r = Recipe(
        method="lcm",
        seed=1,
        export="student.safetensors",
        loop=loop | {"precision": precision, "tracker": "none"},
        teacher={"path": sd15[1]},
        student=student,
        data={
            "kind": "folder",
            "path": str(pictures(tmp_path / "pictures", 80 if encoded else 5)),
            "size": 16,
            "max_aspect": 1,
        },
        samples={"prompts": ["a"], "size": 16, "teacher_steps": 1},
        settings={"target_ema": 0.5},
    )
    run, cache = tmp_path / "killed" / "run", tmp_path / "killed" / "cache"
    for count in encoded:
        process = start(r, run)
        while process.is_alive() and len(list(cache.rglob("latents/*/*.safetensors"))) < count:
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -9 and not run.exists()
        assert all(load_file(path) for path in cache.rglob("*.safetensors"))
    killed(r, run, 3)
    unbroken(r, tmp_path / "unbroken" / "run")
    assert same_results(run, tmp_path / "unbroken" / "run")


def pictures(folder, count=5):
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (16, 16), (40 * number % 256, 90, 200 - number)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"number {number}")
    return folder


@pytest.mark.parametrize("kind", ["full", "lora", "attention", "dmd"])
def test_two_processes_are_one_with_the_whole_batch(request, teacher, tmp_path, kind):
    method, settings = "lcm", "target_ema = 0.5"
    r = recipe(teacher, "lcm", {"steps": 4, "checkpoint_every": 2, "sample_every": 4}, target_ema=0.5)
    lines = ["train = 'full'", "dtype = 'fp32'", "[data]", "kind = 'scenes'", "pictures = 16", "[samples]"]
    if kind == "lora":  # of a checkpoint, from pictures with captions, in parts
        teacher = request.getfixturevalue("sd15")[1]
        folder = pictures(tmp_path / "pictures")
        lines = [
            "train = 'lora'",
            "rank = 2",
            "dtype = 'fp32'",
            "[loop]",
            "accumulate = 2",
            "checkpointing = 'auto'",
            "[data]",
            "kind = 'folder'",
        ]
        lines += [f"path = '{folder}'", "size = 16", "max_aspect = 1", "[samples]", "size = 16", "prompts = ['a']"]
    if kind == "attention":
        lines[2:2] = ["[attention]", "weight = 0.3"]
    if kind == "dmd":  # two adapters in turns
        method, settings = "dmd", "student_steps = 2"
        lines[:1] = ["train = 'lora'", "rank = 2"]
    file = tmp_path / "recipe.toml"
    file.write_text(
        f'method = "{method}"\nseed = 1\nexport = "{r.export}"\n[teacher]\npath = "{teacher}"\n[student]\n'
        + "\n".join([*lines, "teacher_steps = 2", "[settings]", settings])
    )
    loop = {"steps": 4, "batch_size": 4, "lr": 1e-3, "log_every": 1, "sample_every": 4, "checkpoint_every": 2}
    changes = tuple(f"loop.{key}={value}" for key, value in {**loop, "tracker": "none"}.items())
    train(load_recipe(file, changes), tmp_path / "alone", device="cpu")
    command = ["-m", "understudy.cli", "train", str(file), "--device", "cpu", "--out", str(tmp_path / "pair")]
    run_in_two_processes(*command, *(part for change in changes for part in ("--set", change)))
    assert losses(tmp_path / "pair") == pytest.approx(losses(tmp_path / "alone"), abs=1e-5)
    ours, theirs = (load_file(tmp_path / run / "exports" / r.export) for run in ("pair", "alone"))
    # In the mean, of steps of 1e-3: Adam's have one size, so rounding moves a weight whose gradient is next to nothing.
    apart = torch.cat([(ours[key] - value).abs().flatten() for key, value in theirs.items()])
    assert ours.keys() == theirs.keys() and apart.mean() < 2e-5
    assert len((tmp_path / "pair" / "log.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-4), ("bf16", 2e-2)])
def test_two_shards_are_one_whole_network_and_go_on_to_the_last_bit(teacher, tmp_path, precision, near):
    """As configured for SDXL, of which nobody holds all weights; on CPUs, with a small network."""
    file = tmp_path / "recipe.toml"
    file.write_text(
        f'method = "lcm"\nseed = 1\nexport = "student.safetensors"\n[teacher]\npath = "{teacher}"\n'
        "[student]\ntrain = 'full'\ndtype = 'fp32'\n[data]\nkind = 'scenes'\npictures = 16\n"
        "[samples]\nteacher_steps = 2\n[settings]\ntarget_ema = 0.0\n"
        "[loop]\nsteps = 4\nbatch_size = 4\nlr = 1e-3\nlog_every = 1\nsample_every = 4\ncheckpoint_every = 2\n"
        f"ema = 0.0\ntracker = 'none'\ncheckpointing = true\nprecision = '{precision}'\n"
    )
    train(load_recipe(file), tmp_path / "alone", device="cpu")
    config = Path(distill_train.__file__).parent / "accelerate" / "fsdp.yaml"

    def shards(*arguments):
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
        command += ["--num_processes", "2", "--main_process_port", free_port()]
        command += [str(Path(__file__).with_name("sharded.py")), "train", str(file), "--device", "cpu", *arguments]
        done = subprocess.run([*command, "--out", str(tmp_path / "run")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return load_file(tmp_path / "run" / "exports" / "student.safetensors")

    ours, theirs = shards(), load_file(tmp_path / "alone" / "exports" / "student.safetensors")
    # In half precision of the first step alone: Adam makes what was rounded in it as large as all else.
    steps = slice(None) if precision == "fp32" else slice(1)
    for figure in ("loss", "grad_norm"):
        together, alone = ([entry[figure] for entry in logged(tmp_path / run)][steps] for run in ("run", "alone"))
        assert together == pytest.approx(alone, rel=near), figure
    assert ours.keys() == theirs.keys()
    if precision == "fp32":
        assert torch.cat([(ours[key] - value).abs().flatten() for key, value in theirs.items()]).mean() < 2e-5
    (tmp_path / "run" / "checkpoints" / "step-00000004.pt").unlink()
    again = shards("--resume")
    assert all(torch.equal(again[key], value) for key, value in ours.items())
