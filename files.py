"""Checkpoint files read with clear errors, and results that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


def fill(
    path: str | Path, network, weights: Mapping, dtype, exact: tuple[str, ...] = (), adopt: bool = False, name: str = ""
):
    """A network built on torch's meta device, with ``weights`` in ``dtype`` in their places, ready for inference.

    Those whose names begin with one of ``exact`` are float32 whatever ``dtype`` is. ``adopt``: weights of the right
    dtype become the network's own; else all are copied, so that they may be views of a file. ``name``: what errors call
    the network; its class without.
    Raises CheckpointError, naming ``path``, for tensors missing, left over or of another shape.
    """
    import torch

    name = name or type(network).__name__
    expected = network.state_dict()
    # Older files also hold the positions 0, 1, 2 ... themselves.
    given = {key for key in weights if not key.endswith("position_ids")}
    for what, keys in (("lacks", expected.keys() - given), ("also has", given - expected.keys())):
        if keys:
            raise CheckpointError(f"{path} is not complete: its {name} {what} {preview(keys)}")

    def placed(key: str, shape) -> torch.Tensor:
        kept = torch.float32 if key.startswith(exact) else dtype
        tensor = weights[key]
        if tensor.shape != shape:
            raise CheckpointError(f"{path}: {key} of its {name} is {list(tensor.shape)}, expected {list(shape)}")
        if adopt and tensor.dtype == kept:
            return tensor.contiguous()
        return torch.empty(shape, dtype=kept).copy_(tensor)

    network.load_state_dict({key: placed(key, value.shape) for key, value in expected.items()}, assign=True)
    for module in network.modules():
        for key, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                # The only buffers that are not saved are CLIP's positions.
                setattr(module, key, torch.arange(buffer.shape[-1]).expand(1, -1))
    return network.eval().requires_grad_(False)


def write_whole(path: str | Path, text: str) -> None:
    """Write a text file so that a reader finds the old content or the new, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by tempfile, whose files nobody else may read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave a name without its content
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_tensors(
    tensors: dict,
    path: str | Path,
    metadata: dict[str, str] | None = None,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Write a safetensors file, whole or not at all.

    check: reads the written file, before it takes its name, and raises if it is not what it should be.
    Raises OSError if it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        try:
            save_file(tensors, partial, metadata=metadata)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        if check:
            check(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


STUDENT_FOLDER, FINAL_FOLDER, GRID_FILE, REPORT_FILE = REPORT_PARTS = ("student", "final", "grid.png", "report.json")


def check_output(out: str | Path) -> None:
    """Refuse an output folder that holds anything but an earlier report, which may be replaced."""
    out = Path(out)
    if not out.exists():
        return
    if not out.is_dir():
        raise FileExistsError(f"--out {out} is a file; expected a folder to create")
    held = {path.name for path in out.iterdir()}
    others = held if REPORT_FILE not in held else held - set(REPORT_PARTS)
    if others:
        raise FileExistsError(
            f"--out {out} holds other files ({preview(others)}), which would be lost; name a new folder, or one with "
            "nothing but an earlier report"
        )


@contextmanager
def whole_directory(out: str | Path) -> Iterator[Path]:
    """A temporary sibling of ``out`` to fill; it takes the place of ``out`` if the block ends well, else it goes.

    Raises FileExistsError if ``out`` holds anything but an earlier report (see :func:`check_output`).
    """
    out = Path(out).absolute()
    check_output(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
        if out.exists():
            earlier = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
            os.replace(out, earlier / out.name)
            os.replace(temporary, out)
            shutil.rmtree(earlier)
        else:
            os.replace(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
