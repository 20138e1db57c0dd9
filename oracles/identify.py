"""Which family a file belongs to: its tensors, and where they leave a choice, its metadata, its hash, its name."""

from __future__ import annotations

from importlib import import_module

from ..files import CheckpointError, preview
from . import FAMILIES
from .aesthetic import fits_laion, fits_v25
from .clip import HUGE_WIDTH, image_width
from .published import recognised
from .tensors import TensorFile

SHARED_BY_HUGE = ("hpsv2", "hpsv2.1", "pickscore")  # ViT-H-14 all of them; a CLIP of another size is not one of these


def candidates(file: TensorFile) -> list[str]:
    """Every family whose layout the file has."""
    return [
        name for name, (module, fits) in FAMILIES.items() if getattr(import_module(module, __package__), fits)(file)
    ]


def identify(file: TensorFile, family: str, fingerprint: str) -> str:
    """The file's family, which is ``family`` unless that is "auto".

    Raises CheckpointError if the file does not have that layout, is no oracle, or could be one of several.
    """
    found = candidates(file)
    if family != "auto":
        if family not in found:
            raise CheckpointError(f"{file.path} is not a file of family {family}: {_looks_like(file, found)}")
        return family
    if not found:
        raise CheckpointError(f"{file.path} is not an oracle: {_looks_like(file, found)}")
    if file.metadata.get("family") in found:
        return file.metadata["family"]
    entry = recognised(file.path.name, fingerprint)
    if entry is not None and entry.family in found:
        return entry.family
    if image_width(file.shapes) != HUGE_WIDTH:
        found = [name for name in found if name not in SHARED_BY_HUGE]
    if len(found) > 1:
        raise CheckpointError(
            f"{file.path} could be any of {', '.join(found)}, which share one layout; choose the family yourself"
        )
    return found[0]


def is_head(file: TensorFile) -> bool:
    """Whether this is only the head of an aesthetic predictor, which needs its image encoder from another file."""
    return (fits_laion(file) or fits_v25(file)) and not any(key.startswith("vision_model.") for key in file)


def _looks_like(file: TensorFile, found: list[str]) -> str:
    if any(".lora_" in key or "lora_A" in key for key in file):
        return "it is a LoRA"
    if found:
        return f"it has the layout of {', '.join(found)}"
    return f"its tensors begin with {preview(file)}"
