"""install.py, as ComfyUI Manager and as A1111 and Forge run it, beside the libraries that each of them brings."""

import configparser
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

PACK = Path(__file__).parents[1]
A1111 = {"torch": "2.1.2+cu121", "transformers": "4.30.2", "safetensors": "0.4.2"}  # the pins of 1.10.1
COMFYUI = {"torch": "2.4.0", "transformers": "4.50.3", "safetensors": "0.4.2"}  # the oldest
TAGS = {"script", "UI related", "prompting", "editing", "manipulations", "models", "query", "science", "extras"}


def said(root, extensions, libraries, schedulers=True):
    """The lines of a run in the folder ``extensions`` of a host in ``root`` with only these libraries' versions."""
    libs = root / "libs"
    for name, number in libraries.items():
        about = libs / f"{name}-{number}.dist-info" / "METADATA"
        about.parent.mkdir(parents=True)
        about.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    (root / "webui" / "modules").mkdir(parents=True)
    if schedulers:
        (root / "webui" / "modules" / "sd_schedulers.py").touch()
    pack = root / extensions / "understudy-nodes"
    pack.mkdir(parents=True)
    shutil.copyfile(PACK / "install.py", pack / "install.py")
    search = {"PYTHONPATH": os.pathsep.join([str(root / "webui"), str(libs)])}
    command = [sys.executable, "-S", str(pack / "install.py")]  # -S: without this machine's own libraries
    done = subprocess.run(command, env={**os.environ, **search}, capture_output=True, text=True, check=True)
    assert done.stderr == ""  # A1111 shows stdout alone
    return done.stdout.splitlines()


def test_a1111s_own_libraries_are_found_new_enough_and_nothing_is_made(tmp_path):
    assert said(tmp_path, "extensions", A1111) == ["Understudy: nothing is installed; oracles go into models/oracles."]
    assert not (tmp_path / "models").exists()


def test_what_is_too_old_in_a_web_ui_is_said_without_telling_anybody_to_break_it(tmp_path):
    missing, old, _ = said(tmp_path, "extensions", {"torch": "2.0.1", "transformers": "4.30.2"})
    assert missing.startswith("Understudy: safetensors is not installed")
    assert old == (
        "Understudy: torch 2.0.1 was found, and 2.1 or newer is needed: "
        "please update the web UI as a whole, not this alone."
    )


def test_a_web_ui_without_schedulers_is_too_old(tmp_path):
    first, _ = said(tmp_path, "extensions", A1111, schedulers=False)
    assert "no schedulers of its own, as A1111 has since 1.9.0" in first


def test_comfyui_gets_its_folders_and_what_is_too_old_is_to_be_updated(tmp_path):
    lines = said(tmp_path, "custom_nodes", COMFYUI)
    folders = [tmp_path / "models" / name for name in ("oracles", "understudy_predictors")]
    assert lines == [f"Understudy: the folder for {folder.name} is {folder}" for folder in folders]
    assert all(folder.is_dir() for folder in folders)


def test_comfyui_asks_for_newer_libraries_than_a1111_does(tmp_path):
    torch, transformers, *_ = said(tmp_path, "custom_nodes", A1111)
    assert torch == "Understudy: torch 2.1.2 was found, and 2.4 or newer is needed: please update it."
    assert transformers == "Understudy: transformers 4.30.2 was found, and 4.50 or newer is needed: please update it."


def test_elsewhere_there_is_nothing_to_prepare(tmp_path):
    (line,) = said(tmp_path, "somewhere", {})
    assert "nothing to prepare" in line


def test_what_the_host_reads_of_the_extension_is_well_formed():
    about = configparser.ConfigParser()
    about.read(PACK / "metadata.ini")
    assert about["Extension"]["Name"] == "Understudy"
    scripts = [section for section in about.sections() if section != "Extension"]
    assert scripts == ["scripts/understudy.py"] and all((PACK / script).is_file() for script in scripts)
    assert about["scripts/understudy.py"]["Before"] == "adetailer"  # which then works on what the teacher leaves


def test_the_entry_for_the_extension_index_says_what_the_index_asks_for():
    entry = json.loads((PACK / ".ci" / "understudy-extension.json").read_text(encoding="utf-8"))
    assert set(entry) == {"name", "url", "description", "tags"} and all(entry.values())
    assert urlparse(entry["url"]).path.endswith(".git") and set(entry["tags"]) <= TAGS
