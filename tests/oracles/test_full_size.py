"""The same parity at the published files' own sizes; minutes, and up to 12 GB of memory."""

import pytest
import torch
from understudy.oracles import load_oracle
from understudy.oracles.clip_tokenizer import clip_tokenizer
from understudy.oracles.families.imagereward import bert_tokenizer

from . import full_size, small_files
from .blip_by_hand import ByHand
from .references import by_open_clip

PROMPTS = ["a small red star left of a large blue circle", "a lighthouse at dusk"]
IMAGES = full_size.pictures(2)[..., :300, :400]

pytestmark = pytest.mark.slow


def loaded(family, folder):
    path, encoder = full_size.write(family, folder)
    return load_oracle(path, family, encoder=encoder), path, encoder


def assert_same(scores, expected, scale=1.0):
    """``scale``: what the score has more than a cosine, of which 1e-4 are allowed."""
    assert scores.std() / scale > 1e-3, "scores that hardly differ would match anything"
    torch.testing.assert_close(scores / scale, expected / scale, atol=1e-4, rtol=0)


def test_image_reward(tmp_path):
    oracle, path, _ = loaded("imagereward", tmp_path)
    from safetensors.torch import load_file

    read = bert_tokenizer()(PROMPTS, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    with torch.no_grad():
        expected = ByHand(load_file(path)).score(oracle.prepare(IMAGES), read["input_ids"], read["attention_mask"])
    assert_same(oracle(IMAGES, PROMPTS), expected)


def test_hps(tmp_path):
    oracle, path, _ = loaded("hpsv2.1", tmp_path)
    from safetensors.torch import load_file

    reference = small_files.open_clip_network(**full_size.VIT_H)
    reference.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    assert_same(oracle(IMAGES, PROMPTS), by_open_clip(reference, oracle.prepare(IMAGES), PROMPTS))


@pytest.mark.parametrize(("family", "sizes"), [("pickscore", full_size.CLIP_H), ("clipscore", full_size.CLIP_L)])
def test_clip(tmp_path, family, sizes):
    from safetensors.torch import load_file
    from transformers import CLIPConfig, CLIPModel

    oracle, path, _ = loaded(family, tmp_path)
    activation = "gelu" if family == "pickscore" else "quick_gelu"
    shared = {"projection_dim": sizes["projection"], "hidden_act": activation}
    vision = {"hidden_size": sizes["width"], "num_hidden_layers": sizes["layers"], "intermediate_size": sizes["inner"]}
    vision |= {"num_attention_heads": sizes["heads"], "patch_size": 14} | shared
    text = sizes["text"] | shared | {"bos_token_id": 49406, "eos_token_id": 49407}
    reference = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=sizes["projection"])).eval()
    reference.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    tokens = clip_tokenizer()(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = reference(pixel_values=oracle.prepare(IMAGES), **tokens)
    cosine = (output.image_embeds * output.text_embeds).sum(-1)
    scale = reference.logit_scale.exp().item() if family == "pickscore" else 100
    assert_same(oracle(IMAGES, PROMPTS), cosine * scale, scale)


def clip_l_tower():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=224,
        patch_size=14,
        hidden_act="quick_gelu",
        projection_dim=768,
    )
    return CLIPVisionModelWithProjection(config)


@pytest.mark.parametrize(
    ("family", "tower", "prefix", "numbers"),
    [
        ("laion-aesthetic-v2", clip_l_tower, "layers.", (0, 2, 4, 6, 7)),
        ("aesthetic-v2.5", full_size.so400m_tower, "scoring_head.", (0, 2, 4, 6, 8)),
    ],
)
def test_aesthetic(tmp_path, family, tower, prefix, numbers):
    oracle, path, encoder = loaded(family, tmp_path)
    from safetensors.torch import load_file

    reference, head, pixels = tower().eval(), load_file(path), oracle.prepare(IMAGES)
    expected = reference.state_dict().keys()
    tensors = {key: value.float() for key, value in load_file(encoder).items() if key.startswith("vis")}
    if not tensors.keys() & expected:  # transformers 5 dropped SigLIP's prefix
        tensors = {key.removeprefix("vision_model."): value for key, value in tensors.items()}
    reference.load_state_dict(tensors)
    with torch.no_grad():
        output = reference(pixel_values=pixels)
        x = output.image_embeds if family == "laion-aesthetic-v2" else output.pooler_output
        x = x / x.norm(dim=-1, keepdim=True)
        for number in numbers:
            x = x @ head[f"{prefix}{number}.weight"].T + head[f"{prefix}{number}.bias"]
    assert pixels.shape[-1] == (224 if family == "laion-aesthetic-v2" else 384)
    assert_same(oracle(IMAGES, PROMPTS), x[:, 0])
