import math

import pytest
import torch
from understudy.oracles import load_oracle
from understudy.oracles.clip_tokenizer import clip_tokenizer

from .. import small_files
from ..references import PROMPTS, assert_same, images

LN_100 = math.log(100)  # PickScore's own scale


def small(folder, logit_scale=LN_100):
    model = small_files.transformers_clip()
    with torch.no_grad():
        model.logit_scale.fill_(logit_scale)
    return small_files.write(model.state_dict(), folder / "pick.safetensors", {"hidden_act": "quick_gelu"}), None


@pytest.mark.parametrize("logit_scale", [2.6592, 4.605])
def test_scores_are_transformers_logits(tmp_path, logit_scale):
    model = small_files.transformers_clip()
    with torch.no_grad():
        model.logit_scale.fill_(logit_scale)
    oracle = load_oracle(small(tmp_path, logit_scale)[0], "pickscore")
    tokens = clip_tokenizer()(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(pixel_values=oracle.prepare(images()), **tokens).logits_per_image.diagonal()
    assert_same(oracle, expected, 0.3, model.logit_scale.exp().item())
