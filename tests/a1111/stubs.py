"""Checkpoints with random weights for a web UI: those of ``tests/host/checkpoints.py``."""

import re
from pathlib import Path

from ..host import checkpoints
from .environment import WebUIHost

STUDENT, TEACHER = "student.safetensors", "teacher.safetensors"
SEEDS = {STUDENT: 1, TEACHER: 3}  # with which the network's numbers stay finite
# The shallow network of tests/host/checkpoints.py, as A1111's configuration has to name it.
SHALLOW = {
    r"attention_resolutions: \[ 4, 2, 1 \]": "attention_resolutions: [ 2, 1 ]",
    r"num_res_blocks: 2\n        channel_mult: \[ 1, 2, 4, 4 \]": "num_res_blocks: 1\n        channel_mult: [ 1, 1 ]",
}


def save(host: WebUIHost, path: Path):
    """One of the two, by its name."""
    checkpoints.save(path, checkpoints.checkpoint(), SEEDS[path.name])
    if not host.finds_layout:
        path.with_suffix(".yaml").write_text(_configuration(host.folder))


def _configuration(folder: Path) -> str:
    config = (folder / "configs" / "v1-inference.yaml").read_text()
    for pattern, small in SHALLOW.items():
        config, count = re.subn(pattern, small, config)
        assert count == 1, pattern
    return config
