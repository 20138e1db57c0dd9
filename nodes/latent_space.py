"""Which space a LATENT is of: many are shaped alike, so that its shape does not tell."""

from __future__ import annotations

from ..samplers.presets import ARCHITECTURES
from .presets import architecture_of


def space_of(model) -> str:
    """The name of the space in which a MODEL's LATENTs are: the table's, else that of the host's class for it."""
    host = type(model.get_model_object("latent_format")).__name__
    architecture = architecture_of(model)
    if architecture is not None:
        latent = ARCHITECTURES[architecture].latent
        if host == (latent.format or latent.name):
            return latent.name
    return host


def require_space(space: str | None, model) -> None:
    """Raise ValueError where a latent is known to be of another space than the MODEL's; None: not known."""
    own = space_of(model)
    if space not in (None, own):
        raise ValueError(
            f"start_from is 'latent', but the student's latent is of the space {space} and the teacher's are of {own}, "
            "which hold other numbers even where their shapes agree: start from images."
        )
