"""Which GELU a CLIP gets: from its file, a config that is surely its own, or its name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from understudy.files import CheckpointError, sha256
from understudy.oracles import load_oracle

from . import small_files

SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "patch_size": 8}  # of small_clip's image tower
QUICK = {"model_type": "clip", "projection_dim": 48, "vision_config": SIZES | {"hidden_act": "quick_gelu"}}
OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {"width": 128, "layers": 2, "patch_size": 8},
        "text_cfg": {},
    }
}


def activation(path):
    """The activation that both towers of a small CLIP get."""
    config = load_oracle(path, "clipscore").network.config
    assert config.vision_config.hidden_act == config.text_config.hidden_act
    return config.text_config.hidden_act


def changed(config, **sizes):
    return config | {"vision_config": config["vision_config"] | sizes}


@pytest.fixture
def clip(tmp_path, small_clip):
    """Files in Hugging Face's and OpenCLIP's layout, alone in folders of their own."""
    (tmp_path / "hf").mkdir(), (tmp_path / "open").mkdir()
    save_file(load_file(small_clip[0]), tmp_path / "hf" / "clip.safetensors")
    small_files.write(small_files.open_clip_network().state_dict(), tmp_path / "open" / "dfn.safetensors")
    return tmp_path / "hf" / "clip.safetensors", tmp_path / "open" / "dfn.safetensors"


def write(path, config):
    path.write_text(json.dumps(config), encoding="utf-8")


def test_metadata_then_config_then_width(clip, small_clip, tmp_path):
    assert activation(small_clip[0]) == "quick_gelu", "as the config.json beside it says, which transformers wrote"
    save_file(load_file(clip[0]), tmp_path / "told.safetensors", {"hidden_act": "quick_gelu"})
    write(tmp_path / "told.json", changed(QUICK, hidden_act="gelu"))
    assert activation(tmp_path / "told.safetensors") == "quick_gelu"
    assert activation(clip[0]) == "gelu", "by its width, 128"


def test_openai_s_layout(clip, tmp_path):
    state = load_file(clip[1])
    assert activation(clip[1]) == "gelu"
    save_file(state, tmp_path / "ViT-L-14-quickgelu.safetensors")
    assert activation(tmp_path / "ViT-L-14-quickgelu.safetensors") == "quick_gelu"
    numbers = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(9)}
    save_file(state | numbers, tmp_path / "ViT.safetensors")
    assert activation(tmp_path / "ViT.safetensors") == "quick_gelu", "as only OpenAI's own files hold numbers"


@pytest.mark.parametrize("name", ["{}.json", "{}.config.json"])
def test_a_config_of_the_file_s_own_name_is_believed(clip, name):
    for path, config in zip(clip, (QUICK, OPEN_CLIP), strict=True):
        (path.parent / "another.bin").write_bytes(b"")
        write(path.parent / name.format(path.stem), config)
        assert activation(path) == "quick_gelu"


@pytest.mark.parametrize("name", ["config.json", "open_clip_config.json"])
def test_a_bare_config_is_believed_only_where_it_can_be_of_no_other_file(clip, name):
    path, config = (clip[0], QUICK) if name == "config.json" else (clip[1], OPEN_CLIP)
    write(path.with_name(name), config)
    assert activation(path) == "quick_gelu"
    save_file({"x": torch.zeros(1)}, path.with_name("another.safetensors"))
    assert activation(path) == "gelu"


def test_a_cloned_repository_holds_one_model_in_several_files(clip):
    write(clip[0].with_name("config.json"), QUICK)
    path = clip[0].rename(clip[0].with_name("model.safetensors"))
    path.with_name("pytorch_model.bin").write_bytes(b"")
    assert activation(path) == "quick_gelu"


@pytest.mark.parametrize(
    "config",
    [
        changed(QUICK, num_hidden_layers=24),
        changed(QUICK, hidden_size=768),
        changed(QUICK, patch_size=14),
        QUICK | {"projection_dim": 512},
        {"model_type": "clip"},
        {"model_type": "siglip", "vision_config": QUICK["vision_config"]},
        ["a list"],
    ],
)
def test_a_bare_config_of_another_model_is_not_believed(clip, config):
    write(clip[0].with_name("config.json"), config)
    assert activation(clip[0]) == "gelu"


def test_a_config_of_its_name_must_be_its_own(clip):
    own = clip[0].with_suffix(".json")
    write(own, {"a manager's": "notes"})
    assert activation(clip[0]) == "gelu"
    write(own, changed(QUICK, hidden_size=1024))
    with pytest.raises(CheckpointError, match="clip.json is not the config of clip.safetensors: its hidden_size is 1"):
        load_oracle(clip[0], "clipscore")
    write(own, changed(QUICK, hidden_act="relu"))
    with pytest.raises(CheckpointError, match="said to be relu; expected gelu or quick_gelu"):
        load_oracle(clip[0], "clipscore")
    own.write_text("{")
    with pytest.raises(CheckpointError, match="clip.json is not valid JSON"):
        load_oracle(clip[0], "clipscore")


def test_another_activation_is_another_oracle(clip, tmp_path):
    """So that a calibration of the one is refused for the other."""
    head = small_files.write(small_files.head_tensors("layers.", 48), tmp_path / "head.safetensors")

    def fingerprints():
        return load_oracle(clip[0], "clipscore").fingerprint, load_oracle(head, encoder=clip[0]).fingerprint

    alone = fingerprints()
    assert alone[0] == sha256(clip[0])
    write(clip[0].with_suffix(".json"), changed(QUICK, hidden_act="gelu"))
    assert fingerprints() == alone, "the config says what was taken anyway"
    write(clip[0].with_suffix(".json"), QUICK)
    assert all(a != b for a, b in zip(fingerprints(), alone, strict=True))
