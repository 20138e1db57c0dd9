"""Text encoders and autoencoders among the files that a ComfyUI knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..teachers.companions import Companions, File

if TYPE_CHECKING:
    from ..host import Host


@dataclass(frozen=True)
class Sought:
    """A file beside a model: where it lies or, where it is missing, belongs. others: as good ones that lie there."""

    path: Path
    others: tuple[Path, ...] = ()

    @property
    def missing(self) -> bool:
        return not self.path.is_file()

    def __str__(self) -> str:
        if self.missing:
            return f"{self.path.name} is missing"
        others = f" (or {', '.join(path.name for path in self.others)})" if self.others else ""
        return f"{self.path.name}{others}"


def text_encoders(host: Host, companions: Companions) -> tuple[Sought, ...]:
    """Those that a model needs, in its loader's order. What a file is, ComfyUI itself recognises by its header."""
    kinds = {path: host.text_encoder(path) for path in host.files("text_encoders")}
    return tuple(
        _sought(host, "text_encoders", wanted, (path for path, kind in kinds.items() if kind == wanted.kind))
        for wanted in companions.texts
    )


def autoencoder(host: Host, companions: Companions) -> Sought:
    return _sought(host, "vae", companions.vae, host.files("vae"))


def _sought(host: Host, folder: str, wanted: File, there: Iterable[Path]) -> Sought:
    """The file among those that may be it, one with the published name first."""
    fitting = sorted(filter(wanted.called_so, there), key=lambda path: (path.name != wanted.published, path.name))
    if not fitting:
        return Sought(host.place(folder) / wanted.published)
    return Sought(fitting[0], tuple(fitting[1:]))
