"""A take by KSampler's own inputs: model, positive, negative, and widgets for what is to be done with them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from ..samplers.rollback import noise_variance
from .guiders import cfg_guider
from .take import Shot, Take


@dataclass(kw_only=True)
class PlainTake(Take):
    INPUTS = ("model", "positive", "negative")

    model: object
    positive: list | None
    negative: list | None
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str

    @functools.cached_property
    def sampler(self):
        from comfy.samplers import sampler_object

        return sampler_object(self.sampler_name)

    @functools.cached_property
    def guider(self):
        return cfg_guider(self.model, self.positive, self.negative, self.cfg)

    def input_of(self, condition: str) -> str:
        return condition

    def sigmas_of(self, shot: Shot) -> torch.Tensor:
        from comfy.model_sampling import CONST
        from comfy.samplers import KSampler

        whole = self.strategy == "regenerate" or shot.rollback == 1
        denoise = 1.0 if whole or self.rollback_mode == "noise_variance" else shot.rollback
        model, device = self.model, self.model.load_device
        host = KSampler(model, self.steps, device, self.sampler_name, self.scheduler, denoise, model.model_options)
        if whole or self.rollback_mode == "schedule":
            return host.sigmas
        sampling = model.get_model_object("model_sampling")
        lowest, highest = float(sampling.sigma_min), float(sampling.sigma_max)
        flow = isinstance(sampling, CONST)
        return noise_variance(host.calculate_sigmas, self.steps, shot.rollback, lowest, highest, flow).to(device)

    def agrees_in(self) -> tuple:
        conditioning = (id(self.positive), id(self.negative), self.cfg)
        return (*conditioning, self.steps, self.sampler_name, self.scheduler)
