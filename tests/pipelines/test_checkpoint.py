import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from understudy.files import CheckpointError
from understudy.oracles.clip_tokenizer import clip_tokenizer
from understudy.pipelines.checkpoint import open_checkpoint
from understudy.pipelines.folder import load_folder
from understudy.pipelines.layout import SD1, SDXL
from understudy.pipelines.model import StudentPlan, draw
from understudy.pipelines.stable_diffusion import (
    Components,
    StableDiffusion,
    TextEncoder,
    guidance_embedding,
    zero_terminal_snr,
)
from understudy.samplers.denoisers import scaled_linear


@pytest.mark.parametrize(("name", "architecture"), [("sd15", SD1), ("sdxl", SDXL)])
def test_single_file_is_the_folder(request, name, architecture):
    folder, file = map(open_checkpoint, request.getfixturevalue(name))
    assert folder.architecture is file.architecture is architecture
    first, second = folder.load(torch.float32), file.load(torch.float32)
    pairs = [(first.unet, second.unet), (first.vae, second.vae)]
    pairs += [(a.network, b.network) for a, b in zip(first.texts, second.texts, strict=True)]
    for one, other in pairs:
        mine, its = one.state_dict(), other.state_dict()
        assert mine.keys() == its.keys() and all(torch.equal(mine[key], its[key]) for key in mine)
    torch.testing.assert_close(first.alphas_cumprod, second.alphas_cumprod, rtol=1e-5, atol=1e-7)
    assert first.prediction == second.prediction == "eps"
    # Equal weights with other heads or activations would compute something else.
    models = [StableDiffusion(components, torch.device("cpu")) for components in (first, second)]
    x = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    texts = ["a cat", "a very long red train"]
    outputs = [
        m.denoiser(x * 5, torch.tensor([5.0, 5.0]), **m.conditioning(texts, 1, (32, 32))["cond"]) for m in models
    ]
    torch.testing.assert_close(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], x * 5)


def test_conditioning_is_what_diffusers_pipelines_make(sd15, sdxl):
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    prompts = ["a cat", "a very long red train"]
    components = load_folder(sd15[0], torch.float32)
    model = StableDiffusion(components, torch.device("cpu"), negative="blurry")
    text = components.texts[0]
    pipeline = StableDiffusionPipeline(
        components.vae,
        text.network,
        text.tokenizer,
        components.unet,
        DDIMScheduler(steps_offset=1, clip_sample=False),
        None,
        None,
        None,
        False,
    )
    expected = pipeline.encode_prompt(prompts, "cpu", 1, True, ["blurry"] * 2)
    mine = model.conditioning(prompts, 7.5, (32, 32))
    assert torch.equal(mine["cond"]["context"], expected[0])
    assert torch.equal(mine["uncond"]["context"], expected[1])

    components = load_folder(sdxl[0], torch.float32)
    first, second = components.texts
    pipeline = StableDiffusionXLPipeline(
        components.vae,
        first.network,
        second.network,
        first.tokenizer,
        second.tokenizer,
        components.unet,
        DDIMScheduler(),
        add_watermarker=False,
    )
    for negative in ("", "blurry"):
        model = StableDiffusion(components, torch.device("cpu"), negative)
        expected = pipeline.encode_prompt(
            prompts,
            device="cpu",
            do_classifier_free_guidance=True,
            negative_prompt=[negative] * 2 if negative else None,
        )
        mine = model.conditioning(prompts, 7.5, (32, 48))
        got = [mine[branch][key] for key in ("context", "pooled") for branch in ("cond", "uncond")]
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    # Height before width, as the network was trained.
    assert mine["cond"]["time_ids"].tolist() == [[32, 48, 0, 0, 32, 48]] * 2
    assert "uncond" not in model.conditioning(prompts, 1, (32, 32))


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_denoised_is_what_the_diffusers_scheduler_computes(request, name):
    from diffusers import DDIMScheduler

    components = load_folder(request.getfixturevalue(name)[0], torch.float32)
    for prediction, said in (("eps", "epsilon"), ("v", "v_prediction")):
        model = StableDiffusion(type(components)(**vars(components) | {"prediction": prediction}), torch.device("cpu"))
        cond = model.conditioning(["a cat"], 1, (32, 32))["cond"]
        scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=said, clip_sample=False
        )
        scheduler.set_timesteps(10)
        t, x = 600, torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = scheduler.step(model._network(x, torch.tensor([t]), **cond), t, x).pred_original_sample
            sigma = model.denoiser.sigmas[t]
            mine = model.denoiser(x * (1 + sigma**2).sqrt(), sigma[None], **cond)
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-4)


def test_folder_in_half_precision_and_its_own_tokenizer(sd15, tmp_path):
    from diffusers import UNet2DConditionModel

    folder = tmp_path / "half"
    shutil.copytree(sd15[0], folder)
    shutil.rmtree(folder / "unet")
    UNet2DConditionModel.from_pretrained(sd15[0] / "unet").half().save_pretrained(folder / "unet", variant="fp16")
    assert [path.name for path in (folder / "unet").glob("*.safetensors")] == [
        "diffusion_pytorch_model.fp16.safetensors"
    ]
    clip_tokenizer(pad_token="!").save_pretrained(folder / "tokenizer")
    components = open_checkpoint(folder).load(torch.bfloat16)
    assert components.unet.dtype == components.texts[0].network.dtype == torch.bfloat16
    assert components.vae.dtype == torch.float32
    assert components.texts[0].tokenizer.pad_token == "!"


def test_prediction_and_schedule_come_from_the_file(sd15, tmp_path):
    weights = load_file(sd15[1])
    save_file(weights, tmp_path / "v.safetensors", {"modelspec.prediction_type": "v"})
    assert open_checkpoint(tmp_path / "v.safetensors").load(torch.float32).prediction == "v"
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    save_file(weights | marks, tmp_path / "marked.safetensors")
    components = open_checkpoint(tmp_path / "marked.safetensors").load(torch.float32)
    assert components.prediction == "v" and components.alphas_cumprod[-1] < 1e-6
    folder = tmp_path / "folder"
    shutil.copytree(sd15[0], folder)
    config = folder / "scheduler" / "scheduler_config.json"
    changed = json.loads(config.read_text()) | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    config.write_text(json.dumps(changed))
    same = open_checkpoint(folder).load(torch.float32)
    assert same.prediction == "v"
    torch.testing.assert_close(same.alphas_cumprod, components.alphas_cumprod, rtol=1e-4, atol=1e-7)
    config.write_text(json.dumps(changed | {"prediction_type": "flow"}))
    with pytest.raises(CheckpointError, match="prediction_type is 'flow'; expected one of epsilon"):
        open_checkpoint(folder).load(torch.float32)


def test_zero_terminal_snr_matches_diffusers():
    from diffusers import DDIMScheduler

    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    expected = DDIMScheduler(**schedule, rescale_betas_zero_snr=True).alphas_cumprod
    torch.testing.assert_close(zero_terminal_snr(scaled_linear()).float(), expected, rtol=1e-4, atol=1e-6)


def test_guidance_embedding_matches_diffusers():
    from diffusers import LatentConsistencyModelPipeline

    expected = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, torch.tensor([0.0, 6.5]), 256)
    torch.testing.assert_close(guidance_embedding(torch.tensor([0.0, 6.5]), 256), expected, rtol=1e-4, atol=1e-4)


def test_embedded_guidance_is_one_evaluation():
    """A latent consistency model reads its guidance scale; it is not guided from outside too."""
    from .conftest import sd15_parts, text_encoder

    torch.manual_seed(0)
    plain = sd15_parts()["unet"]
    unet = type(plain).from_config(plain.config, time_cond_proj_dim=16)
    torch.nn.init.normal_(unet.time_embedding.cond_proj.weight)
    text = TextEncoder(text_encoder(32), clip_tokenizer())
    components = Components(unet, sd15_parts()["vae"], (text,), scaled_linear(), "eps", False)
    model = StableDiffusion(components, torch.device("cpu"))
    images = {}
    for cfg in (1.0, 8.0):
        images[cfg], evaluations = draw(model, ["a cat"], [0], (16, 16), StudentPlan(2, cfg), lambda step, steps: None)
        assert evaluations == 2
    assert not torch.allclose(images[1.0], images[8.0], atol=1e-3)
    assert model.conditioning(["a cat"], 8.0, (16, 16))["cond"]["guidance"].tolist() == [7.0]


def write(path, tensors):
    save_file({key: torch.zeros(value) for key, value in tensors.items()}, path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"lora_unet_x.lora_up.weight": 2}, "is a LoRA, not a checkpoint; name the checkpoint that it is for"),
        ({"text_model.x": 2}, "a single network or a CLIP; expected an SD 1.x or SDXL checkpoint"),
        ({"what.x": 2}, "something else; expected an SD 1.x"),
        ({"double_blocks.0.x": 2}, "a Flux-like network; expected an SD 1.x"),
        ({"model.diffusion_model.x": 2}, "no text encoder of SD 1.x or SDXL"),
        ({"model.diffusion_model.x": 2, "cond_stage_model.model.x": 2}, "no text encoder of SD 1.x or SDXL"),
        (
            {"model.diffusion_model.x": 2, "cond_stage_model.transformer.x": 2},
            r"file.safetensors: the checkpoint lacks text_model.embeddings",
        ),
        ({"model.diffusion_model.x": 2, "edm_mean": 4}, "EDM's noise levels, as Playground 2.5"),
        ({"model.diffusion_model.x": 2, "edm_vpred.sigma_max": 1}, "EDM's noise levels, as Playground 2.5"),
    ],
)
def test_files_of_another_kind(tmp_path, tensors, message):
    write(tmp_path / "file.safetensors", tensors)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "file.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.diffusion_model.middle_block.0.in_layers.0.weight"), "UNet2DCond.* lacks mid_block"),
        (lambda w: w.pop("first_stage_model.decoder.conv_out.bias"), "AutoencoderKL lacks decoder.conv_out.bias"),
        (
            lambda w: w.pop("cond_stage_model.transformer.text_model.final_layer_norm.bias"),
            "CLIPTextModel lacks .*final_layer_norm.bias",
        ),
        (lambda w: w.pop("model.diffusion_model.input_blocks.0.0.weight"), "lacks input_blocks.0.0.weight"),
        (
            lambda w: w.update({"model.diffusion_model.out.0.weight": torch.zeros(5)}),
            r"conv_norm_out.weight of its UNet2DConditionModel is \[5\], expected \[32\]",
        ),
        (
            lambda w: w.update({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 9, 3, 3)}),
            "reads 9 channels and gives 4: an inpainting",
        ),
    ],
)
def test_incomplete_checkpoint(sd15, tmp_path, change, message):
    weights = load_file(sd15[1])
    change(weights)
    save_file(weights, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "broken.safetensors").load(torch.float32)


@pytest.mark.parametrize("config", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_a_folder_s_config_that_is_no_object_is_named(sd15, tmp_path, config):
    folder = tmp_path / "folder"
    shutil.copytree(sd15[0], folder)
    (folder / config).write_text("[]")
    with pytest.raises(CheckpointError, match=f"folder/{config} is not an object of JSON"):
        open_checkpoint(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("change", ["shape", "name"])
def test_a_folder_s_weights_that_do_not_fit_are_named(sd15, tmp_path, part, change):
    folder = tmp_path / "folder"
    shutil.copytree(sd15[0], folder)
    (file,) = (folder / part).glob("*.safetensors")
    if change == "name":
        file.rename(file.with_name("weights.safetensors"))
    else:
        weights = load_file(file)
        key = max(weights, key=lambda key: weights[key].ndim)
        save_file(weights | {key: weights[key][:-1].contiguous()}, file)
    with pytest.raises(CheckpointError, match=f"folder/{part}"):
        open_checkpoint(folder).load(torch.float32)


def test_damaged_folders(sd15, tmp_path):
    with pytest.raises(CheckpointError, match="model_index.json is missing; expected a diffusers folder"):
        open_checkpoint(tmp_path)
    folder = tmp_path / "folder"
    shutil.copytree(sd15[0], folder)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    own = scheduler.read_text()
    scheduler.write_text(json.dumps(json.loads(own) | {"_class_name": "EDMDPMSolverMultistepScheduler"}))
    with pytest.raises(CheckpointError, match="EDM's noise levels, as Playground 2.5"):
        open_checkpoint(folder)
    scheduler.write_text(own)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="unet.*truncated"):
        open_checkpoint(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match="unet has no .safetensors"):
        open_checkpoint(folder).load(torch.float32)
    shutil.rmtree(folder / "unet")
    with pytest.raises(CheckpointError, match="has no unet/"):
        open_checkpoint(folder)
    (folder / "model_index.json").write_text("{")
    with pytest.raises(CheckpointError, match="model_index.json is not valid JSON"):
        open_checkpoint(folder)
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_checkpoint(tmp_path / "none.safetensors")
