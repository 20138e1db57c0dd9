"""The small pipelines on disk, and runs that distilled them."""

import pytest
import torch
from understudy.files import sha256

from ..pipelines.conftest import sd15, sdxl  # noqa: F401 - fixtures
from .students import make_run, small_unet, with_lora


@pytest.fixture(params=["sd1", "sdxl"])
def architecture(request):
    """(kind, diffusers folder, single file)"""
    return request.param, *request.getfixturevalue({"sd1": "sd15", "sdxl": "sdxl"}[request.param])


@pytest.fixture
def full_run(architecture, tmp_path):
    """(run, trained UNet)"""
    kind, _, file = architecture
    unet = small_unet(kind)
    return make_run(tmp_path / "run", file, kind, "full", unet.state_dict(), sha256(file)), unet


@pytest.fixture
def lora_run(architecture, tmp_path):
    """(run, the teacher's UNet with the trained LoRA switched on)"""
    kind, _, file = architecture
    from understudy.pipelines.single_file import load_single_file

    unet = load_single_file(file, torch.float32).unet
    weights = with_lora(unet)
    return make_run(tmp_path / "run", file, kind, "lora", weights, sha256(file), rank=3, alpha=6.0), unet
