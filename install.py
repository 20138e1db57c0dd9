"""Run by ComfyUI Manager after cloning, and by A1111 and Forge at every start: checks versions, makes model folders.

Installs nothing and imports nothing of the host or of this pack. All is said on stdout, which is all that A1111 shows.
"""

import logging
import os
import re
import sys
from importlib import metadata

OLDEST = {"python": (3, 10), "ComfyUI": (0, 8, 0), "torch": (2, 4), "transformers": (4, 50), "safetensors": (0, 4, 2)}
# What A1111 1.10.1 pins. Newer ones would break it, so nothing is asked for that it does not have.
OLDEST_THERE = {"python": (3, 10), "torch": (2, 1), "transformers": (4, 30), "safetensors": (0, 4, 2)}
MODEL_FOLDERS = ("oracles", "understudy_predictors")


def version(text):
    """The leading numbers of a version: ``"2.13.0+cpu"`` gives ``(2, 13, 0)``."""
    return tuple(int(part) for part in re.match(r"\d+(\.\d+)*", text)[0].split("."))


def complaints(root, oldest=OLDEST):
    """One line for each thing that is missing or too old, for the host in the folder ``root``."""
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
            lines.append(f"{name} {given} was found, and {wanted} or newer is needed: please update it.")
    return lines


def main():
    logging.basicConfig(level=logging.INFO, format="Understudy: %(message)s", stream=sys.stdout)
    # Not resolved: a pack that is linked into custom_nodes belongs to the host that it is linked into.
    extensions, _ = os.path.split(os.path.dirname(os.path.abspath(__file__)))
    if os.path.basename(extensions) == "extensions":
        for line in complaints(os.path.dirname(extensions), OLDEST_THERE):
            logging.warning(line)
        logging.info("nothing is installed; oracles go into models/oracles.")
        return
    if os.path.basename(extensions) != "custom_nodes":
        logging.info("nothing to prepare: this folder is in no custom_nodes folder of ComfyUI, and no extensions folder.")
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
