"""Checkpoints that ComfyUI reads by renaming load here to the same weights; others are refused by name."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from understudy.files import CheckpointError
from understudy.pipelines.checkpoint import open_checkpoint
from understudy.pipelines.layout import SD1, SDXL

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
OLD_ATTENTION = {"group_norm": "group_norm", "to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def without_text_model(weights):
    return {key.replace(f"{TEXT}text_model.", TEXT): value for key, value in weights.items()}


def with_what_trainers_leave(weights):
    more = {f"{TEXT}text_projection.weight": torch.ones(32, 32), "cond_stage_model.logit_scale": torch.ones(())}
    more |= {"model_ema.decay": torch.ones(()), f"{TEXT}text_model.embeddings.position_ids": torch.arange(77.0)[None]}
    return weights | more


def diffusers_vae(weights, folder, attention=None):
    named = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    for new, old in (attention or {}).items():
        named = {re.sub(rf"attentions\.0\.{re.escape(new)}\.", f"attentions.0.{old}.", k): v for k, v in named.items()}
    rest = {key: value for key, value in weights.items() if not key.startswith(VAE)}
    return rest | {f"{VAE}{key}": value for key, value in named.items()}


def eight_bits(weights, prefix=UNET, form="scale_weight"):
    """Linear layers in float8 with a scale, as the host writes them."""
    made, layers = {}, {}
    for key, value in weights.items():
        if not (key.startswith(prefix) and key.endswith(".weight") and value.ndim == 2):
            made[key] = value
            continue
        layer, scale = key.removesuffix(".weight"), value.abs().max() / 448
        made |= {key: (value / scale).to(torch.float8_e4m3fn), f"{layer}.{form}": scale}
        layers[layer] = {"format": "float8_e4m3fn"}
        if form == "scale_weight":
            made[f"{layer}.scale_input"] = torch.ones(())
        else:
            made[f"{layer}.comfy_quant"] = torch.tensor(list(json.dumps(layers[layer]).encode()), dtype=torch.uint8)
    if form == "scale_weight":
        made[f"{prefix}scaled_fp8"] = torch.zeros(2).to(torch.float8_e4m3fn)
    return made


def networks(path, vae=None):
    parts = open_checkpoint(path, vae).load(torch.float32)
    return {"unet": parts.unet, "vae": parts.vae} | {f"text {i}": text.network for i, text in enumerate(parts.texts)}


def require_equal(path, expected, vae=None, **close):
    for name, network in networks(path, vae).items():
        mine, its = network.state_dict(), expected[name].state_dict()
        assert mine.keys() == its.keys()
        for key in mine:
            torch.testing.assert_close(mine[key], its[key], **(close or {"rtol": 0, "atol": 0}))


@pytest.fixture(scope="module")
def plain(sd15):
    return networks(sd15[1])


@pytest.mark.parametrize("form", ["no text_model", "trainers", "diffusers vae", "old vae"])
def test_other_names_are_the_same_networks(sd15, plain, form, tmp_path):
    folder, file = sd15
    weights = load_file(file)
    made = {
        "no text_model": lambda: without_text_model(weights),
        "trainers": lambda: with_what_trainers_leave(weights),
        "diffusers vae": lambda: diffusers_vae(weights, folder),
        "old vae": lambda: diffusers_vae(weights, folder, OLD_ATTENTION),
    }[form]()
    assert made.keys() != weights.keys()
    save_file({key: value.contiguous() for key, value in made.items()}, tmp_path / "renamed.safetensors")
    require_equal(tmp_path / "renamed.safetensors", plain)


def test_sdxl_s_second_projection_may_lie_the_other_way(sdxl, tmp_path):
    weights = load_file(sdxl[1])
    key = "conditioner.embedders.1.model.text_projection"
    weights[f"{key}.weight"] = weights.pop(key).T.contiguous()
    save_file(weights, tmp_path / "renamed.safetensors")
    require_equal(tmp_path / "renamed.safetensors", networks(sdxl[1]))


@pytest.mark.parametrize("form", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("prefix", [UNET, TEXT])
def test_scaled_float8_is_what_it_stands_for(sd15, plain, form, prefix, tmp_path):
    made = eight_bits(load_file(sd15[1]), prefix, form)
    assert sum(value.dtype == torch.float8_e4m3fn for value in made.values()) > 10
    save_file({key: value.contiguous() for key, value in made.items()}, tmp_path / "fp8.safetensors")
    require_equal(tmp_path / "fp8.safetensors", plain, rtol=0.07, atol=2e-3)
    # Exactly the stored number times its scale, not only about the original.
    key = f"{prefix}{'time_embed.0' if prefix == UNET else 'text_model.encoder.layers.0.mlp.fc1'}.weight"
    stands_for = made[key].float() * made[f"{key.removesuffix('.weight')}.{form}"]
    read = networks(tmp_path / "fp8.safetensors")
    mine = read["unet"].time_embedding.linear_1 if prefix == UNET else read["text 0"].encoder.layers[0].mlp.fc1
    assert torch.equal(mine.weight, stands_for)


def test_bits_that_only_the_host_knows_are_refused(sd15, tmp_path):
    path, layer = tmp_path / "bits.safetensors", f"{UNET}time_embed.0"
    said = {"format": "nvfp4"}
    mark = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    for more, metadata in (
        ({f"{layer}.comfy_quant": mark}, None),
        ({}, {"_quantization_metadata": json.dumps({"layers": {layer: said}})}),
    ):
        save_file(load_file(sd15[1]) | more, path, metadata)
        with pytest.raises(CheckpointError, match=r"bits.safetensors is quantised as nvfp4 .*time_embed.0"):
            open_checkpoint(path)


@pytest.mark.parametrize("said", ["{", "[]", '{"layers": []}', '{"layers": {"x": 1}}'])
def test_odd_words_on_bits_are_refused_with_the_file_s_name(sd15, tmp_path, said):
    mark = torch.tensor(list(said.encode()), dtype=torch.uint8)
    marked = {f"{UNET}time_embed.0.comfy_quant": mark} if "layers" not in said else {}
    for more, metadata in ((marked, None), ({}, {"_quantization_metadata": said})):
        if not more and not metadata:
            continue
        save_file(load_file(sd15[1]) | more, tmp_path / "odd.safetensors", metadata)
        with pytest.raises(CheckpointError, match="odd.safetensors"):
            open_checkpoint(tmp_path / "odd.safetensors")


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def without_vae(request, tmp_path_factory):
    """(architecture, file without an autoencoder, folder without one, the folder with it)"""
    import shutil

    folder, file = request.getfixturevalue(request.param)
    made = tmp_path_factory.mktemp(request.param)
    save_file({k: v for k, v in load_file(file).items() if not k.startswith(VAE)}, made / "bare.safetensors")
    shutil.copytree(folder, made / "bare", ignore=shutil.ignore_patterns("vae"))
    return (SD1 if request.param == "sd15" else SDXL), made / "bare.safetensors", made / "bare", folder, file


@pytest.mark.parametrize("form", ["folder", "pipeline", "file", "original file", "checkpoint"])
def test_an_autoencoder_of_its_own(without_vae, form, tmp_path):
    architecture, file, bare, folder, whole = without_vae
    for path in (file, bare):
        with pytest.raises(CheckpointError, match=f"{path.name}.* no (autoencoder inside|vae/).*--vae"):
            open_checkpoint(path)
    original = {key.removeprefix(VAE): value for key, value in load_file(whole).items() if key.startswith(VAE)}
    save_file(original | {"loss.logvar": torch.zeros(())}, tmp_path / "vae.safetensors")
    vae = {
        "folder": folder / "vae",
        "pipeline": folder,
        "file": folder / "vae" / "diffusion_pytorch_model.safetensors",
        "original file": tmp_path / "vae.safetensors",
        "checkpoint": whole,
    }[form]
    expected = networks(whole)
    require_equal(file, expected, vae)
    require_equal(bare, expected, vae)
    assert networks(file, vae)["vae"].config.scaling_factor == architecture.vae_scaling


def test_another_architecture_s_checkpoint_is_no_autoencoder(sd15, sdxl):
    for (_, file), (_, other) in ((sd15, sdxl), (sdxl, sd15)):
        with pytest.raises(CheckpointError, match="file.safetensors is a checkpoint of SD.*whose autoencoder"):
            open_checkpoint(file, other)


def test_what_is_no_autoencoder_of_these_latents_is_refused(without_vae, tmp_path):
    architecture, file, bare, folder, whole = without_vae
    path = tmp_path / "vae.safetensors"
    weights = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    save_file(weights | {"decoder.conv_in.weight": torch.zeros(64, 16, 3, 3)}, path)
    with pytest.raises(CheckpointError, match="vae.safetensors is an autoencoder of 16 channels; SD.* latents of 4"):
        open_checkpoint(file, path)
    save_file({"taesd_decoder.1.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="vae.safetensors holds no autoencoder of SD.*lacks"):
        open_checkpoint(bare, path)
    with pytest.raises(FileNotFoundError):
        open_checkpoint(file, tmp_path / "none.safetensors")
    other = tmp_path / "vae"
    other.mkdir()
    save_file(weights, other / "diffusion_pytorch_model.safetensors")
    (other / "config.json").write_text(json.dumps({"scaling_factor": 0.3611}))
    with pytest.raises(CheckpointError, match="scales latents by 0.3611, SD.*another architecture's"):
        open_checkpoint(file, other)
    (other / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="config.json is not valid JSON"):
        open_checkpoint(file, other)


@pytest.mark.parametrize(
    "lost",
    [f"{UNET}input_blocks.0.0.weight", f"{UNET}out.2.weight", f"{TEXT}text_model.encoder.layers.0.mlp.fc1.weight"],
)
def test_a_refusal_names_the_file(sd15, lost, tmp_path):
    weights = load_file(sd15[1])
    del weights[lost]
    save_file(weights, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match="broken.safetensors.* lacks "):
        open_checkpoint(tmp_path / "broken.safetensors")
