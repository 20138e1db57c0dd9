from pathlib import Path

import torch
from understudy import demo_family
from understudy.demo_family.language import parse
from understudy.demo_family.render import SIDE, render
from understudy.oracles import load_oracle
from understudy.oracles.families import demo as family

FILE = Path(demo_family.__file__).parent / "oracle.safetensors"
PROMPTS = ["a small red star left of a large blue circle", "a large yellow triangle on a black background"]


def small(folder):
    return FILE, None


def test_a_picture_fits_its_own_text_best():
    assert family.SIDE == SIDE
    pictures = render([parse(prompt) for prompt in PROMPTS], torch.Generator().manual_seed(0))
    pictures = torch.nn.functional.interpolate(pictures, (96, 96), mode="bilinear").clamp(0, 1)
    oracle = load_oracle(FILE)
    right, wrong = oracle(pictures, PROMPTS), oracle(pictures, PROMPTS[::-1])
    assert oracle.family == "demo" and (right > 0).all() and (wrong < 0).all()
