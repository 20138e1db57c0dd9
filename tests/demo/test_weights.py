"""The weights that ship: small, in half precision, and as good as the documents say."""

import pytest
import torch
from safetensors import safe_open
from understudy.demo_family import checker, family
from understudy.demo_family.render import render
from understudy.demo_family.scenes import scenes_of

FILES = sorted(family.FOLDER.glob("*.safetensors"))


def test_they_are_at_most_40_megabytes():
    assert [path.stem for path in FILES] == ["control", "control_student", "oracle", "student", "teacher", "vae"]
    assert sum(path.stat().st_size for path in FILES) <= 40e6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_they_are_half_precision(path):
    with safe_open(path, framework="pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} <= {torch.float16, torch.int64}


def test_reconstructions_of_held_out_scenes_pass_the_checker():
    g = torch.Generator().manual_seed(1)
    scenes = [scenes_of("test")[i] for i in torch.randperm(len(scenes_of("test")), generator=g)[:100]]
    vae = family.load_autoencoder(family.FOLDER / "vae.safetensors").eval()
    with torch.no_grad():
        restored = family.decode(vae, family.encode(vae, render(scenes, g)))
    assert sum(checker.exact(restored, scenes)) >= 0.99 * len(scenes)
