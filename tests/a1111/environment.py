"""A real A1111, an environment with its own pins and checkpoints for it, made once and kept in a cache folder.

Environment variables, beside those of ``tests/host/environment.py``:
    UNDERSTUDY_A1111_PYTHON     a Python 3.10; without it one of pyenv's, or `python3.10`
    UNDERSTUDY_FORGE            an existing folder of Forge or Forge Neo, in which the same tests are run as well
    UNDERSTUDY_FORGE_PYTHON     its Python
    UNDERSTUDY_FORGE_ARGUMENTS  how it starts on a CPU, if not as Forge Neo does; for Forge
                                "--always-cpu --skip-prepare-environment"
    UNDERSTUDY_CONTROLNET       a folder of sd-webui-controlnet, what it requires being installed in the cached
                                environment: test_controlnet.py runs with it, not with a stand-in, in networks of true
                                size, which it asks for; Forge has one built in
"""

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..host import checkpoints
from ..host.environment import HostUnavailable, cache_dir, locked, run

GITHUB = "https://github.com"
REPOSITORY = f"{GITHUB}/AUTOMATIC1111/stable-diffusion-webui"
REVISION = "82a973c04367123ae98bd9abdf80d9eda9b910e2"  # 1.10.1
# What launch.py would clone, at its hashes. The original of the second is gone; this is the one that users are told of.
BESIDE = {
    "stable-diffusion-webui-assets": (
        f"{GITHUB}/AUTOMATIC1111/stable-diffusion-webui-assets",
        "6f7db241d2f8ba7457bac5ca9753331f0c266917",
    ),
    "stable-diffusion-stability-ai": (f"{GITHUB}/w-e-w/stablediffusion", "cf1d67a6fd5ea1aa600c4df58e5b47da45f6bdbf"),
    "generative-models": (f"{GITHUB}/Stability-AI/generative-models", "45c443b316737a4ab6e40413d7794a7f5657c19f"),
    "k-diffusion": (f"{GITHUB}/crowsonkb/k-diffusion", "ab527a9a6d347f364e3d185ba6d714e22d80cb3c"),
    "BLIP": (f"{GITHUB}/salesforce/BLIP", "48211a1594f1321b00f14c9f7a5b4813144b2fb9"),
}
TORCH = ("torch==2.1.2", "torchvision==0.16.2")
CLIP = "clip-anytorch"  # the module `clip`, which launch.py takes from an archive on GitHub
A1111_ARGUMENTS = (
    *("--use-cpu", "all", "--no-half", "--precision", "full"),
    *("--skip-version-check", "--no-download-sd-model"),
)
FORGE_ARGUMENTS = "--cpu --skip-python-version-check --skip-install"  # Forge Neo's
A1111, FORGE = "A1111", "Forge"


class WebUIHost(NamedTuple):
    """A web UI to test. arguments: how it runs on a CPU. finds_layout: from a checkpoint's keys, without a .yaml.

    controlnet: the folder of a real one. layout: of the checkpoints.
    """

    name: str
    folder: Path
    python: Path
    arguments: Sequence[str]
    finds_layout: bool
    controlnet: Path | None
    layout: checkpoints.Layout


def names() -> list[str]:
    """The web UIs that this machine is to run."""
    return [A1111, FORGE] if "UNDERSTUDY_FORGE" in os.environ else [A1111]


def host(name: str) -> WebUIHost:
    """One of ``names``; HostUnavailable where it cannot be had."""
    if name == A1111:
        folder, extension = checkout(), os.environ.get("UNDERSTUDY_CONTROLNET")
        beside = (Path(extension).expanduser().resolve(), checkpoints.SD15) if extension else (None, checkpoints.NARROW)
        return WebUIHost(name, folder, python(folder), A1111_ARGUMENTS, False, *beside)
    folder = Path(os.environ["UNDERSTUDY_FORGE"]).expanduser().resolve()
    interpreter = os.environ.get("UNDERSTUDY_FORGE_PYTHON")
    if not (folder / "launch.py").is_file() or interpreter is None:
        raise HostUnavailable(f"{folder} has no launch.py, or UNDERSTUDY_FORGE_PYTHON names no Python for it")
    arguments = os.environ.get("UNDERSTUDY_FORGE_ARGUMENTS", FORGE_ARGUMENTS)
    built_in = next(folder.glob("extensions-builtin/*controlnet*"), None)
    return WebUIHost(name, folder, Path(interpreter), shlex.split(arguments), True, built_in, checkpoints.SHALLOW)


def checkout() -> Path:
    """The folder with A1111 and its repositories, cloned if it is not there yet."""
    folder = cache_dir() / f"a1111-{REVISION[:8]}"
    stamp = folder / ".git" / "understudy-complete"
    with locked(f"{folder}.lock"):
        if not stamp.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _clone(REPOSITORY, folder, REVISION)
            for name, (url, revision) in BESIDE.items():
                _clone(url, folder / "repositories" / name, revision)
            stamp.touch()
    return folder


def python(folder: Path) -> Path:
    """The interpreter of an environment for this checkout, made if it is missing, stale or half made."""
    pins = (folder / "requirements_versions.txt").read_text()
    name = hashlib.sha256(repr([pins, TORCH, CLIP]).encode()).hexdigest()[:8]
    environment = cache_dir() / f"a1111-environment-{name}"
    interpreter = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = environment / "understudy-complete"
    with locked(cache_dir() / "a1111-environment.lock"):
        if not stamp.exists():
            for old in cache_dir().glob("a1111-environment-*"):
                shutil.rmtree(old)
            run(_python_310(), "-m", "venv", environment)
            install = (interpreter, "-m", "pip", "install", "--quiet")
            run(*install, *TORCH)
            run(*install, "-r", folder / "requirements_versions.txt")
            run(*install, CLIP)
            stamp.touch()
    return interpreter


def checkpoint(seed: int, layout: checkpoints.Layout) -> Path:
    """The file of a checkpoint with this seed's weights."""
    return _saved(f"{seed}-{_name_of(layout)}", checkpoints.checkpoint(layout), seed)


def controlnet(layout: checkpoints.Layout) -> Path:
    """The file of a ControlNet for it."""
    return _saved(f"controlnet-{_name_of(layout)}", checkpoints.controlnet(layout), 2)


def _name_of(layout: checkpoints.Layout) -> str:
    return "-".join(map(str, layout.widths))


def _saved(name: str, shapes: dict, seed: int) -> Path:
    recipe = hashlib.sha256(Path(checkpoints.__file__).read_bytes()).hexdigest()[:8]
    folder = cache_dir() / f"a1111-checkpoints-{recipe}"
    file = folder / f"{name}.safetensors"
    with locked(cache_dir() / "a1111-checkpoints.lock"):
        if not folder.exists():
            for old in cache_dir().glob("a1111-checkpoints-*"):
                shutil.rmtree(old)
        if not file.exists():
            unfinished = file.with_suffix(".unfinished")
            checkpoints.save(unfinished, shapes, seed)
            os.replace(unfinished, file)
    return file


def _clone(url: str, folder: Path, revision: str):
    """Whole, not by a filter: some copies of these repositories lack a few large pictures, which are no matter here."""
    run("git", "clone", "--quiet", "--no-checkout", url, folder)
    run("git", "-C", folder, "checkout", "--quiet", revision)


def _python_310() -> str:
    """A1111's pins have no wheels for later ones. A shim of pyenv's will not do: it is whatever pyenv makes of it."""
    if "UNDERSTUDY_A1111_PYTHON" in os.environ:
        return os.environ["UNDERSTUDY_A1111_PYTHON"]
    pyenv = shutil.which("pyenv")
    if pyenv:
        for version in subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True).stdout.split():
            if version.startswith("3.10."):
                prefix = subprocess.run([pyenv, "prefix", version], capture_output=True, text=True).stdout.strip()
                return str(Path(prefix) / "bin" / "python")
    found = shutil.which("python3.10")
    if found is None:
        raise HostUnavailable("A1111 needs Python 3.10; name one in UNDERSTUDY_A1111_PYTHON")
    return found
