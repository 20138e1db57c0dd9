import pytest
import torch
from understudy.oracles import load_oracle
from understudy.oracles.clip_tokenizer import clip_tokenizer

from .. import small_files
from ..references import PROMPTS, assert_same, by_open_clip, images


def small(folder):
    return small_files.write(small_files.open_clip_network().state_dict(), folder / "clip.safetensors"), None


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_scores_of_open_clip_s_layout(tmp_path, quick_gelu):
    network = small_files.open_clip_network(quick_gelu)
    path = small_files.write(network.state_dict(), tmp_path / ("openai.safetensors" if quick_gelu else "c.safetensors"))
    oracle = load_oracle(path)
    assert oracle.family == "clipscore"
    assert_same(oracle, 100 * by_open_clip(network, oracle.prepare(images()), PROMPTS), 3, 100)


def test_scores_of_transformers_layout(small_clip):
    path, model = small_clip
    oracle = load_oracle(path)
    assert oracle.family == "clipscore"
    tokens = clip_tokenizer()(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = model(pixel_values=oracle.prepare(images()), **tokens)
    assert_same(oracle, 100 * (output.image_embeds * output.text_embeds).sum(-1), 3, 100)
