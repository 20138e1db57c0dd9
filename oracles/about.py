"""What an oracle's file is, in words."""

from __future__ import annotations

from math import prod
from pathlib import Path

from ..files import CheckpointError, sha256
from .families import FAMILIES
from .family import Published
from .identify import candidates, identify, is_head
from .published import family_of, recognised
from .tensors import TensorFile


def about(path: str | Path) -> dict[str, str]:
    """Family, unit, size, licence, source and hash of the file of an oracle, or of an aesthetic predictor's encoder.

    Raises as ``load_oracle``.
    """
    file, digest = TensorFile(path), sha256(path)
    record = entry = None
    try:
        record = FAMILIES[identify(file, "auto", digest)]
        family, unit, entry = record.name, record.unit, _published(file, record.name, digest)
    except CheckpointError:
        if found := candidates(file):
            record = FAMILIES[found[0]]  # they share one layout, so what it tells of a file is the same
            family = f"{' or '.join(found)}; the file does not say which, so other commands need --family"
            unit = "depends on the family"
        elif predictors := [each.name for each in FAMILIES.values() if each.encoder and each.encoder.fits(file)]:
            family, unit = f"none; the image encoder of {', '.join(predictors)}", "none"
            entry = _published(file, "", digest)
        else:
            raise
    parameters = sum(prod(shape) for shape in file.shapes.values())
    told = {
        "family": family,
        "unit": unit,
        "size": f"{file.path.stat().st_size / 2**20:,.1f} MiB, {parameters / 1e6:,.1f} million parameters",
        "licence": entry.licence if entry else record and record.licence or "not known",
        "page": entry.page if entry else "not known",
        "source": entry.source if entry else record and record.source or "not known",
        "sha256": digest + _compared(file, entry, digest),
    }
    if record:
        told |= record.details(file)
    if is_head(file):
        told["needs"] = (
            f"the image encoder {record.encoder.published.name}; join the two with understudy oracle convert --encoder"
        )
    return told


def _compared(file: TensorFile, entry: Published | None, digest: str) -> str:
    if entry and entry.sha256 == digest:
        return " (the published file)"
    if entry and entry.sha256 and entry.file.lower() == file.path.name.lower():
        return " (the published file of this name has another)"
    return ""


def _published(file: TensorFile, family: str, digest: str) -> Published | None:
    """The published file that this is, by its hash, its name, or the name of what it was converted from."""
    for name in (file.path.name, file.metadata.get("made_from", "")):
        entry = recognised(name, digest)
        if entry is not None and family_of(entry) == family:
            return entry
    return None
