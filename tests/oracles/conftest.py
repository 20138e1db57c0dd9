import pytest
import torch

from . import small_files


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory):
    """A small random CLIP in Hugging Face's layout: (its file, transformers' own model)."""
    model = small_files.transformers_clip()
    folder = tmp_path_factory.mktemp("clip")
    model.save_pretrained(folder, safe_serialization=True)  # which was not always the default
    return folder / "model.safetensors", model


@pytest.fixture
def pictures():
    """Three smooth pictures ``[3, 3, 45, 70]`` that are exact in 8 bits."""
    coarse = torch.rand(3, 3, 6, 9, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(coarse, (45, 70), mode="bilinear")
    return smooth.mul(255).round().div(255)
