"""The base's checkpoint file with the student's UNet."""

import torch
from safetensors.torch import load_file, save_file
from understudy.distill_train.exports.export import export
from understudy.files import read_header, sha256
from understudy.pipelines.single_file import load_single_file

from .students import make_run, output, precise, small_unet


def small(folder, kind, file):
    """A run that one is made of."""
    return make_run(folder, file, kind, "full", small_unet(kind).state_dict(), sha256(file))


def test_checkpoint_is_the_base_with_another_unet(full_run, architecture, tmp_path):
    run, unet = full_run
    result = export(run, "checkpoint", out=tmp_path / "student.safetensors")
    assert result.path == tmp_path / "student.safetensors" and result.folder == "models/checkpoints"
    torch.testing.assert_close(output(load_single_file(result.path, torch.float32).unet), output(unet), rtol=0, atol=0)
    before, after = load_file(architecture[2]), load_file(result.path)
    assert before.keys() == after.keys()
    for key in before:
        if not key.startswith("model.diffusion_model."):
            assert torch.equal(before[key], after[key]), key


def test_a_lora_merged_into_a_checkpoint_equals_the_adapter(lora_run):
    run, trained = lora_run
    merged = load_single_file(export(run, "checkpoint").path, torch.float32).unet
    torch.testing.assert_close(precise(merged), precise(trained), rtol=1e-4, atol=1e-5)


def test_an_average_of_the_teacher_stays_behind(full_run, architecture, tmp_path):
    kind, _, file = architecture
    marked = tmp_path / "marked.safetensors"
    save_file(load_file(file) | {"ztsnr": torch.zeros(0), "model_ema.decay": torch.zeros(1)}, marked)
    shapes = read_header(export(full_run[0], "checkpoint", base=marked).path).shapes
    assert "ztsnr" in shapes and "model_ema.decay" not in shapes
    assert "ztsnr" in read_header(export(full_run[0], base=marked).path).shapes
