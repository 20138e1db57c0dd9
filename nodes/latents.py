"""LATENTs as other packs hand them over."""

from __future__ import annotations

from collections.abc import Mapping


def single(latent: Mapping, what: str) -> dict:
    """A LATENT without the entries that are None, as some packs write what they do not have.

    what: the input's name, for errors. Raises ValueError for one without samples, and for latents of several kinds
    in one, such as video with audio.
    """
    if latent.get("samples") is None:
        raise ValueError(f"{what} has no samples: it is not a LATENT that a node of ComfyUI made")
    found = {key: value for key, value in latent.items() if value is not None}
    if getattr(found.get("samples"), "is_nested", False):
        kinds = len(found["samples"].unbind())
        raise ValueError(
            f"{what} holds {kinds} latents in one, such as a video with its sound, which cannot be sampled here; "
            "connect one of images or video alone"
        )
    return found
