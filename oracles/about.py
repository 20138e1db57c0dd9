"""What an oracle's file is, in words."""

from __future__ import annotations

from math import prod
from pathlib import Path

from ..files import CheckpointError, sha256
from .clip import activation_in, is_clip
from .identify import candidates, identify, is_head
from .published import PUBLISHED, Published, recognised
from .tensors import TensorFile

UNITS = {
    "imagereward": "standard deviations; may be negative",
    "hpsv2": "cosine; leaderboards show it times 100",
    "hpsv2.1": "cosine; leaderboards show it times 100",
    "pickscore": "logit scale times cosine",
    "clipscore": "100 times cosine",
    "laion-aesthetic-v2": "about 1 to 10; reads no prompt",
    "aesthetic-v2.5": "about 1 to 10; reads no prompt",
    "demo": "logit",
}


def about(path: str | Path) -> dict[str, str]:
    """Family, unit, size, licence, source and hash of an oracle's file. Raises as ``load_oracle``."""
    file, digest = TensorFile(path), sha256(path)
    try:
        family = identify(file, "auto", digest)
    except CheckpointError:
        if not candidates(file):
            raise
        family = " or ".join(candidates(file)) + "; choose with --family"
    entry = _published(file, family, digest)
    parameters = sum(prod(shape) for shape in file.shapes.values())
    own = family == "demo"
    told = {
        "family": family,
        "unit": UNITS.get(family, "depends on the family"),
        "size": f"{file.path.stat().st_size / 2**20:,.1f} MiB, {parameters / 1e6:,.1f} million parameters",
        "licence": entry.licence if entry else "Apache-2.0" if own else "not known",
        "source": entry.source if entry else "Understudy's demo-oracle recipe" if own else "not known",
        "sha256": digest + _compared(file, entry, digest),
    }
    if is_clip(file.shapes):
        told["activation"] = activation_in(file)
    encoder = next((e.encoder for e in PUBLISHED if e.family == family and e.encoder), None)
    if encoder and is_head(file):
        told["needs"] = f"the image encoder {encoder}; join the two with understudy oracle convert --encoder"
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
        if entry is not None and entry.family == family:
            return entry
    return None
