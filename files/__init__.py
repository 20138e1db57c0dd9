"""Checkpoint files read with clear errors, and results that appear whole or not at all."""

from .hashes import known_sha256
from .headers import LONGEST_HEADER, CheckpointError, Header, kind_of, preview, read_header, sha256
from .text import write_whole
from .weights import fill, outline, save_tensors

__all__ = [
    "LONGEST_HEADER",
    "CheckpointError",
    "Header",
    "fill",
    "kind_of",
    "known_sha256",
    "outline",
    "preview",
    "read_header",
    "save_tensors",
    "sha256",
    "write_whole",
]
