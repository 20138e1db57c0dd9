"""The networks compute what the reference implementations compute, on the same prepared input."""

import copy

import pytest
import torch
from understudy.oracles import load_oracle
from understudy.oracles.clip_tokenizer import clip_tokenizer
from understudy.oracles.imagereward import bert_tokenizer

from . import small_files
from .blip_by_hand import ByHand

PROMPTS = ["a small red star left of a large blue circle", "a cat", "Café, naïve: 3 DOGS!", "a cat"]


@pytest.fixture(scope="module")
def images():
    coarse = torch.rand(4, 3, 6, 9, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, (45, 70), mode="bilinear").mul(255).round().div(255)


def by_open_clip(network, pixels, prompts):
    import open_clip

    tokens = open_clip.tokenize(prompts)
    with torch.no_grad():
        picture, text = network.encode_image(pixels, normalize=True), network.encode_text(tokens, normalize=True)
    return (picture * text).sum(-1)


def assert_same(oracle, images, prompts, expected, spread, scale=1.0):
    """``scale``: what the score has more than a cosine, of which 1e-4 are allowed."""
    scores = oracle(images, prompts)
    assert scores.dtype == torch.float32 and scores.shape == (len(prompts),)
    assert scores.std() > spread, "scores that hardly differ would match anything"
    torch.testing.assert_close(scores / scale, expected / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("family", "scale", "spread"), [("clipscore", 100, 3), ("hpsv2", 1, 0.03), ("hpsv2.1", 1, 0.03)]
)
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_open_clip_layout(tmp_path, images, family, scale, spread, quick_gelu):
    network = small_files.open_clip_network(quick_gelu)
    path = small_files.write(network.state_dict(), tmp_path / ("openai.safetensors" if quick_gelu else "c.safetensors"))
    oracle = load_oracle(path, family)
    assert oracle.family == family
    expected = scale * by_open_clip(network, oracle.prepare(images), PROMPTS)
    assert_same(oracle, images, PROMPTS, expected, spread, scale)


@pytest.mark.parametrize("logit_scale", [2.6592, 4.605])
def test_pickscore(small_clip, images, tmp_path, logit_scale):
    model = copy.deepcopy(small_clip[1])
    with torch.no_grad():
        model.logit_scale.fill_(logit_scale)
    path = small_files.write(model.state_dict(), tmp_path / "pick.safetensors", {"hidden_act": "quick_gelu"})
    oracle = load_oracle(path, "pickscore")
    tokens = clip_tokenizer()(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(pixel_values=oracle.prepare(images), **tokens).logits_per_image.diagonal()
    assert_same(oracle, images, PROMPTS, expected, 0.3, model.logit_scale.exp().item())


@pytest.mark.parametrize("layout", ["open_clip", "transformers", "image half"])
def test_laion_aesthetic(tmp_path, small_clip, images, layout):
    head = small_files.head_tensors("layers.", 48)
    torch.save(head, tmp_path / "sac+logos+ava1-l14-linearMSE.pth")
    if layout == "open_clip":
        network = small_files.open_clip_network(quick_gelu=True)
        encoder = small_files.write(network.state_dict(), tmp_path / "openai.safetensors")
        encode = network.encode_image
    else:
        path, model = small_clip
        keep = "" if layout == "transformers" else "vis"
        state = {key: value for key, value in model.state_dict().items() if key.startswith(keep)}
        encoder = small_files.write(state, tmp_path / "clip.safetensors", {"hidden_act": "quick_gelu"})

        def encode(pixels):
            return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)

    oracle = load_oracle(tmp_path / "sac+logos+ava1-l14-linearMSE.pth", encoder=encoder)
    with torch.no_grad():
        x = torch.nn.functional.normalize(encode(oracle.prepare(images)), dim=-1)
        for number in (0, 2, 4, 6, 7):
            x = x @ head[f"layers.{number}.weight"].T + head[f"layers.{number}.bias"]
    assert oracle.family == "laion-aesthetic-v2"
    assert_same(oracle, images, PROMPTS, x[:, 0], 0.01)
    assert torch.equal(oracle(images, PROMPTS), oracle(images, [""] * 4)), "the prompt is not read"


@pytest.mark.parametrize(("width", "heads"), [(64, 1), (576, 8), (768, 12)])
def test_aesthetic_v25(tmp_path, images, width, heads):
    """so400m's heads are 72 wide, those of smaller SigLIPs 64; 576 is a whole number of both."""
    network = small_files.siglip_network(hidden_size=width, num_attention_heads=heads)
    encoder = small_files.write(network.state_dict(), tmp_path / "siglip.safetensors")
    head = small_files.head_tensors("scoring_head.", width, numbers=(0, 2, 4, 6, 8))
    torch.save(head, tmp_path / "aesthetic_predictor_v2_5.pth")
    oracle = load_oracle(tmp_path / "aesthetic_predictor_v2_5.pth", encoder=encoder)
    with torch.no_grad():
        x = network.vision_model(pixel_values=oracle.prepare(images)).pooler_output
        x = x / x.norm(dim=-1, keepdim=True)
        for number in (0, 2, 4, 6, 8):
            x = x @ head[f"scoring_head.{number}.weight"].T + head[f"scoring_head.{number}.bias"]
    assert oracle.family == "aesthetic-v2.5"
    assert_same(oracle, images, PROMPTS, x[:, 0], 0.01)


def test_image_reward(tmp_path, images):
    tensors = small_files.image_reward_tensors()
    torch.save(tensors, tmp_path / "ImageReward.pt")
    oracle = load_oracle(tmp_path / "ImageReward.pt")
    prompts = PROMPTS[:3] + ["a lighthouse " * 40]
    read = bert_tokenizer()(prompts, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    expected = ByHand(tensors).score(oracle.prepare(images), read["input_ids"], read["attention_mask"])
    assert oracle.family == "imagereward"
    assert_same(oracle, images, prompts, expected, 0.1)


def test_bert_tokenizer_is_the_published_one():
    # As bert-base-uncased's own tokenizer reads it; BLIP's two tokens come behind its 30,522.
    tokenizer = bert_tokenizer()
    assert tokenizer("a photo of a cat").input_ids == [101, 1037, 6302, 1997, 1037, 4937, 102]
    assert len(tokenizer) == 30524 and tokenizer.convert_tokens_to_ids(["[DEC]", "[ENC]"]) == [30522, 30523]
    assert tokenizer("Naïve").input_ids == tokenizer("naive").input_ids
