"""The demo's diffusers layouts as ComfyUI's: what can be checked without ComfyUI (tests/host compares the results)."""

import pytest
import torch
from understudy.demo_family.family import UNET_CONFIG
from understudy.nodes.demo_networks import PROMPT_ERROR, DemoTokenizer, taesd_keys, unet_config


def test_unet_arguments():
    arguments = unet_config(UNET_CONFIG)
    assert arguments["model_channels"] == UNET_CONFIG["block_out_channels"][0]
    layers = UNET_CONFIG["layers_per_block"]
    attention = sum("CrossAttn" in block for block in UNET_CONFIG["down_block_types"])
    assert sum(arguments["transformer_depth"]) == attention * layers
    assert sum(arguments["transformer_depth_output"]) == attention * (layers + 1)


def test_levels_without_attention_keep_their_place():
    config = {
        **UNET_CONFIG,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    }
    arguments = unet_config({**config, "layers_per_block": 2})
    assert arguments["transformer_depth"] == [0, 0, 1, 1]
    assert arguments["transformer_depth_output"] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "change", [{"norm_num_groups": 8}, {"attention_head_dim": [4, 8]}, {"block_out_channels": [96, 128]}]
)
def test_what_the_host_s_network_cannot_express_is_refused(change):
    with pytest.raises(ValueError, match="cannot be expressed"):
        unet_config({**UNET_CONFIG, **change})


def test_autoencoder_keys_shift_the_decoder_past_the_host_s_clamp():
    renamed = taesd_keys({"encoder.layers.0.weight": torch.ones(1), "decoder.layers.3.conv.0.bias": torch.ones(2)})
    assert set(renamed) == {"vae_scale", "vae_shift", "taesd_encoder.0.weight", "taesd_decoder.4.conv.0.bias"}


def test_empty_and_unreadable_texts_are_the_unconditional_ids():
    tokenizer = DemoTokenizer()
    empty = tokenizer.tokenize_with_weights("  ")
    unreadable = tokenizer.tokenize_with_weights("a red wombat")
    readable = tokenizer.tokenize_with_weights("a red star")
    assert empty["understudy_demo"] == unreadable["understudy_demo"] != readable["understudy_demo"]
    assert empty[PROMPT_ERROR] is None and readable[PROMPT_ERROR] is None
    assert "wombat" in unreadable[PROMPT_ERROR]
