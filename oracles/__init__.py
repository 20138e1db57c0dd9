"""Oracles: score an image for a prompt, calibrate, decide. Nothing here knows ComfyUI or the samplers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

# A family is a module, and the name of its function `fits(file) -> bool`; `load` is in the same module.
FAMILIES = {
    "imagereward": (".imagereward", "fits"),
    "hpsv2": (".hps", "fits"),
    "hpsv2.1": (".hps", "fits"),
    "pickscore": (".pickscore", "fits"),
    "clipscore": (".clipscore", "fits"),
    "laion-aesthetic-v2": (".aesthetic", "fits_laion"),
    "aesthetic-v2.5": (".aesthetic", "fits_v25"),
    "demo": (".demo", "fits"),
}


def load_oracle(path: str | Path, family: str = "auto", device="cpu", dtype=None, encoder: str | Path | None = None):
    """The :class:`~understudy.oracles.base.Oracle` in a ``.safetensors``, ``.pt``, ``.pth`` or ``.bin`` file.

    ``family`` is a key of ``FAMILIES``, or "auto": the layout is found from the tensors, and where families share one,
    the file's metadata decides, then its hash, then its name. ``dtype`` None means float32. ``encoder`` is the image
    encoder's file for an aesthetic predictor of which ``path`` is only the head.
    Raises FileNotFoundError, ``CheckpointError`` for a file that is no oracle or not one of ``family``, ValueError for
    an unknown family, or for an encoder where the file scores without one.
    """
    import torch

    from ..files import sha256
    from .identify import identify, is_head
    from .tensors import TensorFile

    if family != "auto" and family not in FAMILIES:
        raise ValueError(f"oracle family {family!r} is not known; choose auto or one of {', '.join(FAMILIES)}")
    file = TensorFile(path)
    fingerprint = sha256(path)
    family = identify(file, family, fingerprint)
    if encoder is not None and not is_head(file):
        raise ValueError(f"{path} ({family}) scores without an image encoder; leave {encoder} out")
    module = import_module(FAMILIES[family][0], __package__)
    oracle = module.load(file, family, fingerprint, dtype or torch.float32, encoder)
    oracle.network.to(device)
    return oracle
