"""What an oracle's file is, in words."""

from __future__ import annotations

from math import prod
from pathlib import Path

from ..files import CheckpointError, sha256
from .base import UNITS
from .clip import activation_in, is_clip
from .identify import candidates, identify, is_head
from .published import PUBLISHED, Published, recognised
from .tensors import TensorFile


def about(path: str | Path) -> dict[str, str]:
    """Family, unit, size, licence, source and hash of the file of an oracle, or of an aesthetic predictor's encoder.

    Raises as ``load_oracle``.
    """
    file, digest = TensorFile(path), sha256(path)
    try:
        family = identify(file, "auto", digest)
        unit, entry = UNITS[family], _published(file, family, digest)
    except CheckpointError:
        entry = None
        if found := candidates(file):
            family = f"{' or '.join(found)}; the file does not say which, so other commands need --family"
            unit = "depends on the family"
        elif predictor := _encoder_of(file):
            family, unit = f"none; the image encoder of {predictor}", "none"
            entry = _published(file, "", digest)
        else:
            raise
    parameters = sum(prod(shape) for shape in file.shapes.values())
    own = family == "demo"
    told = {
        "family": family,
        "unit": unit,
        "size": f"{file.path.stat().st_size / 2**20:,.1f} MiB, {parameters / 1e6:,.1f} million parameters",
        "licence": entry.licence if entry else "Apache-2.0" if own else "not known",
        "page": entry.page if entry else "not known",
        "source": entry.source if entry else "Understudy's demo-oracle recipe" if own else "not known",
        "sha256": digest + _compared(file, entry, digest),
    }
    if is_clip(file.shapes):
        told["activation"] = activation_in(file)
    encoder = next((e.encoder for e in PUBLISHED if e.family == family and e.encoder), None)
    if encoder and is_head(file):
        told["needs"] = f"the image encoder {encoder}; join the two with understudy oracle convert --encoder"
    return told


def _encoder_of(file: TensorFile) -> str | None:
    """The aesthetic predictor whose tower this is, where it is nothing else."""
    if "vision_model.head.probe" in file:
        return "aesthetic-v2.5"
    return "laion-aesthetic-v2" if {"visual_projection.weight", "visual.proj"} & file.keys() else None


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
        if entry is not None and entry.family == family:
            return entry
    return None
