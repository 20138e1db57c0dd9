"""Runs in the host's own interpreter: recipes for models that a ComfyUI loads, with what lies in its models folders.

usage, output: as inside_distilling.py. The models lie where an extra_model_paths.yaml says, beside the host's own code.
"""

import json
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import torch
from own_host import own_host
from safetensors.torch import save_file

OWN, MODELS = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
sys.argv[1] = str(own_host(OWN, sys.argv[1], MODELS))
# Before any of the host is imported: its folders are listed once.
for folder in ("text_encoders", "vae"):
    (MODELS / folder).mkdir()

from checks import run_checks  # noqa: E402
from inside_distilling import CPU, FOLDER, HOST, SMALL, Told, file_of, on_each  # noqa: E402

# isort: split
# The imports above have made the host and the pack importable.
import comfy.ops  # noqa: E402
from understudy.distill_train.config import RecipeError, load_recipe  # noqa: E402
from understudy.distill_train.host import FLAGGED  # noqa: E402
from understudy.distill_train.init import init  # noqa: E402
from understudy.distill_train.init.plan import plan_of  # noqa: E402
from understudy.distill_train.students.host_lora import HostLora  # noqa: E402
from understudy.files import CheckpointError  # noqa: E402

# Of each text encoder what ComfyUI knows it by.
MARKS = {
    "clip_l": {"text_model.encoder.layers.0.mlp.fc1.weight": (1, 1)},
    "clip_g": {"text_model.encoder.layers.30.mlp.fc1.weight": (1, 1)},
    "t5xxl_fp8_e4m3fn": {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 4096)},
    "umt5_xxl": {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 4096)},
    "qwen3_4b": {
        "model.layers.0.post_attention_layernorm.weight": (2560,),
        "model.layers.0.self_attn.q_norm.weight": (128,),
    },
    "qwen3vl": {
        "model.visual.deepstack_merger_list.0.norm.weight": (1,),
        "model.visual.merger.linear_fc2.weight": (2560, 1),
    },
    "something else": {"weight": (1,)},
}
for name, shapes in MARKS.items():
    marks = {key: torch.zeros(shape, dtype=torch.uint8) for key, shape in shapes.items()}
    save_file(marks, MODELS / "text_encoders" / f"{name}.safetensors")
(MODELS / "text_encoders" / "a web page.safetensors").write_text("<!DOCTYPE html>")
for name in ("ae", "flux2-vae", "sd3_vae"):
    save_file({"weight": torch.zeros(1)}, MODELS / "vae" / f"{name}.safetensors")
# File names of the text encoders and the autoencoder, those that are not there as they are published.
FOUND = {
    "Flux": (["clip_l", "t5xxl_fp8_e4m3fn"], "ae"),
    "SD3": (["clip_l", "clip_g", "t5xxl_fp8_e4m3fn"], "sd3_vae"),
    "Krea2": (["qwen3vl"], "qwen_image_vae"),
    "WAN21_T2V": (["umt5_xxl"], "wan_2.1_vae"),
}
# FLUX.1 dev and Z-Image as published.
WHOLE = {
    "flux1-dev": ("comfy.ldm.flux.model", "Flux", {
        "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096, "hidden_size": 3072,
        "mlp_ratio": 4.0, "num_heads": 24, "depth": 19, "depth_single_blocks": 38, "axes_dim": [16, 56, 56],
        "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
    }),
    "z_image_turbo_bf16": ("comfy.ldm.lumina.model", "NextDiT", {
        "patch_size": 2, "in_channels": 16, "dim": 3840, "n_layers": 30, "n_heads": 30, "n_kv_heads": 30,
        "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512], "rope_theta": 256.0, "ffn_dim_multiplier": 8 / 3,
        "qk_norm": True, "cap_feat_dim": 2560, "z_image_modulation": True, "time_scale": 1000.0,
        "pad_tokens_multiple": 32,
    }),
}  # fmt: skip


def recipe_of(file, name):
    out = FOLDER / f"{name}.toml"
    return init(file, OWN, out), load_recipe(out)


def check_text_encoders_and_autoencoders_are_found_in_the_users_folders():
    def check(name):
        said, recipe = recipe_of(file_of(name), name)
        texts, vae = FOUND[name]
        assert [file.stem for file in recipe.teacher.clip] == texts, recipe.teacher.clip
        assert recipe.teacher.vae.stem == vae
        missing = [file for file in (*recipe.teacher.clip, recipe.teacher.vae) if not file.exists()]
        assert all(f"Missing: put {file.name} into {file.parent}" in said for file in missing), said
        assert len(missing) == (vae in ("qwen_image_vae", "wan_2.1_vae")) == said.count("Missing")
        command = f"understudy train {FOLDER / name}.toml --set data.path=PICTURES"
        *_, estimate, last = said.splitlines()
        assert last == command and estimate.startswith("estimate ") and estimate.endswith(f": {command} --estimate")

    on_each(check, [name for name in SMALL if name in FOUND])


def check_without_a_name_the_recipe_is_called_as_the_model_and_lies_here():
    here, before = Path(tempfile.mkdtemp()), Path.cwd()
    os.chdir(here)
    try:
        said = init(file_of("SD3"), OWN)
    finally:
        os.chdir(before)
    assert [path.name for path in here.iterdir()] == ["SD3.toml"] and load_recipe(here / "SD3.toml")
    assert said.splitlines()[-1] == "understudy train SD3.toml --set data.path=PICTURES"


def check_the_trainer_takes_the_recipe():
    def check(name):
        _, recipe = recipe_of(file_of(name), f"taken-{name}")
        usual = HostLora(Told(recipe.teacher, CPU, torch.float32), recipe.student, torch.float32).exported()[0]
        named = recipe.student.model_copy(update={"targets": plan_of(HOST, file_of(name)).targets})
        assert named.targets
        named = HostLora(Told(recipe.teacher, CPU, torch.float32), named, torch.float32).exported()[0]
        assert usual and usual.keys() <= named.keys()  # of which some may be idle

    on_each(check)


def sparse(name):
    """A file with the header of a whole published model, in bfloat16, and holes for its weights."""
    module, network, config = WHOLE[name]
    given = {"dtype": torch.bfloat16, "device": "meta", "operations": comfy.ops.disable_weight_init}
    layout = getattr(import_module(module), network)(**config, **given)
    header, at = {}, 0
    for key, value in layout.state_dict().items():
        end = at + 2 * value.numel()
        header[key], at = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": [at, end]}, end
    text = json.dumps(header).encode()
    path = FOLDER / f"{name}.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + at)
    return path


def check_whole_models_are_planned_without_their_weights():
    if HOST.version < FLAGGED:
        return
    pages = os.sysconf("SC_PAGE_SIZE")
    told = {
        "flux1-dev": ("Flux to", "22.2 GiB for the network", "as the preset flux1-dev", "told 3.5", "shift by size"),
        "z_image_turbo_bf16": ("ZImage to", "11.5 GiB for the", "as the preset z-image-turbo", "type lumina2"),
    }
    for name, words in told.items():
        file = sparse(name)
        before, started = int(Path("/proc/self/statm").read_text().split()[1]), time.monotonic()
        said, recipe = recipe_of(file, name)
        grown = pages * (int(Path("/proc/self/statm").read_text().split()[1]) - before)
        sys.stderr.write(f"{said}\n{grown / 2**20:.0f} MiB, {time.monotonic() - started:.1f} s\n")
        assert all(word in said for word in words), said
        assert grown < 2**30, grown
        file.unlink()


def check_before_comfyui_has_the_flag_flux_is_refused_with_the_version_that_has_it():
    if HOST.version >= FLAGGED:
        return
    file = sparse("flux1-dev")
    refused(["flux1-dev", "is Flux to", "from 0.14.0 on", "is 0.8.0"], RecipeError, file, OWN, FOLDER / "flux.toml")
    file.unlink()


def refused(words, error, *arguments):
    try:
        init(*arguments)
    except error as raised:
        assert all(word in str(raised) for word in words), raised
        return
    raise AssertionError(f"{arguments} was taken")


def check_what_cannot_be_planned_is_an_error():
    file, out = file_of("SD3"), FOLDER / "refused.toml"
    refused(["gone.safetensors", "no such file"], FileNotFoundError, FOLDER / "gone.safetensors", OWN, out)
    refused(["no diffusion model"], CheckpointError, MODELS / "vae" / "ae.safetensors", OWN, out)
    refused([str(FOLDER), "no ComfyUI"], RecipeError, file, FOLDER, out)
    refused(["refused.json", ".toml"], RecipeError, file, OWN, out.with_suffix(".json"))
    refused(["--method sferd", "lcm, cd, pd, dmd"], RecipeError, file, OWN, out, "sferd")
    assert not out.exists()
    out.write_text("mine")
    refused(["refused.toml is there already"], FileExistsError, file, OWN, out)
    assert out.read_text() == "mine"


if __name__ == "__main__":
    run_checks()
