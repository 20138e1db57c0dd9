"""Which files of a diffusers folder its networks are read from, and a fingerprint of them alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from ..files import CheckpointError, known_sha256

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


def weight_files(folder: Path) -> list[Path]:
    """The weights in one part of a folder; where it holds them in half precision as well, the others.

    Raises CheckpointError where there are none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder} has no .safetensors file")
    return [file for file in files if ".fp16." not in file.name] or files


def read_json(path: Path) -> dict:
    """A config of a folder. Raises CheckpointError that names it where it is missing or no object of JSON."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; expected a diffusers folder of an SD 1.x or SDXL pipeline")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(said, dict):
        raise CheckpointError(f"{path} is not an object of JSON; get the file again")
    return said


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, or for a folder of the names and hashes of the weights and configs that are read from it."""
    if path.is_file():
        return known_sha256(path)
    files = [path / "model_index.json"]
    for part in (path / name for name in PARTS if (path / name).is_dir()):
        configs = (*part.glob("*.json"), *part.glob("merges.txt"))
        files += [file for file in configs if not file.name.startswith(".") and ".index." not in file.name]
        files += weight_files(part) if any(part.glob("*.safetensors")) else []
    return _listed(path, files)


def has_fingerprint(path: Path, said: str) -> bool:
    """Whether it is what a run began with; earlier versions counted every file in the folder, a README, too."""
    return said == fingerprint(path) or (path.is_dir() and said == _listed(path, _all_files(path)))


def _all_files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]


def _listed(path: Path, files: Iterable[Path]) -> str:
    listed = "".join(f"{file.relative_to(path).as_posix()} {known_sha256(file)}\n" for file in sorted(files))
    return hashlib.sha256(listed.encode()).hexdigest()
