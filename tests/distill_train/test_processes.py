"""Whole runs in processes of their own, on a small demo teacher: killed ones, and two that share a batch."""

import json
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from understudy.distill_train.config import Recipe, load_recipe
from understudy.distill_train.loop import train
from understudy.models.demo import family
from understudy.pipelines.processes import Processes

# Forked from one process that has everything imported, as eleven starts would take a while.
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["understudy.distill_train.loop", "diffusers", "accelerate"])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    config = family.UNET_CONFIG | {"block_out_channels": [8, 8], "norm_num_groups": 4}
    network = family.SceneNetwork(config)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    family.save(network, path, {"understudy": "demo-teacher", "config": json.dumps(config)})
    return path


def recipe(teacher, method="pd", loop=None, **settings):
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
        student={"train": "full", "dtype": "fp32"},
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


def test_the_others_wait_for_a_share_longer_than_for_a_step(monkeypatch):
    asked = []

    def gather(found, value, group):
        found[:] = [value, group]

    state = SimpleNamespace(process_index=0, num_processes=2, device="cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.PartialState", lambda cpu: state)
    monkeypatch.setattr(torch.distributed, "new_group", lambda **what: asked.append(what) or "patient")
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    assert Processes("cpu").gather("share") == ["share", "patient"]
    assert asked == [{"backend": "gloo", "timeout": timedelta(days=1)}]


def test_ten_kills_at_random_steps_end_in_the_same_weights(teacher, tmp_path):
    r, run = recipe(teacher), tmp_path / "run"
    unbroken = start(r, tmp_path / "unbroken")
    unbroken.join()
    assert unbroken.exitcode == 0
    chance, kills = random.Random(7), 0
    process = start(r, run)
    for target in sorted(chance.choices(range(25), k=10)):
        while process.is_alive() and len(losses(run)) <= target:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)  # somewhere in the step, or while something is written
        process.kill()
        process.join()
        kills += process.exitcode == -9
        process = start(r, run, resume=(run / "recipe.json").exists())
    process.join()
    assert process.exitcode == 0 and kills == 10
    ours, theirs = (load_file(folder / "exports" / "student.safetensors") for folder in (run, tmp_path / "unbroken"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert losses(run) == losses(tmp_path / "unbroken")
    assert len(list((run / "checkpoints").glob("*.pt"))) == 2


def pictures(folder):
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (16, 16), (40 * number, 90, 200)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"number {number}")
    return folder


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_two_processes_are_one_with_the_whole_batch(request, teacher, tmp_path, kind):
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
            "[data]",
            "kind = 'folder'",
        ]
        lines += [f"path = '{folder}'", "size = 16", "max_aspect = 1", "[samples]", "size = 16", "prompts = ['a']"]
    file = tmp_path / "recipe.toml"
    file.write_text(
        f'method = "lcm"\nseed = 1\nexport = "{r.export}"\n[teacher]\npath = "{teacher}"\n[student]\n'
        + "\n".join([*lines, "teacher_steps = 2", "[settings]", "target_ema = 0.5"])
    )
    loop = {"steps": 4, "batch_size": 4, "lr": 1e-3, "log_every": 1, "sample_every": 4, "checkpoint_every": 2}
    changes = tuple(f"loop.{key}={value}" for key, value in {**loop, "tracker": "none"}.items())
    train(load_recipe(file, changes), tmp_path / "alone", device="cpu")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What a launcher sets.
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "understudy.cli", "train", str(file), "--device", "cpu"]
    command += [*(part for change in changes for part in ("--set", change)), "--out"]
    pair = [
        subprocess.Popen(
            [*command, str(tmp_path / "pair")],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate()[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], "\n\n".join(text[-1500:] for text in said)
    assert losses(tmp_path / "pair") == pytest.approx(losses(tmp_path / "alone"), abs=1e-5)
    ours, theirs = (load_file(tmp_path / run / "exports" / r.export) for run in ("pair", "alone"))
    for key in ours:  # Adam's steps have one size, so that rounding moves a weight whose gradient is next to nothing
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-3, atol=5e-4)
    assert len((tmp_path / "pair" / "log.jsonl").read_text().splitlines()) == 4
