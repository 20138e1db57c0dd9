"""ComfyUI checkouts and one virtual environment that runs them, made once and kept in a cache folder.

Everything is made the way a user does it: ``git clone``, torch, ComfyUI's requirements, this pack's requirements.

Environment variables:
    UNDERSTUDY_CACHE           where checkouts, environment and generated model files are kept
    UNDERSTUDY_HOST_REVISIONS  ComfyUI revisions to test, separated by spaces or commas
    UNDERSTUDY_HOST_TORCH      what to hand to ``pip install`` for torch, torchvision and torchaudio
    COMFYUI_PATH               an existing ComfyUI folder, used instead of the revisions
    COMFYUI_PYTHON             its Python, where it has one already
    UNDERSTUDY_REQUIRE_HOST    1: a test that cannot have its host or its browser fails, where it is skipped otherwise
"""

import faulthandler
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from filelock import FileLock

PACK = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/Comfy-Org/ComfyUI"
# 0.8.0, the oldest that the pack supports, and 0.33.0.
REVISIONS = ("fc0cb10b", "783545f6")
# Large tokenizer files of language models that no test here uses.
LEFT_OUT = ("comfy/text_encoders/llama_tokenizer", "comfy/text_encoders/qwen35_tokenizer")
# Three equals signs: exactly this build, not one of the same version with a local suffix.
TORCH = "torch===2.13.0 torchvision==0.28.0 torchaudio==2.11.0"
COMMAND_SECONDS = 2400  # some GB are downloaded


class HostUnavailable(RuntimeError):
    """ComfyUI, or an environment that runs it, cannot be had on this machine."""


def unavailable(reason) -> NoReturn:
    """Skips the test; fails it where UNDERSTUDY_REQUIRE_HOST is 1, as in CI."""
    import pytest

    if os.environ.get("UNDERSTUDY_REQUIRE_HOST") == "1":
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))


def cache_dir():
    """The folder for everything that is slow to make; safe to delete."""
    if "UNDERSTUDY_CACHE" in os.environ:
        path = Path(os.environ["UNDERSTUDY_CACHE"]).expanduser().resolve()
    elif os.name == "nt":
        path = Path(os.environ["LOCALAPPDATA"]) / "understudy"
    elif sys.platform == "darwin":
        path = Path.home() / "Library" / "Caches" / "understudy"
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "understudy"
    path.mkdir(parents=True, exist_ok=True)
    return path


def revisions():
    """The hosts to test: git revisions, or ``["local"]`` for the checkout at COMFYUI_PATH."""
    if "COMFYUI_PATH" in os.environ:
        return ["local"]
    return re.split(r"[\s,]+", os.environ.get("UNDERSTUDY_HOST_REVISIONS", " ".join(REVISIONS)).strip())


def checkout(revision):
    """The folder with ComfyUI at ``revision``, cloned if it is not there yet."""
    if revision == "local":
        return Path(os.environ["COMFYUI_PATH"]).expanduser().resolve()
    folder = cache_dir() / f"ComfyUI-{revision[:8]}"
    stamp = folder / ".git" / "understudy-complete"
    with locked(f"{folder}.lock"):
        if not stamp.exists():
            shutil.rmtree(folder, ignore_errors=True)
            run("git", "clone", "--quiet", "--no-checkout", REPOSITORY, folder)
            run("git", "-C", folder, "sparse-checkout", "init", "--no-cone")
            rules = ["/*", *(f"!/{path}/" for path in LEFT_OUT)]
            run("git", "-C", folder, "sparse-checkout", "set", "--no-cone", *rules)
            run("git", "-C", folder, "checkout", "--quiet", "--detach", revision)
            stamp.touch()
    return folder


@contextmanager
def locked(path):
    """One process at a time makes what all need. pytest's limit for a test that hangs is not one for that."""
    faulthandler.cancel_dump_traceback_later()
    with FileLock(path):
        yield


def version(folder):
    """ComfyUI's version, as a tuple of integers."""
    text = (folder / "comfyui_version.py").read_text()
    return tuple(int(part) for part in re.search(r'__version__ = "([\d.]+)"', text)[1].split("."))


def python(checkouts):
    """The interpreter of one environment for all ``checkouts``, made if it is missing, stale or half made."""
    if "COMFYUI_PATH" in os.environ and "COMFYUI_PYTHON" in os.environ:
        return Path(os.environ["COMFYUI_PYTHON"])
    torch = shlex.split(os.environ.get("UNDERSTUDY_HOST_TORCH", TORCH))
    host, pack = combined_requirements(checkouts), _lines(PACK / "requirements.txt")
    inputs = repr([sys.version_info[:3], sys.platform, torch, host, pack])
    folder = cache_dir() / f"environment-{hashlib.sha256(inputs.encode()).hexdigest()[:8]}"
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "understudy-complete"
    with locked(cache_dir() / "environment.lock"):
        if not stamp.exists():
            for old in cache_dir().glob("environment-*"):
                shutil.rmtree(old)
            run(sys.executable, "-m", "venv", folder)
            (folder / "host-requirements.txt").write_text("\n".join(host) + "\n")
            install = (interpreter, "-m", "pip", "install", "--quiet")
            run(*install, *torch)
            run(*install, "-r", folder / "host-requirements.txt")
            run(*install, "-r", PACK / "requirements.txt")
            stamp.touch()
    return interpreter


def combined_requirements(checkouts):
    """Requirements for all the ``checkouts``: the newest one's, with its pins, and what the others ask for beside them.

    Each release pins its own front end and templates, which differ but are not needed by the server's own code.
    """
    lines, pinned = [], set()
    for folder in sorted(checkouts, key=version, reverse=True):
        wanted = _lines(folder / "requirements.txt")
        lines += [line for line in wanted if _name(line) not in pinned and line not in lines]
        pinned |= {_name(line) for line in wanted if "==" in line}
    return lines


def _lines(file):
    """A requirements file's lines, without comments."""
    lines = (line.split("#")[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line]


def _name(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def run(*command):
    """A command that must succeed; HostUnavailable, with its last line, where it does not, or takes too long."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
    except FileNotFoundError as e:
        raise HostUnavailable(f"'{command[0]}' is not installed") from e
    except subprocess.TimeoutExpired as e:
        raise HostUnavailable(f"'{' '.join(command[:6])} …' did not end within {COMMAND_SECONDS} s") from e
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise HostUnavailable(f"'{' '.join(command[:6])} …' failed: {last}")
