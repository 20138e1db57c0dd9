"""Fixtures: one running A1111 for the whole session."""

import os
import re
import shutil
from pathlib import Path

import pytest

from ..host import checkpoints
from ..host.environment import PACK, HostUnavailable
from ..host.server import place
from . import environment
from .server import WebUI

# The shallow network of tests/host/checkpoints.py, as the host's configuration has to name it.
SHALLOW = {
    r"attention_resolutions: \[ 4, 2, 1 \]": "attention_resolutions: [ 2, 1 ]",
    r"num_res_blocks: 2\n        channel_mult: \[ 1, 2, 4, 4 \]": "num_res_blocks: 1\n        channel_mult: [ 1, 1 ]",
}
STUDENT, TEACHER = "student.safetensors", "teacher.safetensors"


@pytest.fixture(scope="session")
def a1111(tmp_path_factory):
    """A server that runs until the last test that needs it."""
    try:
        checkout = environment.checkout()
        interpreter = environment.python(checkout)
    except HostUnavailable as e:
        if os.environ.get("UNDERSTUDY_REQUIRE_HOST") == "1":
            pytest.fail(f"A1111 cannot be had here: {e}", pytrace=False)
        pytest.skip(f"A1111 cannot be had here: {e}")
    base = tmp_path_factory.mktemp("a1111")
    webui = WebUI(checkout, interpreter, base)
    models = base / "models"
    config = (checkout / "configs" / "v1-inference.yaml").read_text()
    for pattern, small in SHALLOW.items():
        config, count = re.subn(pattern, small, config)
        assert count == 1, pattern
    for name, seed in ((STUDENT, 1), (TEACHER, 3)):
        checkpoints.save(models / "Stable-diffusion" / name, checkpoints.checkpoint(), seed)
        (models / "Stable-diffusion" / name).with_suffix(".yaml").write_text(config)
    shutil.copyfile(PACK / "demo_family" / "oracle.safetensors", models / "oracles" / "demo.safetensors")
    place(Path(__file__).with_name("beside"), base / "extensions" / "zz-beside")
    webui.start("--nowebui")
    yield webui
    webui.stop()
