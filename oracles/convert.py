"""Make one safetensors file of an oracle: of a pickle, or of a head and the image encoder that it needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..files import save_tensors
from . import load_oracle
from .activation import activation_of
from .clip import IMAGE_TOWER, in_transformers_layout
from .tensors import Renamed, TensorFile


def convert(
    path: str | Path, out: str | Path, family: str = "auto", encoder: str | Path | None = None, half: bool = False
) -> str:
    """Write ``out`` with the tensors of ``path``, and its family in the metadata; returns the family.

    ``encoder``: for an aesthetic head, whose image encoder goes into the same file. ``half`` stores float16.
    ``path`` is loaded first, and the new file before it gets its name. Raises FileExistsError if ``out`` is there, and
    what :func:`load_oracle` raises.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise ValueError(f"--out is {out}; expected a name that ends in .safetensors")
    if out.exists():
        raise FileExistsError(f"{out} is there already; name another file")
    oracle = load_oracle(path, family, dtype=torch.float16, encoder=encoder)  # only to see that it can be
    told = {"family": oracle.family}
    if activation := activation_of(oracle.network):
        told["hidden_act"] = activation
    del oracle
    partial = out.with_name(f".{out.stem}.partial.safetensors")
    try:
        _write(Path(path), partial, encoder, told, half)
        load_oracle(partial, dtype=torch.float16)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return told["family"]


def _write(path: Path, partial: Path, encoder: str | Path | None, told: dict[str, str], half: bool) -> None:
    file = TensorFile(path)
    tensors = _stored(file, half)
    if encoder is not None:
        tower = in_transformers_layout(TensorFile(encoder))
        kept = {key: key for key in tower if key.startswith(IMAGE_TOWER)}
        tensors |= _stored(Renamed(tower, kept), half)
    # A file that was itself converted names what it was made from first, by which it is known.
    save_tensors(tensors, partial, {"made_from": path.name} | file.metadata | told)


def _stored(tensors: Mapping[str, Tensor], half: bool) -> dict[str, Tensor]:
    """Each as it will be written; a number on its own, CLIP's logit scale, is no size to save."""
    return {key: (_halved(value) if half else value).contiguous() for key, value in tensors.items()}


def _halved(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() and value.ndim else value
