"""Long prompts and clip skip: the trainer embeds a text as the host's own text nodes do."""

import torch
from safetensors.torch import save_file
from understudy.pipelines.single_file import load_texts
from understudy.pipelines.stable_diffusion import text_states

from . import checkpoints
from .inside import failures

# Of one window, of exactly one, of two and of three; no parentheses, which the host takes for weights.
PROMPTS = ["a red fox", " ".join(["fox"] * 75), " ".join(["red fox, snow"] * 25), " ".join(["old harbour, boats"] * 50)]


def test_the_trainer_reads_texts_as_the_host(host, tmp_path):
    path = checkpoints.models() / "checkpoints" / checkpoints.CHECKPOINT
    texts, expected = load_texts(path, torch.float32), {}
    with torch.no_grad():
        for prompt in PROMPTS:
            for skip in (1, 2, 5):
                states = text_states(texts, [prompt], torch.device("cpu"), skip, windows=4)
                expected[f"{skip}|{prompt}"] = states["context"].contiguous()
    assert {value.shape[1] // 77 for value in expected.values()} == {1, 2, 3}
    save_file(expected, tmp_path / "expected.safetensors")
    failed = failures(host, "inside_texts.py", path, tmp_path / "expected.safetensors", count=12)
    assert not failed, failed
