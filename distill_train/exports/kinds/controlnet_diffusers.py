"""A ControlNet under diffusers' names, whatever the architecture."""

from __future__ import annotations

from dataclasses import replace

from ..kind import Contents, Trained
from . import controlnet


def contents(trained: Trained) -> Contents:
    from ..controlnet import by_diffusers

    return by_diffusers(trained)


KIND = replace(controlnet.KIND, name="controlnet-diffusers", usual_for=(), contents=contents)
