"""Fixtures: one running A1111 for the whole session, and a Forge as well where one is named."""

import copy
import os
import re
import shutil
import sys
import types
from pathlib import Path

import pytest

from ..host import checkpoints
from ..host.environment import PACK, HostUnavailable, unavailable
from ..host.server import place
from . import environment
from .server import WebUI

# The shallow network of tests/host/checkpoints.py, as the host's configuration has to name it.
SHALLOW = {
    r"attention_resolutions: \[ 4, 2, 1 \]": "attention_resolutions: [ 2, 1 ]",
    r"num_res_blocks: 2\n        channel_mult: \[ 1, 2, 4, 4 \]": "num_res_blocks: 1\n        channel_mult: [ 1, 1 ]",
}
STUDENT, TEACHER = "student.safetensors", "teacher.safetensors"


def pytest_collection_modifyitems(items):
    for item in items:
        if "a1111" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.host)


def save_checkpoints(host: environment.WebUIHost, models: Path):
    """The student's and the teacher's."""
    for name, seed in ((STUDENT, 1), (TEACHER, 3)):
        path = models / "Stable-diffusion" / name
        checkpoints.save(path, checkpoints.checkpoint(), seed)
        if not host.finds_layout:
            path.with_suffix(".yaml").write_text(_shallow(host.folder / "configs" / "v1-inference.yaml"))


def _shallow(configuration: Path) -> str:
    text = configuration.read_text()
    for pattern, small in SHALLOW.items():
        text, count = re.subn(pattern, small, text)
        assert count == 1, pattern
    return text


@pytest.fixture(scope="session", params=environment.names())
def a1111(request, tmp_path_factory):
    """A server that runs until the last test that needs it."""
    try:
        host = environment.host(request.param)
    except HostUnavailable as e:
        unavailable(f"{request.param} cannot be had here: {e}")
    base = tmp_path_factory.mktemp(request.param)
    webui = WebUI(host.folder, host.python, base, arguments=host.arguments)
    models = base / "models"
    save_checkpoints(host, models)
    shutil.copyfile(PACK / "demo_family" / "oracle.safetensors", models / "oracles" / "demo.safetensors")
    place(Path(__file__).with_name("beside"), base / "extensions" / "zz-beside")
    place(Path(__file__).with_name("stand_ins"), base / "extensions" / "stand-ins")
    (base / "styles.csv").write_text("name,prompt,negative_prompt\ncircle,{prompt} above a blue circle,green\n")
    webui.start("--nowebui")
    if request.param != environment.A1111:  # which is still loading the student's, and would load it a second time
        webui.post("/sdapi/v1/options", {"sd_model_checkpoint": STUDENT})  # Forge Neo begins with the teacher's
    yield webui
    webui.stop()


@pytest.fixture(scope="session")
def webui(a1111, tmp_path_factory):
    """A second server, with its page, that has the first one's models. Requests can name fields by a text here only."""
    base = tmp_path_factory.mktemp("page")
    for name in ("models", "hf"):
        place(a1111.base / name, base / name)
    (base / "extensions").mkdir()
    place(PACK, base / "extensions" / "understudy-nodes")
    server = copy.copy(a1111)
    server.base, server.log, server.process = base, base / "server.log", None
    # Its page gets no file from below a folder with a dot at its name's beginning, as the cache is.
    server.checkout = base / "webui"
    shutil.copytree(a1111.checkout, server.checkout, symlinks=True, copy_function=linked)
    server.start()
    yield server
    server.stop()


def linked(source: str, target: str):
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)


@pytest.fixture
def stand_in(monkeypatch):
    """The host's ``modules``, each as empty as it can be; tests add what they need."""
    found = types.SimpleNamespace()
    package = types.ModuleType("modules")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "modules", package)
    for name in ("devices", "shared", "processing", "rng", "images", "extra_networks", "sd_samplers", "sd_models"):
        module = types.ModuleType(f"modules.{name}")
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)
        setattr(package, name, module)
        setattr(found, name, module)
    found.devices.NansException = type("NansException", (Exception,), {})
    found.devices.device, found.devices.torch_gc = "cpu", lambda: None
    found.shared.opts = types.SimpleNamespace(data={})
    found.shared.state = types.SimpleNamespace(interrupted=False, skipped=False, stopping_generation=False)
    return found
