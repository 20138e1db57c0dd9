"""Oracles: score an image for a prompt, calibrate, decide. Nothing here knows ComfyUI or the samplers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

# A family is a module with `recognises(keys, metadata) -> bool` and `load(path, device, dtype) -> Oracle`.
# Both look at a safetensors file; the first family that recognises it wins when the family is "auto".
FAMILIES = {
    "clipscore": ".clipscore",
    "demo": ".demo",
}


def load_oracle(path: str | Path, family: str = "auto", device="cpu", dtype=None):
    """The :class:`~understudy.oracles.base.Oracle` in a safetensors file.

    ``family`` is a key of ``FAMILIES`` or ``"auto"``, which asks each family whether it knows the file's tensors.
    ``dtype`` None means float32. Raises FileNotFoundError, ``CheckpointError`` for a file that is no oracle or not one
    of ``family``, ValueError for an unknown family.
    """
    from ..files import CheckpointError, preview, read_header

    if family != "auto" and family not in FAMILIES:
        raise ValueError(f"oracle family {family!r} is not known; choose auto or one of {', '.join(FAMILIES)}")
    header = read_header(path)
    for name in FAMILIES if family == "auto" else [family]:
        module = import_module(FAMILIES[name], __package__)
        if module.recognises(set(header.shapes), header.metadata):
            return module.load(path, device=device, dtype=dtype)
    expected = f"an oracle of family {', '.join(FAMILIES)}" if family == "auto" else f"a {family} oracle"
    if any(".lora_" in key or "lora_A" in key for key in header.shapes):
        raise CheckpointError(f"{path} is a LoRA, not {expected}")
    raise CheckpointError(f"{path} is not {expected}; its tensors begin with {preview(header.shapes)}")
