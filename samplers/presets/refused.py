"""Students that a sampler of the host, or one of k-diffusion's signature, cannot sample."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .settings import normalised


@dataclass(frozen=True)
class Refused:
    """files: as a student's."""

    name: str
    files: tuple[str, ...]
    reason: str

    def match(self, path: str) -> re.Match | None:
        return next((found for pattern in self.files if (found := re.search(pattern, normalised(path)))), None)


REFUSED = (
    # Lakonik/ComfyUI-piFlow.
    Refused(
        "pi-Flow",
        ("gm(qwen|flux)-k8-piid",),
        "its network predicts a policy of Gaussian mixtures, which only a loader and a sampler of its own can follow "
        "(the pack ComfyUI-piFlow).",
    ),
    # yandex-research/swd.
    Refused(
        "SwD",
        ("(?<![a-z])swd-(sdxl|medium|large|flux)",),
        "it grows the image between steps, from a quarter of the area up, while a sampler keeps its size.",
    ),
    # Efficient-Large-Model/Sana_Sprint.
    Refused(
        "Sana-Sprint",
        ("sana-sprint",),
        "it is a consistency model in trigonometric time, which ComfyUI does not load.",
    ),
    # ChenDY/NitroFusion.
    Refused(
        "NitroFusion's plain networks",
        ("nitrosd-(realism|vibrant)-unet",),
        "they are told shifted timesteps, which no node of ComfyUI sets: take the checkpoint whose name ends in "
        "_comfyui, which has the shift in it.",
    ),
)
