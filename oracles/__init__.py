"""Oracles: score an image for a prompt, calibrate, decide. Nothing here knows ComfyUI or the samplers."""

from __future__ import annotations

from pathlib import Path

from .families import FAMILIES


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
    record = FAMILIES[identify(file, family, fingerprint)]
    if encoder is not None and not is_head(file):
        raise ValueError(f"{path} ({record.name}) scores without an image encoder; leave {encoder} out")
    oracle = record.load(file, fingerprint, dtype or torch.float32, encoder)
    oracle.record = record
    oracle.network.to(device)
    return oracle
