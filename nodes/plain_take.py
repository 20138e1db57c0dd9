"""A take by KSampler's own inputs: model, positive, negative, and widgets for what is to be done with them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch

from ..samplers.presets import Teacher
from ..samplers.presets.settings import Schedule
from .guidance import guidance_remarks
from .guiders import cfg_guider
from .take import Shot, Take
from .teacher_settings import BY_TABLE, described, row_of, scheduler_of, way_back_of, with_patches
from .way_back import sigmas_from


@dataclass(kw_only=True)
class PlainTake(Take):
    """row: the table's, where the settings are by the table: steps, cfg, sampler and schedule are then its own."""

    INPUTS = ("model", "positive", "negative")

    model: object
    positive: list | None
    negative: list | None
    settings: str
    steps: int
    cfg: float
    sampler_name: str
    scheduler: Schedule
    row: Teacher | None = field(init=False, default=None)

    def __post_init__(self):
        super().__post_init__()
        if self.settings == BY_TABLE and self.shots:
            row = self.row = row_of(self.model, {shot.preset for shot in self.shots} - {None})
            self.steps, self.cfg, self.sampler_name, self.scheduler = row.steps, row.cfg, row.sampler, row.schedule

    @functools.cached_property
    def sampler(self):
        from comfy.samplers import sampler_object

        return sampler_object(self.sampler_name)

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width of the latents, once they are known: shifts may depend on them."""
        return tuple(self.shots[0].samples.shape[-2:])

    @functools.cached_property
    def patched(self) -> tuple[object, list[str]]:
        """The MODEL as it is sampled, and what became of its own patches."""
        if self.row is None:
            return self.model, []
        key = (id(self.model), self.row.key, self.cells)
        if key not in self.shared:  # the host keeps what it read for hooks at the MODEL
            self.shared[key] = with_patches(self.row, self.model, self.cells)
        return self.shared[key]

    @functools.cached_property
    def guider(self):
        return cfg_guider(self.patched[0], self.positive, self.negative, self.cfg)

    def input_of(self, condition: str) -> str:
        return condition

    def sigmas_of(self, shot: Shot) -> torch.Tensor:
        model, _ = self.patched
        scheduler = scheduler_of(model, self.sampler_name, self.scheduler, self.steps, self.cells)
        rollback = 1.0 if self.strategy == "regenerate" else shot.rollback
        sampling = model.get_model_object("model_sampling")
        return sigmas_from(scheduler, sampling, self.steps, rollback, self.rollback_mode).to(model.load_device)

    def published(self, shot: Shot) -> float | None:
        by_table = self.row is not None and self.rollback_mode == "noise"
        return way_back_of(shot.preset, self.row, self.model, self.cells) if by_table else None

    def source(self, shot: Shot) -> str:
        if self.published(shot) is not None:
            return f" (the table's for {shot.preset or f'the students of {self.row.key}'})"
        if self.row is None or self.rollback_mode != "noise":
            return ""
        return f" (the widget's: the table has none for {shot.preset or f'the students of {self.row.key}'})"

    def said(self, shot: Shot, start: float) -> list[str]:
        lines = super().said(shot, start)
        if self.row is None:
            return lines
        return [described(self.row, self.cells), *self.patched[1], *guidance_remarks(self.row, self.positive), *lines]

    def agrees_in(self) -> tuple:
        conditioning = (id(self.positive), id(self.negative), self.cfg)
        return (*conditioning, self.row and self.row.key, self.steps, self.sampler_name, self.scheduler)
