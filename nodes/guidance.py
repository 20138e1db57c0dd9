"""The guidance that a network takes as an input, as the host's FluxGuidance writes it into the conditioning."""

from __future__ import annotations

from collections.abc import Iterator

from ..samplers.presets.settings import Sampling

# What the host tells a FLUX whose conditioning does not say it.
GUIDANCE = 3.5


def guidance_remarks(row: Sampling, positive: list) -> Iterator[str]:
    """What to say where the conditioning has another guidance than the table."""
    found = {options.get("guidance", GUIDANCE) for _, options in positive}
    if row.guidance is not None and found != {row.guidance}:
        given = ", ".join("none" if value is None else f"{value:g}" for value in found)
        made = f"{row.key} is made for {row.guidance:g}"
        yield f"the conditioning has guidance {given}, but {made}: set it with FluxGuidance"
