"""What is asked of hosts that are built otherwise than A1111."""

import logging
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
from understudy.a1111 import host
from understudy.a1111.choices import RefusedChoice


def test_the_teachers_modules_are_overridden_where_the_host_has_such(monkeypatch):
    assert host.modules() == [] and host.modules_setting(()) == {}
    with pytest.raises(RefusedChoice, match="no VAE or text encoder vae.safetensors; there are: none"):
        host.modules_setting(["vae.safetensors"])
    forge = ModuleType("modules_forge")
    forge.__spec__ = ModuleSpec("modules_forge", None)
    forge.main_entry = SimpleNamespace(refresh_models=lambda: (["base"], ["vae.safetensors", "clip.safetensors"]))
    monkeypatch.setitem(sys.modules, "modules_forge", forge)
    assert host.modules() == ["vae.safetensors", "clip.safetensors"]
    assert host.modules_setting(["clip.safetensors"]) == {"forge_additional_modules": ["clip.safetensors"]}
    with pytest.raises(RefusedChoice, match=r"no VAE or text encoder t5; there are: vae.safetensors, clip"):
        host.modules_setting(["t5", "clip.safetensors"])


@pytest.mark.parametrize(
    ("loglevel", "environment", "seen"), [(None, None, True), ("ERROR", None, False), (None, "ERROR", False)]
)
def test_warnings_are_seen_in_a_log_of_errors_alone_unless_the_user_wants_that(
    stand_in, monkeypatch, loglevel, environment, seen
):
    shown = logging.getLogger("host of errors alone")
    monkeypatch.setattr(shown, "level", logging.ERROR)
    ours = shown.getChild(f"ours {loglevel} {environment}")
    monkeypatch.delenv("SD_WEBUI_LOG_LEVEL", raising=False)
    if environment:
        monkeypatch.setenv("SD_WEBUI_LOG_LEVEL", environment)
    stand_in.shared.cmd_opts = SimpleNamespace(loglevel=loglevel)
    host.let_warnings_be_seen(ours.name)
    assert ours.getChild("job").isEnabledFor(logging.WARNING) == seen


def test_a_log_that_shows_more_than_warnings_still_does(stand_in, monkeypatch):
    shown = logging.getLogger("host of everything")
    monkeypatch.setattr(shown, "level", logging.INFO)
    monkeypatch.delenv("SD_WEBUI_LOG_LEVEL", raising=False)
    stand_in.shared.cmd_opts = SimpleNamespace()
    host.let_warnings_be_seen(shown.getChild("ours").name)
    assert shown.getChild("ours").isEnabledFor(logging.INFO)


def test_what_lies_on_the_network_needs_no_module_that_forge_neo_lacks(stand_in):
    put = []
    stand_in.sd_models.forge_model_reload = None
    stand_in.shared.sd_model = "network"
    stand_in.processing.apply_circular_forge = lambda *given: put.append(given)
    host.apply_to_network(SimpleNamespace(tiling=True))
    assert put == [("network", True)]
