"""Groups of nodes that blocks have in common."""

from __future__ import annotations

from typing import NamedTuple

from .graph import Column, Look, Output


class Texts(NamedTuple):
    """Conditionings of a prompt and of an empty negative prompt."""

    positive: Output
    negative: Output


class Made(NamedTuple):
    """A student's pictures."""

    images: Output
    latent: Output


def encoded(column: Column, clip: Output, prompt: Output, title: str = "Prompt") -> Texts:
    positive = column.add("CLIPTextEncode", Look(title), clip=clip, text=prompt)
    negative = column.add("CLIPTextEncode", Look("Negative prompt"), clip=clip)
    return Texts(positive["CONDITIONING"], negative["CONDITIONING"])


def made(
    column: Column,
    model: Output,
    positive: Output,
    negative: Output,
    latent: Output,
    vae: Output,
    **settings: object,
) -> Made:
    """settings: more of Student sampler's inputs."""
    guided = {"positive": positive, "negative": negative}
    sampled = column.add("UnderstudyStudentSampler", model=model, **guided, latent_image=latent, **settings)["latent"]
    return Made(column.add("VAEDecode", samples=sampled, vae=vae)["IMAGE"], sampled)
