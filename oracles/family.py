"""What is known of an oracle family: one record, from which commands, nodes, their help, docs and tests are made.

Nothing heavy is imported here or by a file of ``families``: hosts list families when they start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tensors import TensorFile

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Published:
    """A published file. ``sha256`` and ``size`` (bytes) are those of the file, or of its Git LFS pointer on the hub.

    Where one is None, the hub's word at the time of a download counts. ``folder`` is the host's models folder for it.
    """

    name: str
    file: str
    url: str
    licence: str
    source: str
    sha256: str | None = None
    size: int | None = None
    folder: str = "oracles"

    @property
    def page(self) -> str:
        """Where its authors describe it, with the licence."""
        return self.url.partition("/resolve/")[0].partition("/raw/")[0]


@dataclass(frozen=True)
class Encoder:
    """The image encoder that a family's bare head needs: in words, its published file, and how a file is known as one.

    ``fits`` is asked only of files that are no oracle.
    """

    words: str
    published: Published
    fits: Callable[[TensorFile], bool]


def _nothing_more(file: TensorFile) -> Mapping[str, str]:
    return {}


def _always(file: TensorFile) -> bool:
    return True


@dataclass(frozen=True)
class Family:
    """One way to score. ``name`` is typed by users, ``title`` read by them; ``takes`` is its file, for a table.

    ``fits(file)`` is whether a file has the layout, by names and shapes alone; ``is_guessed(file)`` whether one that
    fits may be taken for this family when nothing tells and other families fit as well. ``load(file, fingerprint,
    dtype, encoder)`` makes the oracle on the CPU, and raises CheckpointError for a file that cannot be scored with;
    ``details(file)`` is what ``oracle info`` says beside the rest, and raises the same. ``licence`` and ``source``
    hold for every file of the family; None: as its published file says.
    """

    name: str
    title: str
    unit: str
    takes: str
    fits: Callable[[TensorFile], bool]
    load: Callable  # -> an Oracle of base.py, which knows its record: so no arrow back
    reads_prompts: bool = True
    published: tuple[Published, ...] = ()
    encoder: Encoder | None = None
    is_guessed: Callable[[TensorFile], bool] = _always
    details: Callable[[TensorFile], Mapping[str, str]] = _nothing_more
    licence: str | None = None
    source: str | None = None


def on_hub(repository: str, file: str) -> str:
    """The address of a file on the hub."""
    return f"{HUB}/{repository}/resolve/main/{file}"
