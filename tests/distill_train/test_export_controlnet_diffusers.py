"""A ControlNet under diffusers' names."""

import torch
from understudy.distill_train.exports.export import export
from understudy.files import read_header

from . import test_export_controlnet
from .students import control, small_controlnet

small = test_export_controlnet.small  # a run that one is made of


def test_diffusers_reads_its_folder(architecture, tmp_path):
    from diffusers import ControlNetModel

    kind, _, file = architecture
    trained = small_controlnet(kind)
    folder = tmp_path / "net"
    trained.save_config(folder)
    result = export(
        small(tmp_path / "run", kind, file),
        "controlnet-diffusers",
        out=folder / "diffusion_pytorch_model.safetensors",
    )
    assert result.folder == "models/controlnet" and result.node == "Load ControlNet Model"
    assert read_header(result.path).shapes.keys() == trained.state_dict().keys()
    read, problems = ControlNetModel.from_pretrained(folder, output_loading_info=True)
    assert not any(problems.values()), problems
    for before, after in zip(control(trained), control(read), strict=True):
        assert before.std() > 1e-2 and torch.equal(before, after)
