"""A ControlNet in the layout that most programs read."""

import pytest
import torch
from safetensors.torch import load_file
from understudy.distill_train.exports.export import ExportError, export
from understudy.files import CheckpointError, read_header, sha256

from .students import control, make_run, small_controlnet, small_unet


def small(folder, kind, file):
    """A run that one is made of."""
    return make_run(folder, file, kind, "control", small_controlnet(kind).state_dict(), sha256(file))


def test_diffusers_reads_it_and_it_answers_as_the_one_that_was_trained(architecture, tmp_path):
    from diffusers import ControlNetModel

    kind, _, file = architecture
    trained = small_controlnet(kind)
    result = export(small(tmp_path / "run", kind, file))
    assert result.folder == "models/controlnet" and result.node == "Load ControlNet Model"
    header, own = read_header(result.path), trained.state_dict()
    assert len(header.shapes) == len(own) == result.tensors and not result.notes
    original = [key for key in header.shapes if key.startswith("control_model.")]
    assert len(original) == (len(own) if kind == "sd1" else 0)
    assert "each of a name and shape that a ControlNet of the base has" in result.summary()
    trained.save_config(tmp_path / "config")
    read = ControlNetModel.from_single_file(result.path, config=str(tmp_path / "config"), local_files_only=True)
    for before, after in zip(control(trained), control(read), strict=True):
        assert before.std() > 1e-2 and torch.equal(before, after)
    untrained = ControlNetModel.from_unet(small_unet(kind))
    assert not any(added.any() for added in control(untrained))


def test_a_folder_may_be_its_base(architecture, tmp_path):
    kind, folder, file = architecture
    run = small(tmp_path / "run", kind, file)
    expected, result = load_file(export(run).path), export(run, base=folder, out=tmp_path)
    found = load_file(result.path)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


def test_the_other_half_is_named(sd15, tmp_path):
    weights = small_controlnet("sd1").state_dict()
    said = {"companion": "codi-base.safetensors"}
    run = make_run(tmp_path / "run", sd15[1], "sd1", "control", weights, sha256(sd15[1]), **said)
    result = export(run)
    assert read_header(result.path).metadata["companion"] == "codi-base.safetensors"
    assert "codi-base.safetensors, in the same run, is the other" in result.summary()
    half = make_run(tmp_path / "half", sd15[1], "sd1", "full", small_unet("sd1").state_dict(), sha256(sd15[1]), **said)
    assert "codi-base.safetensors, in the same run, is the other" in export(half).summary()


def test_what_its_base_predicts_is_said(sd15, tmp_path):
    weights = small_controlnet("sd1").state_dict()
    told = {"prediction": "v_prediction"}
    run = make_run(tmp_path / "run", sd15[1], "sd1", "control", weights, sha256(sd15[1]), **told)
    assert "takes its base for a network that predicts eps: set v_prediction" in export(run).summary()


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda weights: weights.pop("controlnet_mid_block.bias"), "lacks control_model.middle_block_out.0.bias"),
        (lambda weights: weights.update({"conv_out.bias": torch.zeros(4)}), "has no tensors conv_out.bias"),
        (
            lambda weights: weights.update({"controlnet_cond_embedding.conv_in.weight": torch.zeros(16, 1, 3, 3)}),
            "another shape control_model.input_hint_block.0.weight",
        ),
        (
            lambda weights: weights.update({"controlnet_down_blocks.4.weight": torch.zeros(1, 1, 1, 1)}),
            "has no tensors controlnet_down_blocks.4.weight",
        ),
    ],
)
def test_one_that_no_reader_can_use_is_refused_and_leaves_no_file(sd15, tmp_path, change, said):
    weights = small_controlnet("sd1").state_dict()
    change(weights)
    run = make_run(tmp_path / "run", sd15[1], "sd1", "control", weights, sha256(sd15[1]))
    with pytest.raises(CheckpointError, match=said):
        export(run)
    assert [path.name for path in (run / "exports").iterdir()] == ["student.safetensors"]


def test_it_is_no_lora_and_no_model_is_one(sd15, tmp_path):
    with pytest.raises(
        ExportError, match="the run trained a ControlNet; export a controlnet or a controlnet-diffusers"
    ):
        export(small(tmp_path / "run", "sd1", sd15[1]), "lora")
    full = make_run(tmp_path / "full", sd15[1], "sd1", "full", small_unet("sd1").state_dict())
    with pytest.raises(ExportError, match="the run trained all weights; export a unet or a checkpoint"):
        export(full, "controlnet")
