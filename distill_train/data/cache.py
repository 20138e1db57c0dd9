"""Encoded samples on disk: one safetensors file each, named by what it was made from, whole or not there."""

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from ...files import read_header, save_tensors, write_whole

ABANDONED = 3600  # seconds after which nobody is still writing a file


class Cache:
    """A folder that runs share. ``maker`` is the checkpoint's fingerprint: each has a part of the folder to itself."""

    def __init__(self, folder: Path, maker: str):
        self.folder = folder / maker[:16]

    def tidy(self) -> None:
        """Remove what was being written when a process died; anything younger may be another run's."""
        before = time.time() - ABANDONED
        for path in self.folder.rglob("*"):
            if path.suffix == ".partial" or path.name.startswith("."):  # as save_tensors and write_whole name them
                with suppress(FileNotFoundError):  # whoever writes it may be done by now
                    if path.stat().st_mtime < before:
                        path.unlink()

    @staticmethod
    def key(*parts: Any) -> str:
        """A name for what ``parts``, numbers, texts and bytes, decide."""
        digest = hashlib.sha256()
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode()
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()[:32]

    def path(self, kind: str, key: str, suffix: str = ".safetensors") -> Path:
        """Where ``kind`` ("latents", "text", ...) of that key lies, if it is there."""
        return self.folder / kind / key[:2] / f"{key}{suffix}"

    def has(self, kind: str, key: str, suffix: str = ".safetensors") -> bool:
        """Whether it is there; what a crash of the machine left without content is not."""
        path = self.path(kind, key, suffix)
        return path.is_file() and path.stat().st_size > 0

    def load(self, kind: str, key: str) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        return load_file(self.path(kind, key))

    def shapes(self, kind: str, key: str) -> dict[str, tuple[int, ...]]:
        """Of the tensors that :meth:`load` would give."""
        return read_header(self.path(kind, key)).shapes

    def save(self, kind: str, key: str, tensors: dict[str, Tensor]) -> None:
        path = self.path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)

    def read_note(self, kind: str, key: str) -> Any:
        """What :meth:`write_note` noted, or None."""
        if not self.has(kind, key, ".json"):
            return None
        return json.loads(self.path(kind, key, ".json").read_text(encoding="utf-8"))

    def write_note(self, kind: str, key: str, value: Any) -> None:
        write_whole(self.path(kind, key, ".json"), json.dumps(value))
