"""What is known of a model before it is distilled: its family, what it needs beside it, and how it is sampled."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ...files import read_header
from ...samplers.presets import TEACHERS, of_file
from ...samplers.presets.settings import Mu, Sampling, Shift
from ..config import SIZED, StudentSettings
from ..host import kind_of, side_of
from ..students.adapters import Adapters
from ..students.host_lora import usual_targets
from ..teachers.comfy import GUIDANCE
from ..teachers.companions import Companions, companions_of
from .sought import Sought, autoencoder, text_encoders

if TYPE_CHECKING:
    from ..host import Host
    from ..process import Process

# Where a checkpoint has its autoencoder and its text encoders.
OTHER_PARTS = ("first_stage_model.", "vae."), ("cond_stage_model.", "conditioner.", "text_encoders.")


@dataclass(frozen=True)
class Plan:
    """kind: the model's class in ComfyUI. whole: its file has text encoders and autoencoder, too. companions: what else
    it needs, of which texts and vae are files; None where it needs nothing or the table does not know it. row: how it
    is published to be sampled; None where the presets have nothing. guidance: what it is told, of a model that takes it
    as an input. side: of its pictures in pixels. targets: ends of the names of ``layers`` layers; empty for the usual
    ones. values: those of an adapter on them; network_values: those of the network.
    """

    host: Host
    file: Path
    kind: str
    process: Process
    whole: bool
    companions: Companions | None
    texts: tuple[Sought, ...]
    vae: Sought | None
    row: Sampling | None
    guidance: float | None
    side: int
    targets: tuple[str, ...]
    layers: int
    values: int
    network_values: int

    @property
    def cfg(self) -> float:
        """Guidance scale of the teacher; 1 is none."""
        return self.row.cfg if self.row else 1.0

    @property
    def shift(self) -> float | str | None:
        """That of the published sampling, where it sets one; `SIZED` of FLUX.1 dev, whose makers sample it so."""
        if self.kind == "Flux":
            return SIZED
        patch = self.row and self.row.patch
        if isinstance(patch, Mu):
            return round(math.exp(patch.at((self.side // 16) ** 2)), 4)
        return patch.value if isinstance(patch, Shift) else None

    @property
    def missing(self) -> list[Sought]:
        return [each for each in (*self.texts, *filter(None, [self.vae])) if each.missing]


def plan_of(host: Host, file: Path) -> Plan:
    """Raises what `Host.outline` does, and ValueError for a published student that nothing here can sample."""
    model = host.outline(file)
    classes = [each.__name__ for each in type(model.model_config).__mro__]
    config, keys = model.model_config.unet_config, read_header(file).shapes
    whole = all(any(key.startswith(part) for key in keys) for part in OTHER_PARTS)
    companions = None if whole else companions_of(classes, config.get("context_in_dim"))
    takes_guidance = bool(config.get("guidance_embed"))
    row = _published(file, classes, takes_guidance)
    names = usual_targets(model)
    return Plan(
        host=host,
        file=file,
        kind=kind_of(model),
        process=host.process(model),
        whole=whole,
        companions=companions,
        texts=text_encoders(host, companions) if companions else (),
        vae=autoencoder(host, companions) if companions else None,
        row=row,
        guidance=((row and row.guidance) or GUIDANCE) if takes_guidance else None,
        side=side_of(model),
        targets=_ends(names, model),
        layers=len(names),
        values=_values(model, names),
        network_values=sum(value.numel() for value in model.diffusion_model.parameters()),
    )


def _published(file: Path, classes: Sequence[str], takes_guidance: bool) -> Sampling | None:
    """How a model is meant to be sampled: as the student that its file's name says, or as the teachers of its class."""
    student = of_file(file.name)
    if student is not None and {*student.architectures} & {*classes}:
        return student
    rows = next((found for name in classes if (found := _teachers_of(name))), [])
    return next((row for row in rows if (row.guidance is not None) == takes_guidance), rows[0] if rows else None)


def _teachers_of(architecture: str) -> list[Sampling]:
    return [row for row in TEACHERS.values() if architecture in row.architectures]


def _values(network: nn.Module, names: Sequence[str]) -> int:
    """Those of an adapter on layers of a network."""
    adapters = Adapters(network)
    if names:
        with torch.device("meta"):
            adapters.add("student", names, StudentSettings().rank)
    return sum(value.numel() for value in adapters.parameters())


def _ends(names: Sequence[str], network: nn.Module) -> tuple[str, ...]:
    """The ends of layers' names behind the numbers of their blocks, so that a recipe stays short; none where they would
    name others, too."""
    ends = tuple(dict.fromkeys(re.sub(r"^.*\.\d+\.(?=[a-z])", "", name) for name in names))
    dotted = tuple(f".{end}" for end in ends)
    meant = {name for name, _ in network.named_modules() if f".{name}".endswith(dotted)}
    return ends if meant == {*names} else ()
