"""A LoRA in kohya's names."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from understudy.distill_train.exports.export import export
from understudy.files import CheckpointError, read_header, sha256
from understudy.pipelines.lora import merge_lora
from understudy.pipelines.single_file import load_single_file

from .students import make_run, output, precise, with_lora


def small(folder, kind, file):
    """A run that one is made of."""
    weights = with_lora(load_single_file(file, torch.float32).unet)
    return make_run(folder, file, kind, "lora", weights, sha256(file), rank=3, alpha=6.0)


def test_lora_in_kohya_s_names_equals_the_adapter(lora_run, architecture):
    run, trained = lora_run
    result = export(run)
    assert result.folder == "models/loras" and result.node == "Load LoRA"
    header = read_header(result.path)
    assert header.metadata["ss_network_dim"] == "3" and header.metadata["ss_network_alpha"] == "6"
    assert header.metadata["ss_base_model_version"].startswith({"sd1": "sd_v1", "sdxl": "sdxl_"}[architecture[0]])
    loaded = load_single_file(architecture[2], torch.float32).unet
    before = output(loaded)
    merge_lora(loaded, result.path)
    assert (output(loaded) - before).abs().max() > 1e-2
    torch.testing.assert_close(precise(loaded), precise(trained), rtol=1e-4, atol=1e-5)


def test_the_run_s_own_file_is_that_lora(lora_run):
    run, _ = lora_run
    own, exported = load_file(run / "exports" / "student.safetensors"), load_file(export(run).path)
    assert own.keys() == exported.keys() and all(torch.equal(own[key], exported[key]) for key in own)


def test_a_file_under_peft_s_names_as_earlier_runs_left_it_is_exported(lora_run, architecture):
    run, _ = lora_run
    expected, own = load_file(export(run).path), run / "exports" / "student.safetensors"
    said = read_header(own).metadata | {"keys": "peft"}
    weights = with_lora(load_single_file(architecture[2], torch.float32).unet)
    save_file({key: value.contiguous() for key, value in weights.items()}, own, metadata=said)
    exported = load_file(export(run).path)
    assert exported.keys() == expected.keys()
    assert all(torch.equal(exported[key], value) for key, value in expected.items())


@pytest.mark.parametrize("kind, name", [("sd1", "down_blocks_0_attentions_0"), ("sdxl", "input_blocks_3_1")])
def test_kohya_names_follow_the_architecture(kind, name, request, tmp_path):
    _, file = request.getfixturevalue({"sd1": "sd15", "sdxl": "sdxl"}[kind])
    weights = with_lora(load_single_file(file, torch.float32).unet)
    run = make_run(tmp_path / "run", file, kind, "lora", weights, sha256(file), rank=3, alpha=6.0)
    shapes = read_header(export(run).path).shapes
    assert f"lora_unet_{name}_transformer_blocks_0_attn1_to_q.lora_down.weight" in shapes
    assert {key.rpartition(".lora_")[0] or key.removesuffix(".alpha") for key in shapes}.isdisjoint(weights)


def test_a_lora_of_another_width_is_refused(sd15, tmp_path):
    weights = {"mid_block.attentions.0.proj_in.lora_A.weight": torch.ones(2, 7, 1, 1)}
    weights["mid_block.attentions.0.proj_in.lora_B.weight"] = torch.ones(64, 2, 1, 1)
    run = make_run(tmp_path / "run", sd15[1], "sd1", "lora", weights, sha256(sd15[1]), rank=2, alpha=2.0)
    with pytest.raises(CheckpointError, match="another shape .*proj_in.lora_down.weight"):
        export(run)
    with pytest.raises(CheckpointError, match="do not fit"):
        export(run, "unet")
