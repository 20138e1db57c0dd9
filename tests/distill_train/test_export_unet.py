"""A UNet alone: what is written is what was trained."""

import torch
from understudy.distill_train.exports.export import export
from understudy.files import read_header, sha256

from .students import make_run, output, small_unet, unet_in


def small(folder, kind, file):
    """A run that one is made of."""
    return make_run(folder, file, kind, "full", small_unet(kind).state_dict(), sha256(file))


def test_unet_holds_what_was_trained(full_run, architecture):
    run, unet = full_run
    result = export(run)
    assert result.folder == "models/diffusion_models" and result.node == "Load Diffusion Model"
    assert not any(key.startswith("model.") for key in read_header(result.path).shapes)
    torch.testing.assert_close(output(unet_in(result.path, architecture[2])), output(unet), rtol=0, atol=0)
