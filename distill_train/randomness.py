"""Random draws that follow from a seed and a place alone, so that a resumed run draws what an unbroken one does."""

import hashlib

import torch


def generator(*place: object) -> torch.Generator:
    """A CPU generator for a place such as ``(seed, "noise", step)``."""
    digest = hashlib.sha256("/".join(map(str, place)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
