import pytest
import torch
from understudy.files import CheckpointError
from understudy.oracles import load_oracle
from understudy.oracles.about import about
from understudy.oracles.families.imagereward import bert_tokenizer

from .. import small_files
from ..blip_by_hand import ByHand
from ..references import PROMPTS, assert_same, images


def small(folder):
    return small_files.write(small_files.image_reward_tensors(), folder / "ImageReward.safetensors"), None


def test_scores_are_blip_s_written_out(tmp_path):
    tensors = small_files.image_reward_tensors()
    torch.save(tensors, tmp_path / "ImageReward.pt")
    oracle = load_oracle(tmp_path / "ImageReward.pt")
    prompts = PROMPTS[:3] + ["a lighthouse " * 40]
    read = bert_tokenizer()(prompts, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    expected = ByHand(tensors).score(oracle.prepare(images()), read["input_ids"], read["attention_mask"])
    assert oracle.family == "imagereward"
    assert_same(oracle, expected, 0.1, prompts=prompts)


def test_bert_tokenizer_is_the_published_one():
    # As bert-base-uncased's own tokenizer reads it; BLIP's two tokens come behind its 30,522.
    tokenizer = bert_tokenizer()
    assert tokenizer("a photo of a cat").input_ids == [101, 1037, 6302, 1997, 1037, 4937, 102]
    assert len(tokenizer) == 30524 and tokenizer.convert_tokens_to_ids(["[DEC]", "[ENC]"]) == [30522, 30523]
    assert tokenizer("Naïve").input_ids == tokenizer("naive").input_ids


def test_another_head_is_refused(tmp_path):
    tensors = {key: value for key, value in small_files.image_reward_tensors().items() if not key.startswith("mlp.")}
    tensors |= small_files.head_tensors("mlp.layers.", 64, numbers=(0, 3, 6, 9, 11))
    path = small_files.write(tensors, tmp_path / "relu.safetensors")
    for use in (load_oracle, about):
        with pytest.raises(CheckpointError, match="relu.safetensors: the layers of its head .* 0, 3, 6, 9, 11; expect"):
            use(path)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("mlp.layers.4.weight", "the layers of its head .* 0, 2, 6, 7; expected 0, 2, 4, 6, 7"),
        (
            "blip.text_encoder.encoder.layer.1.output.dense.bias",
            "its ImageReward lacks text.encoder.layer.1.output",
        ),
        ("blip.visual_encoder.blocks.0.mlp.fc1.weight", "lacks vision.encoder.layers.0.mlp.fc1.weight"),
        ("blip.visual_encoder.patch_embed.proj.weight", "lacks vision.embeddings.patch_embedding.weight"),
        ("blip.text_encoder.embeddings.word_embeddings.weight", "lacks text.embeddings.word_embeddings.weight"),
        ("blip.text_encoder.embeddings.position_embeddings.weight", "lacks text.embeddings.position_embeddings.weight"),
        ("blip.text_encoder.encoder.layer.0.intermediate.dense.weight", "lacks text.encoder.layer.0.intermediate"),
        ("blip.text_encoder.encoder.layer.0.crossattention.self.key.weight", "lacks text.encoder.layer.0.crossatt"),
    ],
)
def test_an_incomplete_image_reward_is_refused(tmp_path, missing, message):
    tensors = small_files.image_reward_tensors()
    del tensors[missing]
    with pytest.raises(CheckpointError, match=message):
        load_oracle(small_files.write(tensors, tmp_path / "ImageReward.safetensors"))
    tensors = small_files.image_reward_tensors() | {"blip.extra": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="also has blip.extra"):
        load_oracle(small_files.write(tensors, tmp_path / "ImageReward.safetensors"))
