"""SFERD's semantic gradient predictor (Zhou et al., AAAI 2024): networks, file, and how it shifts a student's x0.

Torch alone, so that nodes, command line and trainer share it.
"""

from .denoiser import Predicted, switched_off_at
from .file import read_predictor
from .networks import Features, Layout, Predictor

__all__ = ["Features", "Layout", "Predicted", "Predictor", "read_predictor", "switched_off_at"]
