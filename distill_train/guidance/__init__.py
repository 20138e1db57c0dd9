"""How a network is guided: by a branch without a prompt, by an input of its own, by its own attention."""

from .attention import AttentionGuidance
from .classifier_free import ClassifierFree, Conditioning, Embedded, Guidance, Run
from .maps import map_of

__all__ = ["AttentionGuidance", "ClassifierFree", "Conditioning", "Embedded", "Guidance", "Run", "map_of"]
