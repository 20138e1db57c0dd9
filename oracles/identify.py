"""Which family a file belongs to: its tensors, and where they leave a choice, its metadata, its hash, its name."""

from __future__ import annotations

from ..files import CheckpointError, preview
from .families import FAMILIES
from .heads import is_whole
from .published import family_of, recognised
from .tensors import TensorFile


def candidates(file: TensorFile) -> list[str]:
    """Every family whose layout the file has."""
    return [name for name, family in FAMILIES.items() if family.fits(file)]


def identify(file: TensorFile, family: str, fingerprint: str) -> str:
    """The file's family, which is ``family`` unless that is "auto".

    Raises CheckpointError if the file does not have that layout, is no oracle, or could be one of several.
    """
    found = candidates(file)
    if family != "auto":
        if family not in found:
            raise CheckpointError(f"{file.path} is not a file of family {family}: {_looks_like(file, found)}")
        return family
    require_oracle(file)
    if file.metadata.get("family") in found:
        return file.metadata["family"]
    entry = recognised(file.path.name, fingerprint)
    if entry is not None and family_of(entry) in found:
        return family_of(entry)
    found = [name for name in found if FAMILIES[name].is_guessed(file)] or found
    if len(found) > 1:
        raise CheckpointError(
            f"{file.path} could be any of {', '.join(found)}, which share one layout; choose the family yourself"
        )
    return found[0]


def require_oracle(file: TensorFile) -> None:
    """Raises CheckpointError that says what the file is instead."""
    if not candidates(file):
        raise CheckpointError(f"{file.path} is not an oracle: {_looks_like(file, [])}")


def is_head(file: TensorFile) -> bool:
    """Whether this is only a head, which needs its image encoder from another file."""
    return any(family.encoder and family.fits(file) for family in FAMILIES.values()) and not is_whole(file)


def _looks_like(file: TensorFile, found: list[str]) -> str:
    if any(".lora_" in key or "lora_A" in key for key in file):
        return "it is a LoRA"
    if found:
        return f"it has the layout of {', '.join(found)}"
    return f"its tensors begin with {preview(file)}"
