"""A predictor's file: its networks, the statistics of z, and what they are for, in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from ..files import CheckpointError, fill, read_header
from .networks import MODES, Layout, Predictor

KIND, ENTRY, LAYOUT = "gradient-predictor", "understudy", "layout"


def described(layout: Layout) -> dict[str, str]:
    """Metadata from which :func:`read_predictor` builds the networks again."""
    return {ENTRY: KIND, LAYOUT: json.dumps(asdict(layout)), "mode": layout.mode}


def read_predictor(path: str | Path) -> Predictor:
    """The networks of a file in float32, frozen. ``about`` is what its metadata say.

    Raises FileNotFoundError, or CheckpointError for a file of another kind, or one that is not complete.
    """
    from safetensors.torch import load_file

    header = read_header(path)
    if header.metadata.get(ENTRY) != KIND:
        raise CheckpointError(f"{path} is no gradient predictor; expected a file of sferd-predictor or sferd-prior")
    try:
        told = json.loads(header.metadata[LAYOUT])
        told |= {name: tuple(told[name]) for name in ("skips", "encoder")}
        layout = Layout(**told)
        if layout.mode not in MODES:
            raise ValueError(f"its mode is {layout.mode!r}")
        with torch.device("meta"):
            network = Predictor(layout)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata do not say how it is built: {error}") from error
    predictor = fill(path, network, load_file(path), torch.float32, name="predictor")
    predictor.about = header.metadata
    return predictor
