"""Make one safetensors file of an oracle: of a pickle, or of a head and the image encoder that it needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..files import save_tensors
from . import load_oracle
from .activation import activation_of
from .clip import in_transformers_layout
from .tensors import TensorFile


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
    oracle = load_oracle(path, family, encoder=encoder)
    file = TensorFile(path)
    tensors, metadata = dict(file), {"family": oracle.family, "made_from": Path(path).name}
    if encoder is not None:
        tensors |= _image_half(in_transformers_layout(TensorFile(encoder)))
    if activation := activation_of(oracle.network):
        metadata["hidden_act"] = activation
    if half:
        tensors = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    partial = out.with_name(f".{out.stem}.partial.safetensors")
    try:
        save_tensors({k: v.contiguous() for k, v in tensors.items()}, partial, file.metadata | metadata)
        load_oracle(partial)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return oracle.family


def _image_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensors[key] for key in tensors if key.startswith(("vision_model.", "visual_projection."))}
