"""Checkpoints opened lazily: names and shapes first, each tensor when it is asked for; pickles only without code."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import CheckpointError, kind_of, preview, read_header

if TYPE_CHECKING:
    from torch import Tensor

# What torch raises, beside its own RuntimeError, for bytes that are no pickle or only a part of one.
DAMAGED = (OSError, RuntimeError, pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, AttributeError)
CODE = (
    "so reading it could run code. Where you trust it, load it with the program that wrote it and write its tensors "
    "with safetensors.torch.save_file"
)
# Bytes read of a mapped file before it is opened anew: what was read counts as memory for as long as the mapping lives.
MAPPED = 128 * 2**20


class TensorFile(Mapping):
    """The tensors of a ``.safetensors``, ``.pt``, ``.pth`` or ``.bin`` file by name, with ``metadata`` and ``path``.

    Where the file can be mapped each is a view of it, and it stays mapped for as long as one lives: copy what to keep.
    Raises FileNotFoundError, and :class:`CheckpointError` for a file that is damaged, no checkpoint, or holds code.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._read = 0
        self._kind = kind_of(self.path) if self.path.is_file() else ""
        if self._kind.endswith("pickle"):
            tensors, self.metadata = _unpickled(self.path), {}
            self.shapes = {key: tuple(value.shape) for key, value in tensors.items()}
            self._get = tensors.__getitem__
        else:
            self.shapes, self.metadata = read_header(self.path)
            self._get = _opened(self.path)

    def __getitem__(self, key: str) -> Tensor:
        if self._read > MAPPED:
            self._read = 0
            pickled = self._kind.endswith("pickle")
            self._get = _unpickled(self.path).__getitem__ if pickled else _opened(self.path)
        tensor = self._get(key)
        if self._kind != "old pickle":  # which cannot be mapped
            self._read += tensor.nbytes
        return tensor

    def __contains__(self, key: object) -> bool:
        return key in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


class Renamed(Mapping):
    """``source`` under other names: ``table`` maps each new name to an old one, or to (old one, what to make of it)."""

    def __init__(self, source: Mapping, table: Mapping[str, str | tuple[str, Callable[[Tensor], Tensor]]]):
        self.source, self.table = source, table

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor."""
        import torch

        source = shapes_of(self.source)
        unread = {old: torch.empty(shape, device="meta") for old, shape in source.items()}
        return {key: tuple(Renamed(unread, self.table)[key].shape) for key in self.table}

    def __getitem__(self, key: str) -> Tensor:
        entry = self.table[key]
        if isinstance(entry, str):
            return self.source[entry]
        old, change = entry
        return change(self.source[old])

    def __contains__(self, key: object) -> bool:
        return key in self.table

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)


def shapes_of(tensors: Mapping) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor; those of a file, renamed or not, come from its header."""
    if isinstance(tensors, TensorFile | Renamed):
        return tensors.shapes
    return {key: tuple(value.shape) for key, value in tensors.items()}


def shape_of(path: Path, shapes: Mapping[str, tuple[int, ...]], key: str) -> tuple[int, ...]:
    """The shape of a tensor that a network's size is read from; CheckpointError, naming ``path``, if it is missing."""
    if key not in shapes:
        raise CheckpointError(f"{path} is not complete: it lacks {key}")
    return shapes[key]


def without_prefix(tensors: Mapping, prefix: str) -> dict[str, str]:
    """A table for :class:`Renamed`: every name that begins with ``prefix``, under the rest of it."""
    return {key[len(prefix) :]: key for key in tensors if key.startswith(prefix)}


def _opened(path: Path) -> Callable[[str], Tensor]:
    from safetensors import safe_open

    return safe_open(path, framework="pt").get_tensor


def _unpickled(path: Path) -> dict[str, Tensor]:
    from torch import Tensor

    if kind_of(path) == "plain pickle":
        raise CheckpointError(f"{path} is a plain Python pickle, {CODE}")
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path} is a PyTorch pickle in spite of its name; rename it to {path.stem}.pt")
    try:
        content = _load(path)
    except CheckpointError:
        raise
    except DAMAGED as error:
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"{path} is a TorchScript archive, which is a program. Where you trust it, make a file of its tensors: "
                "safetensors.torch.save_file(torch.jit.load(FILE).state_dict(), OUT)"
            ) from error
        if "GLOBAL" in str(error) or "weights_only" in str(error):
            raise CheckpointError(f"{path} is a pickle that holds more than tensors, {CODE}") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} cannot be read: truncated or not a checkpoint ({reason})") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        held = preview(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path} holds no tensors by name (it holds {held}); expected a state dict")
    if all(key.startswith("module.") for key in tensors):  # as training on several devices leaves them
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def _load(path: Path):
    import torch

    try:
        content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)  # torch 2.1 maps no Path
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        content = torch.load(str(path), map_location="cpu", weights_only=True)  # the older format cannot be mapped
    if content is None:  # A1111 puts a torch.load of its own there, which answers so to what it does not allow
        raise CheckpointError(
            f"{path} is a pickle that this program's own check refuses: see its log for the reason. "
            "Where you trust it, make a .safetensors of it: understudy oracle convert FILE --out OUT"
        )
    return content
