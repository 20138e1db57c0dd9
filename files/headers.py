"""What a checkpoint file is, before any weight of it is read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

# What a checkpoint, or what was taken for one, begins with: torch.save's archive, its format of before 2020, and
# pickle's own newer protocols, which torch.save does not write.
KINDS = {
    "web page": b"<",
    "Git LFS pointer": b"version https://git-lfs",
    "zipped pickle": b"PK",
    "old pickle": b"\x80\x02",
    "plain pickle": (b"\x80\x03", b"\x80\x04", b"\x80\x05"),
}
LONGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


class CheckpointError(ValueError):
    """The file is there but is not what it should be; the message names the file and the reason."""


class Header(NamedTuple):
    """What a safetensors file says about itself before any weight is read."""

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def kind_of(path: Path) -> str:
    """What a file's first bytes say that it is: "safetensors" or one of ``KINDS``, "" where they say nothing."""
    with path.open("rb") as file:
        start = file.read(512)
    # First of all, since the length of its header, with which it begins, may look like any of the others.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= LONGEST_HEADER:
        return "safetensors"
    return next((kind for kind, begins in KINDS.items() if start.lstrip().startswith(begins)), "")


def read_header(path: str | Path) -> Header:
    """Tensor shapes and metadata of a safetensors file.

    Raises FileNotFoundError, or CheckpointError for a directory, a web page, a pickle, a truncated or foreign file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; expected a .safetensors file")
    kind = kind_of(path)
    if kind == "web page":
        raise CheckpointError(f"{path} is a web page, not a checkpoint; download the file itself")
    if kind == "Git LFS pointer":
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file it stands for; run 'git lfs pull'")
    if kind.endswith("pickle"):
        raise CheckpointError(f"{path} is a PyTorch pickle; expected .safetensors (a pickle can run code)")
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
            return Header(shapes, file.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors: truncated or not a checkpoint ({error}); get the file again"
        ) from error


def preview(keys, limit: int = 3) -> str:
    """The first few of some keys, for an error message."""
    keys = sorted(keys)
    return ", ".join(keys[:limit]) + (f" and {len(keys) - limit} more" if len(keys) > limit else "")
