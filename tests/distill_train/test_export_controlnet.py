"""A ControlNet in the layout that most programs read."""

import pytest
import torch
from safetensors.torch import load_file
from understudy.distill_train.exports.export import ExportError, export
from understudy.files import CheckpointError, read_header, sha256
from understudy.files.student_file import StudentFile
from understudy.pipelines.single_file import load_single_file

from .students import control, make_run, small_controlnet, small_unet, with_lora


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


@pytest.mark.parametrize("part", ["lora", "full"])
def test_a_student_of_two_halves_becomes_two_files_that_name_each_other(architecture, tmp_path, part):
    """As a run leaves them: the ControlNet by diffusers' names, and the base's part under names of its own."""
    kind, _, file = architecture
    usual, more = {"lora": "lora", "full": "unet"}[part], {"rank": 3, "alpha": 6.0} if part == "lora" else {}
    weights = with_lora(load_single_file(file, torch.float32).unet) if part == "lora" else small_unet(kind).state_dict()
    alone = make_run(tmp_path / "alone", file, kind, part, weights, sha256(file), **more)
    own = load_file(alone / "exports" / "student.safetensors")
    both = small_controlnet(kind).state_dict() | {("base." if part == "full" else "") + key: own[key] for key in own}
    run = make_run(tmp_path / "run", file, kind, "control", both, sha256(file), base_trained=part, **more)
    net, base, merged = export(run), export(run, usual), export(run, "checkpoint")
    assert (net.student.trained, net.student.companion, net.student.rank) == ("control", base.path.name, None)
    for half, to in ((base, usual), (merged, "checkpoint")):
        assert (half.student.trained, half.student.companion) == (part, net.path.name)
        assert StudentFile.read(half.path) == half.student
        found, expected = load_file(half.path), load_file(export(alone, to).path)
        assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    expected = load_file(export(small(tmp_path / "frozen", kind, file)).path)
    found = load_file(net.path)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    assert f"the other is {base.path.name}" in net.summary() and f"the other is {net.path.name}" in base.summary()


def test_a_base_that_stayed_is_no_half(sd15, tmp_path):
    weights, file = small_controlnet("sd1").state_dict(), sd15[1]
    run = make_run(tmp_path / "run", file, "sd1", "control", weights, sha256(file), base_trained="frozen")
    result = export(run)
    assert result.student.companion is None and not result.notes
    with pytest.raises(ExportError, match="export a controlnet or a controlnet-diffusers$"):
        export(run, "unet")


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
