import pytest
import torch
from safetensors.torch import load_file, save_file
from understudy.files import CheckpointError
from understudy.oracles import FAMILIES, clip, load_oracle
from understudy.oracles.base import OracleError
from understudy.oracles.clip_tokenizer import cleaned, clip_tokenizer
from understudy.oracles.tensors import TensorFile

from . import small_files

IMAGE, TEXT = "vision_model.embeddings", "text_model.embeddings"
PROMPTS = ["a small red star left of a large blue circle", "a cat", "Café, naïve: 3 DOGS!"]


def test_scores_match_transformers(small_clip, pictures):
    path, model = small_clip
    oracle = load_oracle(path)
    scores = oracle(pictures, PROMPTS)
    tokens = clip_tokenizer()(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = model(pixel_values=oracle.prepare(pictures), **tokens)
    expected = 100 * (output.image_embeds * output.text_embeds).sum(-1)
    assert scores.dtype == torch.float32 and scores.shape == (3,)
    assert scores.std() > 5, "scores that hardly differ would match anything"
    torch.testing.assert_close(scores, expected, atol=1e-3, rtol=0)
    assert oracle.family == "clipscore"


def test_long_prompt_is_cut(small_clip, pictures):
    oracle = load_oracle(small_clip[0])
    assert torch.equal(oracle(pictures[:1], ["cat " * 75]), oracle(pictures[:1], ["cat " * 200]))


def test_tokenizer_is_openai_s():
    tokenizer = clip_tokenizer()
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("a", padding="max_length", max_length=4).input_ids == [49406, 320, 49407, 49407]
    assert clip_tokenizer(pad_token="!")("a", padding="max_length", max_length=4).input_ids == [49406, 320, 49407, 0]


# As people paste them: entities, once and twice, curly quotes, accents in one character and in two, other scripts.
TEXTS = [
    "Tom &amp; Jerry &lt;3",
    "&amp;lt;b&amp;gt; and &quot;so&quot; &ldquo;on&rdquo;",
    "a \u201cbig\u201d dog\u2019s \u2018life\u2019",
    "Café, naïve: Ångström",
    "Cafe\u0301",
    "日本の夕日",
    "一只猫，红色！",
    "ＦＵＬＬ\u3000ｗｉｄｔｈ",
    "a \ufb01re, \ufb02owers",
    "  two\n lines\t of \u00a0text ",
    "Ein Mädchen läuft; ÇA VA? кот 🐈",
    "3 DOGS! it's they're 4k 16:9",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_cleaned_texts_are_open_clip_s_tokens(text):
    import open_clip

    theirs = open_clip.tokenize([text])[0].tolist()
    assert clip_tokenizer()(cleaned(text)).input_ids == theirs[: theirs.index(49407) + 1]


def test_families_clean_texts_where_their_original_does(tmp_path, small_clip, pictures):
    written, meant = ["a &quot;cat&quot;"], ['a "cat"']
    path = small_files.write(small_files.open_clip_network().state_dict(), tmp_path / "c.safetensors")
    for file, family, cleans in (
        (path, "clipscore", True),
        (path, "hpsv2.1", True),
        (small_clip[0], "clipscore", False),
        (small_clip[0], "pickscore", False),
    ):
        oracle = load_oracle(file, family)
        assert torch.equal(oracle(pictures[:1], written), oracle(pictures[:1], meant)) == cleans
        assert (oracle.token_count(written[0]) == oracle.token_count(meant[0])) == cleans


def test_large_image_towers_have_sixteen_heads(small_clip):
    file = TensorFile(small_clip[0])
    shapes = dict(file.shapes)
    for width, heads in ((1024, 16), (1280, 16), (1664, 16), (768, 12)):
        shapes["vision_model.encoder.layers.0.mlp.fc1.weight"] = (4 * width, width)
        assert clip._vision_config(file, shapes)["num_attention_heads"] == heads


def test_positions_of_old_files_are_accepted(tmp_path, small_clip, pictures):
    weights = load_file(small_clip[0]) | {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file(weights, tmp_path / "old.safetensors", {"hidden_act": "quick_gelu"})
    old, new = load_oracle(tmp_path / "old.safetensors"), load_oracle(small_clip[0])
    assert torch.equal(old(pictures, PROMPTS), new(pictures, PROMPTS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("vision_model.encoder.layers.1.mlp.fc1.bias"), "lacks vision_model.encoder.layers.1.mlp.fc1"),
        (
            lambda w: w.pop("vision_model.encoder.layers.0.mlp.fc1.weight"),
            "lacks vision_model.encoder.layers.0.mlp.fc1",
        ),
        (lambda w: w.pop("text_model.encoder.layers.0.mlp.fc1.weight"), "lacks text_model.encoder.layers.0.mlp.fc1"),
        (lambda w: w.pop(f"{IMAGE}.patch_embedding.weight"), f"lacks {IMAGE}.patch_embedding.weight"),
        (lambda w: w.pop(f"{IMAGE}.position_embedding.weight"), f"lacks {IMAGE}.position_embedding.weight"),
        (lambda w: w.pop(f"{TEXT}.token_embedding.weight"), f"lacks {TEXT}.token_embedding.weight"),
        (lambda w: w.pop(f"{TEXT}.position_embedding.weight"), f"lacks {TEXT}.position_embedding.weight"),
        (lambda w: w.update(extra=torch.zeros(1)), "also has extra"),
        (
            lambda w: w.update({"visual_projection.weight": torch.zeros(48, 3)}),
            r"visual_projection.weight of its CLIPModel is .48, 3",
        ),
        (
            lambda w: w.update({f"{TEXT}.token_embedding.weight": torch.zeros(100, 64)}),
            "reads 77 tokens of a vocabulary of 100; expected 77 of 49408.* another tokenizer",
        ),
        (lambda w: w.update({f"{TEXT}.position_embedding.weight": torch.zeros(64, 64)}), "reads 64 tokens"),
        (lambda w: w.pop("logit_scale"), "not a file of family clipscore"),
    ],
)
def test_incomplete_clip_is_refused(tmp_path, small_clip, change, message):
    weights = load_file(small_clip[0])
    change(weights)
    save_file(weights, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_oracle(tmp_path / "broken.safetensors", family="clipscore")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04zip", "a PyTorch pickle in spite of its name"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"", "truncated or not"),
        (b"hello", "truncated or not"),
        (None, "truncated or not"),
    ],
)
def test_file_that_is_no_checkpoint_is_refused(tmp_path, small_clip, content, message):
    path = tmp_path / "clip.safetensors"
    path.write_bytes(small_clip[0].read_bytes()[:-1000] if content is None else content)
    with pytest.raises(CheckpointError, match=message) as error:
        load_oracle(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_lora_folder_missing_file_and_unknown_family(tmp_path):
    save_file({"lora_unet_mid.lora_up.weight": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError, match="not a file of family clipscore: it is a LoRA"):
        load_oracle(tmp_path / "lora.safetensors", family="clipscore")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_oracle(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_oracle(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="'fid' is not known; choose auto or one of " + ", ".join(FAMILIES)):
        load_oracle(tmp_path / "lora.safetensors", family="fid")


@pytest.mark.parametrize(
    ("images", "prompts", "message"),
    [
        (torch.zeros(2, 3, 8, 8), ["a"], "1 prompts for 2 images"),
        (torch.zeros(2, 3, 8, 8), "ab", "one string for 2 images"),
        (torch.zeros(0, 3, 8, 8), [], "there are no images; expected a batch of at least one"),
        (torch.zeros(3, 8, 8), ["a"], r"shape \[3, 8, 8\]"),
        (torch.tensor(0.5), ["a"], r"shape \[\]"),
        (torch.zeros(1, 2, 8, 8), ["a"], r"shape \[1, 2, 8, 8\]; expected \[B, 3, H, W\], or 4 channels with alpha"),
        (torch.zeros(1, 8, 8, 3), ["a"], r"shape \[1, 8, 8, 3\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ["a"], "torch.uint8"),
        (torch.full((1, 3, 8, 8), 255.0), ["a"], "image 1 has values from 255 to 255"),
        (torch.full((1, 3, 8, 8), torch.nan), ["a"], "image 1 has values from nan"),
    ],
)
def test_bad_images_are_refused(small_clip, images, prompts, message):
    with pytest.raises(OracleError, match=message):
        load_oracle(small_clip[0])(images, prompts)


def test_nan_score_names_the_image(small_clip, pictures):
    oracle = load_oracle(small_clip[0])
    oracle.network.visual_projection.weight.fill_(torch.nan)
    with pytest.raises(OracleError, match="NaN.*image 1, prompt 'a small red star"):
        oracle(pictures, PROMPTS)
