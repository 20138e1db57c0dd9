"""Which family a file is, and what is said of a file that is none."""

import os
import pickle
import shutil

import pytest
import torch
from understudy.files import CheckpointError, fill, sha256
from understudy.oracles import load_oracle
from understudy.oracles import tensors as reader
from understudy.oracles.heads import PLAIN, Head
from understudy.oracles.identify import candidates, identify
from understudy.oracles.published import by_name
from understudy.oracles.tensors import TensorFile

from . import small_files
from .families import test_aesthetic_v2_5


@pytest.fixture(scope="module")
def huge(tmp_path_factory):
    """A file with the shapes by which ViT-H-14 is known, and no more of it."""
    tensors = {
        key: torch.zeros(1) for key in ("logit_scale", "text_projection", "visual.proj", "token_embedding.weight")
    }
    tensors["visual.conv1.weight"] = torch.zeros(1280, 3, 1, 1)
    return small_files.write(tensors, tmp_path_factory.mktemp("huge") / "h.safetensors")


def named(path, folder, name, metadata=None):
    return TensorFile(small_files.write(dict(TensorFile(path).items()), folder / name, metadata))


def test_where_families_share_a_layout_metadata_then_hash_then_name_decide(huge, tmp_path):
    with pytest.raises(CheckpointError, match="any of clipscore, hpsv2, hpsv2.1, which share one layout; choose"):
        identify(TensorFile(huge), "auto", "0" * 64)
    assert identify(TensorFile(huge), "hpsv2", "0" * 64) == "hpsv2"
    file = named(huge, tmp_path, "hps_v2.1_compressed.safetensors", {"family": "hpsv2"})
    assert identify(file, "auto", "0" * 64) == "hpsv2"
    torch.save({"state_dict": dict(TensorFile(huge).items())}, tmp_path / "HPS_v2.1_compressed.pt")
    assert identify(TensorFile(tmp_path / "HPS_v2.1_compressed.pt"), "auto", "0" * 64) == "hpsv2.1"
    published = by_name("hpsv2").sha256
    assert identify(TensorFile(tmp_path / "HPS_v2.1_compressed.pt"), "auto", published) == "hpsv2"
    assert identify(TensorFile(huge), "auto", by_name("hpsv2.1").sha256) == "hpsv2.1"


def test_pickscore_by_its_name_or_hash(tmp_path):
    keys = ("logit_scale", "text_projection.weight", "visual_projection.weight", "vision_model.post_layernorm.weight")
    tensors = {key: torch.zeros(1) for key in keys}
    tensors["vision_model.embeddings.patch_embedding.weight"] = torch.zeros(1280, 3, 1, 1)
    for name, family in (
        ("PickScore_v1.safetensors", "pickscore"),
        ("clip-vit-large-patch14.safetensors", "clipscore"),
    ):
        assert identify(TensorFile(small_files.write(tensors, tmp_path / name)), "auto", "0" * 64) == family
    file = TensorFile(small_files.write(tensors, tmp_path / "model.safetensors"))
    with pytest.raises(CheckpointError, match="clipscore, pickscore"):
        identify(file, "auto", "0" * 64)
    assert identify(file, "auto", by_name("pickscore").sha256) == "pickscore"


def test_a_smaller_clip_is_a_clipscore(small_clip):
    assert candidates(TensorFile(small_clip[0])) == ["clipscore", "pickscore"]
    assert load_oracle(small_clip[0]).family == "clipscore"


@pytest.mark.parametrize(("suffix", "wrap"), [(".pt", None), (".pth", "state_dict"), (".bin", "model")])
def test_pickles_without_code_are_read(tmp_path, suffix, wrap):
    tensors = small_files.image_reward_tensors()
    path = tmp_path / f"reward{suffix}"
    torch.save({wrap: tensors, "epoch": 3} if wrap else tensors, path)
    fresh = small_files.write(tensors, tmp_path / "reward.safetensors")
    images = torch.rand(2, 3, 40, 50)
    assert torch.equal(load_oracle(path)(images, ["a", "b"]), load_oracle(fresh)(images, ["a", "b"]))


def test_pickles_of_before_2020_are_read(tmp_path):
    head = small_files.head_tensors("scoring_head.", 64)
    torch.save(head, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert candidates(TensorFile(tmp_path / "old.pth")) == ["aesthetic-v2.5"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_is_read_without_staying_mapped(tmp_path, monkeypatch, suffix):
    """What is read of a mapped file counts as memory until it is opened anew, so that happens every so many bytes."""
    made, path = small_files.head_tensors("", 64), tmp_path / f"head{suffix}"
    small_files.write(made, path) if suffix == ".safetensors" else torch.save(made, path)
    opens = "_opened" if suffix == ".safetensors" else "_unpickled"
    real, opened = getattr(reader, opens), []
    monkeypatch.setattr(reader, opens, lambda path: (opened.append(path), real(path))[1])
    monkeypatch.setattr(reader, "MAPPED", 4 * 16 * 32)
    file = TensorFile(path)
    with torch.device("meta"):
        layers = Head("", PLAIN).layers(file)
    layers = fill(path, layers, file, torch.float32)
    assert 2 <= len(opened) < len(made)
    del file
    path.write_bytes(bytes(path.stat().st_size))
    held = layers.state_dict()
    assert all(torch.equal(held[key], value) for key, value in made.items()), "the network's are copies of its own"


class Code:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Code()}, tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="could run code.*safetensors.torch.save_file"):
        load_oracle(tmp_path / "bad.pt")
    assert not (tmp_path / "made-by-a-pickle").exists()


@pytest.mark.parametrize("begins", [b"\x80\x02", b"PK", b" <"])
def test_a_header_s_length_may_look_like_anything(tmp_path, begins):
    """The first bytes of a safetensors file are the length of its header."""
    head, path = small_files.head_tensors("scoring_head.", 8), tmp_path / "head.safetensors"
    small_files.write(head, path, {"filler": ""})
    missing = (int.from_bytes(begins, "little") - int.from_bytes(path.read_bytes()[:8], "little")) % 2**16
    small_files.write(head, path, {"filler": "x" * missing})
    assert path.read_bytes().startswith(begins)
    assert candidates(TensorFile(path)) == ["aesthetic-v2.5"]


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_plain_pickle_is_refused_with_the_way_to_convert_it(tmp_path, protocol, suffix):
    path = tmp_path / f"plain{suffix}"
    path.write_bytes(pickle.dumps({"weight": [1.0]}, protocol))
    with pytest.raises(CheckpointError, match="a plain Python pickle, so reading it could run code.*save_file"):
        load_oracle(path)


def test_the_prefix_of_training_on_several_devices_is_taken_off(tmp_path):
    head = small_files.head_tensors("scoring_head.", 8)
    torch.save({f"module.{key}": value for key, value in head.items()}, tmp_path / "ddp.pth")
    file = TensorFile(tmp_path / "ddp.pth")
    assert file.keys() == head.keys() and all(torch.equal(file[key], value) for key, value in head.items())


def test_other_files_are_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "ViT-L-14.pt")
    with pytest.raises(CheckpointError, match="TorchScript archive.*save_file"):
        load_oracle(tmp_path / "ViT-L-14.pt")
    torch.save(small_files.head_tensors("layers.", 8), tmp_path / "cut.pth")
    whole = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[:-200])
    with pytest.raises(CheckpointError, match="truncated or not a checkpoint"):
        load_oracle(tmp_path / "cut.pth")
    (tmp_path / "old.pth").write_bytes(b"\x80\x02hello")
    with pytest.raises(CheckpointError, match="truncated or not a checkpoint"):
        load_oracle(tmp_path / "old.pth")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds no tensors by name"):
        load_oracle(tmp_path / "list.pt")
    small_files.write({"x.lora_A.weight": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError, match="not an oracle: it is a LoRA"):
        load_oracle(tmp_path / "lora.safetensors")
    small_files.write({"conv.weight": torch.zeros(1)}, tmp_path / "vae.safetensors")
    with pytest.raises(CheckpointError, match="not an oracle: its tensors begin with conv.weight"):
        load_oracle(tmp_path / "vae.safetensors")


def test_a_head_asks_for_its_encoder(tmp_path, small_clip):
    head = small_files.write(small_files.head_tensors("layers.", 40), tmp_path / "head.safetensors")
    with pytest.raises(CheckpointError, match="only the head of laion-aesthetic-v2.*CLIP ViT-L/14.*--encoder"):
        load_oracle(head)
    with pytest.raises(CheckpointError, match="embeddings of 48 numbers; the head .* takes 40"):
        load_oracle(head, encoder=small_clip[0])
    siglip = {key: value for key, value in small_files.siglip_network().state_dict().items() if "vision_model" in key}
    siglip_file = small_files.write(siglip, tmp_path / "siglip.safetensors")
    with pytest.raises(CheckpointError, match="siglip.*lacks visual_projection.weight.*needs OpenAI's CLIP ViT-L/14"):
        load_oracle(head, encoder=siglip_file)
    head, _ = test_aesthetic_v2_5.small(tmp_path)
    for missing in ("patch_embedding.weight", "position_embedding.weight"):
        key = f"vision_model.embeddings.{missing}"
        part = {name: value for name, value in siglip.items() if name != key}
        with pytest.raises(CheckpointError, match=f"lacks {key}"):
            load_oracle(head, encoder=small_files.write(part, tmp_path / "part.safetensors"))
    with pytest.raises(CheckpointError, match="no SigLIP in transformers' layout"):
        load_oracle(head, encoder=head)


@pytest.mark.parametrize("whole", [False, True])
def test_an_aesthetic_head_is_read_strictly(tmp_path, small_clip, whole):
    head = small_files.head_tensors("layers.", 48)
    tower = {key: value for key, value in TensorFile(small_clip[0]).items() if key.startswith("vis")} if whole else {}
    encoder = None if whole else small_clip[0]
    for change, message in (
        ({"layers.9.bias": torch.zeros(1)}, "also has 9.bias"),
        ({"extra.weight": torch.zeros(1)}, "also has extra.weight"),
        ({"layers.7.weight": torch.zeros(2, 4), "layers.7.bias": torch.zeros(2)}, "its head ends in 2 numbers"),
    ):
        path = small_files.write(head | tower | change, tmp_path / "head.safetensors")
        with pytest.raises(CheckpointError, match=message) as error:
            load_oracle(path, "laion-aesthetic-v2", encoder=encoder)
        assert str(path) in str(error.value)


def test_remarks_name_cut_and_empty_prompts(tmp_path):
    oracle = load_oracle(small_files.write(small_files.image_reward_tensors(), tmp_path / "r.safetensors"))
    assert oracle.remarks(["a cat", "a dog"]) == []
    assert oracle.remarks(["a " * 33, "a cat"]) == []
    assert oracle.remarks(["a " * 34, "a " * 34, "b " * 40]) == [
        "imagereward reads the first 35 tokens of a prompt; 2 longer ones are cut"
    ]
    assert "empty text" in oracle.remarks(["a", " "])[0]
    images = torch.rand(2, 3, 40, 40)
    assert torch.equal(oracle(images, ["a " * 33, ""]), oracle(images, ["a " * 200, " "]))


def test_another_encoder_makes_another_oracle_of_the_same_head(tmp_path, small_clip):
    head = small_files.write(small_files.head_tensors("layers.", 48), tmp_path / "head.safetensors")
    other = small_files.write(small_files.open_clip_network().state_dict(), tmp_path / "clip.safetensors")
    same = shutil.copy(other, tmp_path / "again.safetensors")
    first, second, again = (load_oracle(head, encoder=path).fingerprint for path in (small_clip[0], other, same))
    assert first != second == again
    assert sha256(head) not in (first, second)


def test_positions_that_a_network_saves_itself_need_not_be_in_a_file():
    """As transformers before 4.31 builds CLIP, which is what A1111 has."""

    class Embeddings(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(3))
            self.register_buffer("position_ids", torch.arange(5)[None])

    for given in ({"weight": torch.ones(3)}, {"weight": torch.ones(3), "position_ids": torch.arange(5)[None]}):
        with torch.device("meta"):
            network = Embeddings()
        filled = fill("a.safetensors", network, given, torch.float32)
        assert filled.weight.tolist() == [1, 1, 1] and filled.position_ids.tolist() == [[0, 1, 2, 3, 4]]
    with torch.device("meta"):
        network = Embeddings()
    with pytest.raises(CheckpointError, match="a.safetensors is not complete: its Embeddings lacks weight"):
        fill("a.safetensors", network, {}, torch.float32)


def test_a_pickle_that_the_hosts_own_check_refuses(tmp_path, monkeypatch):
    """A1111 has a torch.load of its own, which takes a path as text alone and returns None for what it refuses."""
    path = tmp_path / "head.pth"
    torch.save(small_files.head_tensors("", 64), path)
    given = []
    monkeypatch.setattr(torch, "load", lambda file, **_: given.append(file))
    with pytest.raises(CheckpointError, match="head.pth is a pickle that this program's own check refuses") as refused:
        TensorFile(path)
    assert "truncated" not in str(refused.value)
    assert given == [str(path)]
