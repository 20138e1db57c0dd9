"""Which space a LATENT is of: many are shaped alike, so that its shape does not tell."""

from __future__ import annotations

from collections.abc import Mapping

from ..samplers.presets import ARCHITECTURES
from .presets import architecture_of
from .seeds import made_with


def space_of(model) -> str:
    """The name of the space in which a MODEL's LATENTs are: the table's, else that of the host's class for it."""
    host = type(model.get_model_object("latent_format")).__name__
    architecture = architecture_of(model)
    if architecture is not None:
        latent = ARCHITECTURES[architecture].latent
        if host == (latent.format or latent.name):
            return latent.name
    return host


def require_space(space: str | None, model, what: str, instead: str) -> None:
    """Raise ValueError where a latent is known to be of another space than the MODEL's; None: not known.

    what: the latent is, for the error. instead: what to do.
    """
    own = space_of(model)
    if space not in (None, own):
        raise ValueError(
            f"{what} is of the space {space} and the model's are of {own}, which hold other numbers even where their "
            f"shapes agree: {instead}."
        )


def require_latents(latent: Mapping, model, what: str) -> None:
    """Raise ValueError unless a LATENT, which may be of a student of ours, can be one of the MODEL's."""
    instead = "decode it with its own VAE and encode it with this model's, or take an empty latent"
    found = next(filter(None, (made_with(latent, place) for place in range(len(latent["samples"])))), None)
    if found is not None:  # one key goes with the whole batch
        require_space(found[0].get("space"), model, what, instead)
    own, shape = model.get_model_object("latent_format"), latent["samples"].shape
    if len(shape) != own.latent_dimensions + 2 or shape[1] != own.latent_channels:
        raise ValueError(
            f"{what} has shape {list(shape)}, but this model's latents ({space_of(model)}) have {own.latent_channels} "
            f"channels and {own.latent_dimensions + 2} dimensions: {instead}."
        )
