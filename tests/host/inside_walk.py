"""Runs in the host's own interpreter: from a model's file to a LoRA of it, by the commands that users type.

usage: python inside_walk.py COMFYUI_FOLDER PACK_FOLDER LIBRARIES CHECKPOINT FAMILY MODELS FOLDER

As inside_distilling.py. FAMILY is Flux or SD3, of which a small model is made that reads what one CLIP-L says, as all
other text encoders are large; it goes into MODELS with the CLIP-L of CHECKPOINT, a Stable Diffusion 1.5, and a small
autoencoder. FOLDER is for recipe, pictures and run. The last line printed is what the command ``train init`` said.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

import torch
from own_host import own_host
from safetensors import safe_open
from safetensors.torch import save_file

FAMILY, CHECKPOINT, MODELS, FOLDER = sys.argv[5], *map(Path, (sys.argv[4], *sys.argv[6:8]))
OWN = own_host(FOLDER / "ComfyUI", sys.argv[1], MODELS)
sys.argv[1] = str(OWN)

import inside_distilling  # noqa: E402, F401 - makes the host and the pack importable

# isort: split
import families  # noqa: E402
from comfy.taesd.taesd import TAESD  # noqa: E402
from PIL import Image  # noqa: E402
from understudy.cli import main  # noqa: E402

CLIP_WIDTH = 768
# Widths of what CLIP-L gives them: SD 3's states are padded to those of a T5, its vector to hold one of a CLIP-G.
READS = {
    "Flux": {"context_in_dim": CLIP_WIDTH, "vec_in_dim": CLIP_WIDTH},
    "SD3": {
        "adm_in_channels": CLIP_WIDTH + 1280,
        "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}},
    },
}
VAE = {"Flux": "ae", "SD3": "sd3_vae"}
PROMPT = "a red star above a blue circle"
SMALL = {
    "student.rank": 4, "student.dtype": "fp32", "loop.precision": "fp32", "loop.steps": 6, "loop.batch_size": 2,
    "loop.lr": 3e-2, "loop.warmup": 0, "loop.sample_every": 6, "loop.checkpoint_every": 6, "loop.log_every": 1,
    "loop.tracker": "none", "data.size": 64, "data.path": FOLDER / "pictures", "samples.size": 64,
    "samples.teacher_steps": 1, "samples.prompts": [PROMPT],
}  # fmt: skip


def written(kind, name, tensors):
    path = MODELS / kind / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


def small_models():
    """The model's file; beside it, what it needs."""
    family = families.ALL[FAMILY]
    families.ALL[FAMILY] = family._replace(config=family.config | READS[FAMILY])
    prefix = "cond_stage_model.transformer."
    with safe_open(CHECKPOINT, framework="pt") as file:
        texts = {key.removeprefix(prefix): file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}
    written("text_encoders", "clip_l", texts | {"text_projection.weight": torch.eye(CLIP_WIDTH).half()})
    autoencoder = families.weights(TAESD(latent_channels=16))
    weight, bias = [key for key in autoencoder if key.startswith("taesd_decoder")][-2:]
    autoencoder[weight] *= 8  # else pictures have little contrast,
    autoencoder[bias] += 0.5  # and most of them is black
    written("vae", VAE[FAMILY], autoencoder)
    return written("diffusion_models", f"small-{FAMILY}", families.weights(families.layout(FAMILY)))


def pictures():
    for number, (colour, text) in enumerate((("red", PROMPT), ("blue", "a blue square"))):
        path = FOLDER / "pictures" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), colour).save(path)
        path.with_suffix(".txt").write_text(text)


def understudy(*words):
    """What a command prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            if end.code:
                raise
    return said.getvalue()


def toml(value):
    return json.dumps(value if isinstance(value, int | float | list) else str(value))


if __name__ == "__main__":
    torch.set_num_threads(1)
    model, recipe, run = small_models(), FOLDER / "small.toml", FOLDER / "run"
    pictures()
    said = understudy("train", "init", "--model", model, "--comfyui", OWN, "--out", recipe)
    clip = json.dumps([str(MODELS / "text_encoders" / "clip_l.safetensors")])
    changes = [f"teacher.clip={clip}", *(f"{key}={toml(value)}" for key, value in SMALL.items())]
    command, *more = said.splitlines()[-1].removeprefix("understudy ").partition(" --set ")[0].split()
    sets = (word for change in changes for word in ("--set", change))
    understudy(command, *more, "--out", run, "--device", "cpu", *sets)
    found = json.loads((run / "recipe.json").read_text())["loop"]
    assert (found["accumulate"], found["checkpointing"]) == (1, False), found  # of "auto", as it all fits
    understudy("export", run, "--out", MODELS / "loras" / f"small-{FAMILY}-student.safetensors")
    sys.stdout.write("\n" + json.dumps(said) + "\n")
