"""The published oracle files of all families, and their image encoders, by name."""

from __future__ import annotations

from pathlib import Path

from .families import FAMILIES
from .family import Published

_EVERY = [entry for family in FAMILIES.values() for entry in family.published]
_EVERY += [family.encoder.published for family in FAMILIES.values() if family.encoder]
PUBLISHED: tuple[Published, ...] = tuple(dict.fromkeys(_EVERY))  # an encoder may be another family's oracle


def family_of(entry: Published) -> str:
    """The name of the family that the file is an oracle of, "" for one that is only an image encoder."""
    return next((name for name, family in FAMILIES.items() if entry.name in (e.name for e in family.published)), "")


def encoder_for(entry: Published) -> Published | None:
    """The image encoder that the file needs beside it."""
    family = FAMILIES.get(family_of(entry))
    return family.encoder.published if family and family.encoder else None


def folder_for(entry: Published) -> Path:
    """The host's folder for this file, if the pack lies in a ComfyUI. Raises ValueError elsewhere."""
    # As it is named, not where a link to it points: a linked pack is in the host's folder too.
    custom_nodes = Path(__file__).absolute().parents[2]
    if custom_nodes.name != "custom_nodes":
        raise ValueError("this pack does not lie in a ComfyUI's custom_nodes; say where the file goes with --to FOLDER")
    return custom_nodes.parent / "models" / entry.folder


def by_name(name: str) -> Published:
    """The entry of this name. Raises ValueError that lists the names."""
    for entry in PUBLISHED:
        if entry.name == name:
            return entry
    raise ValueError(f"{name!r} is no published file; choose one of {', '.join(entry.name for entry in PUBLISHED)}")


def recognised(file_name: str, sha256: str) -> Published | None:
    """The entry whose hash this is, else the one whose published file name it is."""
    for entry in PUBLISHED:
        if entry.sha256 == sha256:
            return entry
    return next((entry for entry in PUBLISHED if entry.file.lower() == file_name.lower()), None)
