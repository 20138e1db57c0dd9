"""How a network is guided: by a branch without a prompt, by an input of its own, by its own attention."""

from .attention import AttentionGuidance, guiding_block
from .classifier_free import ClassifierFree, Conditioning, Embedded, Guidance, Run

__all__ = ["AttentionGuidance", "ClassifierFree", "Conditioning", "Embedded", "Guidance", "Run", "guiding_block"]
