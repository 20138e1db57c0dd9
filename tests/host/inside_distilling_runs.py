"""Runs in the host's own interpreter: whole trainings of a checkpoint, each in a process of its own.

usage: python inside_distilling_runs.py COMFYUI_FOLDER PACK_FOLDER LIBRARIES CHECKPOINT

As inside_distilling.py.
"""

import gc
import json
import logging
import multiprocessing
import os
import signal
import socket
import tarfile
import time
import weakref
from unittest.mock import patch

import torch
from checks import run_checks
from inside_distilling import CHECKPOINT, COMFYUI, CPU, FOLDER
from PIL import Image
from safetensors.torch import load_file

# isort: split
# The imports above have made the host and the pack importable.
import comfy.sd
from understudy.distill_train.config import Recipe, TeacherSettings
from understudy.distill_train.host import Host
from understudy.distill_train.methods import make_method
from understudy.distill_train.run.command import estimate_command, train_command
from understudy.distill_train.run.directory import Run
from understudy.distill_train.teachers import load_teacher, open_teacher
from understudy.distill_train.teachers.comfy import ComfyTeacher

FORK = multiprocessing.get_context("fork")  # with all of it imported already, and no process group begun
RECIPE = f"""
method = "lcm"
seed = 1
export = "student.safetensors"
[teacher]
comfy = "{CHECKPOINT}"
comfyui = "{COMFYUI}"
[student]
rank = 2
dtype = "fp32"
[loop]
steps = 4
batch_size = 4
lr = 1e-3
log_every = 1
sample_every = 4
checkpoint_every = 2
checkpointing = true
tracker = "none"
[samples]
size = 64
prompts = ["a"]
teacher_steps = 1
[settings]
target_ema = 0.5
[data]
size = 64
"""
DATA = {
    "folder": {"path": FOLDER / "pictures", "max_aspect": 1},
    "webdataset": {"path": FOLDER / "shard.tar", "max_aspect": 1},
    "prompts": {"path": FOLDER / "prompts.txt", "steps": 2, "cfg": 2.0},
}


def files(kind="folder"):
    """A recipe for pictures with captions that one chunk of the text encoder holds or not, or for such texts alone."""
    recipe, pictures = FOLDER / f"{kind}.toml", FOLDER / "pictures"
    if not pictures.exists():
        pictures.mkdir()
        for number in range(5):
            Image.new("RGB", (64, 64), (40 * number, 90, 200 - number)).save(pictures / f"{number}.png")
            (pictures / f"{number}.txt").write_text(f"number {number} " * (40 if number % 2 else 1))
        with tarfile.open(FOLDER / "shard.tar", "w") as shard:
            shard.add(pictures, "")
        (FOLDER / "prompts.txt").write_text("\n".join(path.read_text() for path in pictures.glob("*.txt")))
    said = {"kind": kind} | DATA[kind]
    recipe.write_text(RECIPE + "".join(f"{key} = {json.dumps(value, default=str)}\n" for key, value in said.items()))
    return recipe


def started(function, *arguments, **environment):
    def work():
        os.environ.update(environment)
        torch.set_num_threads(1)
        function(*arguments)

    process = FORK.Process(target=work)
    process.start()
    return process


def trained(name, *more, resume=False, **environment):
    return started(train_command, None if resume else files(), FOLDER / name, resume, "cpu", more, **environment)


def done(*processes):
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def whole():
    """The run that never stopped."""
    if not (FOLDER / "whole" / "exports" / "student.safetensors").exists():
        done(trained("whole"))
    return FOLDER / "whole"


def losses(run):
    path = run / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


def same(run):
    ours, theirs = (load_file(each / "exports" / "student.safetensors") for each in (run, whole()))
    assert losses(run) == losses(whole())
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def check_a_run_leaves_pictures_and_a_lora_that_the_stock_loader_takes():
    run = whole()
    assert len(losses(run)) == 4 and list((run / "samples").glob("*.png"))
    lora = load_file(run / "exports" / "student.safetensors")
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    model = comfy.sd.load_diffusion_model(CHECKPOINT, model_options={"dtype": torch.float32})
    patched, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    assert not [line for line in said if "NOT LOADED" in line or "not loaded" in line]
    assert len(patched.patches) == len({key.rpartition(".lora_")[0] for key in lora if ".lora_A" in key})


def check_a_killed_run_goes_on_to_the_last_bit():
    whole()
    process = trained("killed")
    while process.is_alive() and len(losses(FOLDER / "killed")) < 3:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -9
    log = FOLDER / "killed" / "log.jsonl"
    before = log.read_text().splitlines()[:2]
    done(trained("killed", resume=True))
    assert log.read_text().splitlines()[:2] == before, "it began from the beginning, as how fast it was tells"
    same(FOLDER / "killed")


def check_a_run_that_ctrl_c_stops_has_saved_its_step_and_goes_on_to_the_last_bit():
    whole()
    process, run = trained("stopped", "loop.checkpoint_every=4"), FOLDER / "stopped"
    while process.is_alive() and not losses(run):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    before = (run / "log.jsonl").read_text().splitlines()
    (saved,) = Run(run).checkpoints()
    assert torch.load(saved, weights_only=True)["step"] == len(before) < 4
    done(trained("stopped", resume=True))
    assert (run / "log.jsonl").read_text().splitlines()[: len(before)] == before, "it began from the beginning"
    same(run)


def check_runs_from_shards_and_prompts_end_too_and_no_text_encoder_meets_the_network():
    kinds, encoders, living = ("webdataset", "prompts"), [], []
    load_clip, load_model = Host.load_clip, Host.load_model

    def clip(*given):
        loaded = load_clip(*given)
        encoders.append(weakref.ref(loaded.cond_stage_model))
        return loaded

    def model(*given):
        gc.collect()
        living.append(sum(encoder() is not None for encoder in encoders))
        return load_model(*given)

    def work():
        with patch.object(Host, "load_clip", clip), patch.object(Host, "load_model", model):
            for kind in kinds:
                train_command(files(kind), FOLDER / kind, False, "cpu", ("loop.steps=1", "loop.checkpoint_every=1"))
        assert (len(encoders), living) == (2, [0, 0]), (encoders, living)

    done(started(work))
    for kind in kinds:
        lora = load_file(FOLDER / kind / "exports" / "student.safetensors")
        assert len(losses(FOLDER / kind)) == 1
        assert all(value.any() for key, value in lora.items() if "lora_B" in key)


def check_two_processes_are_one():
    run = whole()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    done(*(trained("pair", **shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)))
    ours, theirs = losses(FOLDER / "pair"), losses(run)
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-5, (ours, theirs)
    pair, alone = (load_file(each / "exports" / "student.safetensors") for each in (FOLDER / "pair", run))
    apart = torch.cat([(pair[key] - value).abs().flatten() for key, value in alone.items()])
    assert pair.keys() == alone.keys() and apart.mean() < 2e-5, apart.mean()


def check_an_estimate_is_made_and_leaves_nothing():
    def ask():
        said = estimate_command(files(), FOLDER / "asked" / "run", "cpu", ())
        assert "GiB on cpu" in said

    done(started(ask))
    assert not (FOLDER / "asked").exists()


def check_it_is_what_diffusers_makes_of_the_file():
    ours, theirs = (
        ComfyTeacher(TeacherSettings(comfy=CHECKPOINT, comfyui=COMFYUI), CPU, torch.float32),
        load_teacher(CHECKPOINT),
    )
    assert (ours.kind, theirs.kind) == ("SD15", "sd1") and ours.latent_shape(64, 64) == (4, 8, 8)
    torch.testing.assert_close(ours.process.alphas_cumprod, theirs.process.alphas_cumprod)
    texts = ["a red fox in the snow", ""]
    mine, given = ours.embed(texts), theirs.embed(texts)
    near(mine["cross_attn"][:, 0], given["context"])
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    latents = theirs.encode(pixels)
    near(ours.encode(pixels), latents)
    near(ours.decode(latents), theirs.decode(latents))
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for t in map(torch.tensor, ([0], [1], [19], [259], [500], [981], [999])):
            z = ours.process.level(t).noisy(latents, noise)
            found = []
            for teacher, text in ((ours, mine), (theirs, given)):
                output = teacher.call(teacher.unet, z, t, {key: value[:1] for key, value in text.items()})
                found.append(teacher.process.x0_and_eps(output, z, t)[0])
            near(*found)


def check_its_attention_guides_it_as_it_does_in_diffusers():
    given, texts = [], ["a red fox in the snow", "a lighthouse on a cliff above a rough sea"]
    for told in ({"comfy": CHECKPOINT, "comfyui": COMFYUI}, {"path": CHECKPOINT}):
        asked = Recipe(
            method="lcm",
            seed=1,
            export="student.safetensors",
            loop={"steps": 1, "batch_size": 1, "lr": 1e-3, "tracker": "none", "precision": "fp32"},
            teacher=told,
            attention={"weight": 0.3},
            student={"train": "lora", "rank": 4},
            settings={"w_min": 3.0, "w_max": 3.0},
        )
        given.append(make_method(asked, CPU, teacher=open_teacher(asked.teacher, CPU, torch.float32), source=[]))
        given[-1].make_student()  # which waits for texts
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    t = torch.tensor([600, 600])
    for scale in (1.0, 3.0):
        with torch.no_grad():
            near(*(made.teach(z, t, made.teacher.embed(texts), scale)[0] for made in given))


def near(a, b):
    apart, scale = (a - b).abs().max(), b.abs().max()
    assert apart <= 1e-4 * scale, f"apart by {apart:.2e} of {scale:.3g}"


if __name__ == "__main__":
    run_checks()
