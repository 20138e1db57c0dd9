"""Run by ComfyUI Manager after cloning, and by A1111 and Forge at every start: checks versions, makes model folders.

Installs nothing and imports nothing of the host or of this pack. All is said on stdout, which is all that A1111 shows.
"""

import logging
import os
import re
import sys
from importlib import metadata

OLDEST = {"python": (3, 10), "ComfyUI": (0, 8, 0), "torch": (2, 4), "transformers": (4, 50), "safetensors": (0, 4, 2)}
# What A1111 1.10.1 pins. Newer ones would break it, so nobody is told to update a package there.
OLDEST_THERE = {"python": (3, 10), "torch": (2, 1), "transformers": (4, 30), "safetensors": (0, 4, 2)}
MODEL_FOLDERS = ("oracles", "understudy_predictors")
UPDATE, UPDATE_HOST = "please update it.", "please update the web UI as a whole, not this alone."


def version(text):
    """The leading numbers of a version: ``"2.13.0+cpu"`` gives ``(2, 13, 0)``."""
    return tuple(int(part) for part in re.match(r"\d+(\.\d+)*", text)[0].split("."))


def complaints(root, oldest=OLDEST, cure=UPDATE):
    """A line for each thing that is missing or too old, for the host in the folder ``root``. cure: what to do then."""
    found = {"python": sys.version_info[:3]}
    about = os.path.join(root, "comfyui_version.py")
    if "ComfyUI" in oldest and os.path.isfile(about):
        with open(about, encoding="utf-8") as file:
            found["ComfyUI"] = version(re.search(r'__version__ = "(.+)"', file.read())[1])
    lines = []
    for package in ("torch", "transformers", "safetensors"):
        try:
            found[package] = version(metadata.version(package))
        except metadata.PackageNotFoundError:
            lines.append(f"{package} is not installed for {sys.executable}; install the host's own requirements first.")
    for name, given in found.items():
        if given < oldest[name]:
            wanted, given = (".".join(map(str, numbers)) for numbers in (oldest[name], given))
            lines.append(f"{name} {given} was found, and {wanted} or newer is needed: {cure}")
    return lines


def webui_complaints(root):
    """The same for A1111, Forge and what descends from them."""
    lines = complaints(root, OLDEST_THERE, UPDATE_HOST)
    # The web UI hands its own folder over as PYTHONPATH; its data, and with it ``root``, may be elsewhere.
    if not any(os.path.isfile(os.path.join(folder, "modules", "sd_schedulers.py")) for folder in (root, *sys.path)):
        lines.append(f"this web UI has no schedulers of its own, as A1111 has since 1.9.0: {UPDATE_HOST}")
    return lines


def main():
    logging.basicConfig(level=logging.INFO, format="Understudy: %(message)s", stream=sys.stdout)
    # Not resolved: a pack that is linked into custom_nodes belongs to the host that it is linked into.
    extensions, _ = os.path.split(os.path.dirname(os.path.abspath(__file__)))
    if os.path.basename(extensions) == "extensions":
        for line in webui_complaints(os.path.dirname(extensions)):
            logging.warning(line)
        logging.info("nothing is installed; oracles go into models/oracles.")
        return
    if os.path.basename(extensions) != "custom_nodes":
        logging.info(
            "nothing to prepare: this folder is in no custom_nodes folder of ComfyUI, and no extensions folder."
        )
        return
    root = os.path.dirname(extensions)
    for line in complaints(root):
        logging.warning(line)
    for name in MODEL_FOLDERS:
        folder = os.path.join(root, "models", name)
        os.makedirs(folder, exist_ok=True)
        logging.info("the folder for %s is %s", name, folder)


if __name__ == "__main__":
    main()
