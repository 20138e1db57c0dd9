"""Small random SD 1.5 and SDXL pipelines, as diffusers folders and as single files with the same weights."""

import pytest
import torch
from safetensors.torch import save_file

from .original_layout import original_layout

TEXT = {"intermediate_size": 64, "num_hidden_layers": 3, "vocab_size": 49408, "bos_token_id": 49406}
TEXT |= {"eos_token_id": 49407}


def text_encoder(width, activation="quick_gelu", projection=None):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    shared = {**TEXT, "hidden_size": width, "num_attention_heads": max(width // 64, 1), "hidden_act": activation}
    config = CLIPTextConfig(**shared, projection_dim=projection or width)
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def vae(scaling, force_upcast):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=[32, 64],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        layers_per_block=1,
        latent_channels=4,
        scaling_factor=scaling,
        force_upcast=force_upcast,
    )


def scheduler(prediction):
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        steps_offset=1,
        clip_sample=False,
    )


def sd15_parts(prediction="epsilon"):
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        block_out_channels=[32, 64],
        down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=8,
    )
    return {
        "unet": unet,
        "vae": vae(0.18215, False),
        "text_encoder": text_encoder(32),
        "scheduler": scheduler(prediction),
    }


def sdxl_parts(prediction="epsilon"):
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        block_out_channels=[64, 128],
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
        layers_per_block=1,
        transformer_layers_per_block=[1, 2],
        cross_attention_dim=96,
        attention_head_dim=[1, 2],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=48 + 6 * 8,
    )
    return {
        "unet": unet,
        "vae": vae(0.13025, True),
        "text_encoder": text_encoder(32),
        "text_encoder_2": text_encoder(64, "gelu", projection=48),
        "scheduler": scheduler(prediction),
    }


def livelier(parts, seed):
    """Fresh networks hardly react to their text; larger weights make pictures that differ."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name in ("text_encoder", "text_encoder_2", "unet"):
            for key, value in parts[name].named_parameters() if name in parts else ():
                if "attn2" in key or "token_embedding" in key:
                    value.mul_(4)
    return parts


def save_folder(parts, folder):
    import json

    for name, part in parts.items():
        (part.save_config if name == "scheduler" else part.save_pretrained)(folder / name)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder


def save_pair(parts, folder):
    save_folder(parts, folder / "folder")
    save_file(original_layout(parts), folder / "file.safetensors")
    return folder / "folder", folder / "file.safetensors"


@pytest.fixture(scope="session")
def sd15(tmp_path_factory):
    """(diffusers folder, single file)"""
    torch.manual_seed(1)
    return save_pair(livelier(sd15_parts(), 1), tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory):
    """(diffusers folder, single file)"""
    torch.manual_seed(2)
    return save_pair(livelier(sdxl_parts(), 2), tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A small random CLIP file."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(3)
    tower = {"hidden_size": 64, "num_attention_heads": 1, "intermediate_size": 64, "num_hidden_layers": 1}
    text = {**tower, **TEXT, "projection_dim": 32}
    vision = {**tower, "image_size": 32, "patch_size": 8, "projection_dim": 32}
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)).save_pretrained(folder)
    return folder / "model.safetensors"
