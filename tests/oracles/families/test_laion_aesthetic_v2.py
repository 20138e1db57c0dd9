import pytest
import torch
from understudy.files import CheckpointError
from understudy.oracles import load_oracle
from understudy.oracles.about import about
from understudy.oracles.convert import convert

from .. import small_files
from ..references import PROMPTS, assert_same, by_head, images

LINEAR, RELU = (0, 2, 4, 6, 7), (0, 3, 6, 9, 11)


def small(folder, numbers=LINEAR, name="laion.safetensors"):
    """A head as one of the author's training scripts writes it, and its encoder."""
    clip = small_files.write(small_files.open_clip_network().state_dict(), folder / "clip.safetensors")
    return small_files.write(small_files.head_tensors("layers.", 48, numbers=numbers), folder / name), clip


@pytest.mark.parametrize("layout", ["open_clip", "transformers", "image half"])
def test_scores_are_the_head_s_of_every_layout_of_its_encoder(tmp_path, small_clip, layout):
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
        expected = by_head(head, "layers.", LINEAR, encode(oracle.prepare(images())))
    assert oracle.family == "laion-aesthetic-v2"
    assert_same(oracle, expected, 0.01)
    assert torch.equal(oracle(images(), PROMPTS), oracle(images(), [""] * 4)), "the prompt is not read"


@pytest.mark.parametrize(("numbers", "relu"), [(LINEAR, False), (RELU, True)])
def test_a_head_with_relu_is_not_read_as_linear(tmp_path, numbers, relu):
    """ava+logos-l14-reluMSE.pth, of the same author, against the layers that its training script has."""
    path, encoder = small(tmp_path, numbers)
    oracle, head = load_oracle(path, encoder=encoder), small_files.head_tensors("layers.", 48, numbers=numbers)
    network = small_files.open_clip_network()
    with torch.no_grad():
        embeddings = network.encode_image(oracle.prepare(images()))
        right, wrong = (by_head(head, "layers.", numbers, embeddings, relu=each) for each in (relu, not relu))
    assert (right - wrong).abs().max() > 0.01
    assert_same(oracle, right, 0.001)
    assert about(path)["head"] == ("with ReLU between its layers" if relu else "linear")
    convert(path, tmp_path / "whole.safetensors", encoder=encoder)
    assert torch.equal(load_oracle(tmp_path / "whole.safetensors")(images(), PROMPTS), oracle(images(), PROMPTS))
    assert about(tmp_path / "whole.safetensors")["head"] == about(path)["head"]


@pytest.mark.parametrize("numbers", [(0, 2, 4, 6, 8), (0, 2, 4, 6), (0, 1, 2, 3, 4), (0, 3, 6, 9, 12), (0,)])
def test_every_other_layout_is_refused_by_name(tmp_path, numbers):
    head = small_files.head_tensors("layers.", 48, (*(32, 16, 8, 4)[: len(numbers) - 1], 1), numbers)
    path = small_files.write(head, tmp_path / "odd.safetensors")
    _, encoder = small(tmp_path)
    for use in (
        lambda: load_oracle(path, encoder=encoder),
        lambda: about(path),
        lambda: convert(path, tmp_path / "out.safetensors", encoder=encoder),
    ):
        told = f"odd.safetensors: the layers of its head .* {', '.join(map(str, numbers))}; expected 0, 2, 4, 6, 7"
        with pytest.raises(CheckpointError, match=told):
            use()
    assert not (tmp_path / "out.safetensors").exists()


def test_layers_that_do_not_follow_from_each_other_are_refused(tmp_path):
    head = small_files.head_tensors("layers.", 48)
    for change, told in (
        ({"layers.4.weight": torch.zeros(8, 5)}, r"layers.4.weight is \[8, 5\], which the layer before does not fit"),
        ({"layers.2.weight": torch.zeros(16)}, r"layers.2.weight is \[16\]"),
        ({"layers.7.weight": torch.zeros(2, 4), "layers.7.bias": torch.zeros(2)}, "its head ends in 2 numbers"),
    ):
        with pytest.raises(CheckpointError, match=told):
            about(small_files.write(head | change, tmp_path / "head.safetensors"))
