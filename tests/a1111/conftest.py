"""Fixtures: two running servers of A1111 for the whole session, and of a Forge as well where one is named."""

import os
import re
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..host import checkpoints
from ..host.environment import PACK, HostUnavailable, unavailable
from ..host.server import place
from . import environment
from .server import WebUI

STUDENT, TEACHER = "student.safetensors", "teacher.safetensors"


def pytest_collection_modifyitems(items):
    for item in items:
        if "web_host" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.host)


def save_checkpoints(host: environment.WebUIHost, models: Path):
    """The student's and the teacher's."""
    for name, seed in ((STUDENT, 1), (TEACHER, 3)):
        path = models / "Stable-diffusion" / name
        linked(environment.checkpoint(seed, host.layout), path)
        if not host.finds_layout:
            path.with_suffix(".yaml").write_text(configured(host.folder, host.layout))


def configured(folder: Path, layout: checkpoints.Layout) -> str:
    """A1111's configuration of SD 1.5 in that folder of its, with the network's levels as in this layout."""
    text = (folder / "configs" / "v1-inference.yaml").read_text()
    first, levels = layout.widths[0], range(len(layout.widths))
    network = {
        "model_channels": first,
        "attention_resolutions": [2**level for level in reversed(levels) if layout.attention[level]],
        "num_res_blocks": layout.blocks,
        "channel_mult": [width // first for width in layout.widths],
    }
    for name, value in network.items():  # of which the autoencoder, further down, has some as well
        text, count = re.subn(rf"{name}: .*", f"{name}: {value}", text, count=1)
        assert count == 1, name
    return text


@pytest.fixture(scope="session", params=environment.names())
def web_host(request):
    try:
        return environment.host(request.param)
    except HostUnavailable as e:
        unavailable(f"{request.param} cannot be had here: {e}")


@pytest.fixture(scope="session")
def a1111(web_host, tmp_path_factory):
    """A server without a page that runs until the last test that needs it."""
    server = made_ready(web_host, tmp_path_factory.mktemp(web_host.name))
    place(Path(__file__).with_name("stand_ins"), server.base / "extensions" / "stand-ins")
    give_controlnet(web_host, server.base)
    (server.base / "styles.csv").write_text("name,prompt,negative_prompt\ncircle,{prompt} above a blue circle,green\n")
    server.start("--nowebui")
    yield from running(server, web_host)


@pytest.fixture(scope="session")
def webui(web_host, tmp_path_factory):
    """A server with its page. Requests can name fields by a text here only."""
    server = made_ready(web_host, tmp_path_factory.mktemp("page"))
    # Its page gets no file from below a folder with a dot at its name's beginning, as the cache is.
    server.checkout = server.base / "webui"
    shutil.copytree(web_host.folder, server.checkout, symlinks=True, copy_function=linked)
    server.start()
    yield from running(server, web_host)


def made_ready(host: environment.WebUIHost, base: Path) -> WebUI:
    """A server that has not been started, with its models and with another extension that the tests ask."""
    lacks = host.name != environment.A1111
    server = WebUI(host.folder, host.python, base, arguments=host.arguments, text_layers=2, lacks=lacks)
    save_checkpoints(host, base / "models")
    shutil.copyfile(PACK / "demo_family" / "oracle.safetensors", base / "models" / "oracles" / "demo.safetensors")
    place(Path(__file__).with_name("beside"), base / "extensions" / "zz-beside")
    return server


def give_controlnet(host: environment.WebUIHost, base: Path):
    """The real one with a network, or a stand-in."""
    if host.controlnet is None:
        place(Path(__file__).with_name("stand_in_controlnet"), base / "extensions" / "stand-in-controlnet")
        return
    if not host.controlnet.is_relative_to(host.folder):
        place(host.controlnet, base / "extensions" / host.controlnet.name)
    folder = base / "models" / "ControlNet"
    folder.mkdir()
    linked(environment.controlnet(host.layout), folder / "outlines.safetensors")


def running(server: WebUI, host: environment.WebUIHost) -> Iterator[WebUI]:
    if host.name != environment.A1111:  # which is still loading the student's, and would load it a second time
        server.post("/sdapi/v1/options", {"sd_model_checkpoint": STUDENT})  # Forge Neo begins with the teacher's
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
