"""The oracle of one job, and what keeps a picture from its score."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from . import host
from .oracle import HostedOracle
from .trouble import NotRedone, as_not_redone, pictures, say


class Judge:
    """Called with pictures and prompts. oracle: the pack's own."""

    def __init__(self, p, name: str):
        self.p = p
        # A network is made of random numbers before it is filled, and image to image draws from what comes after.
        with as_not_redone(lambda: f"loading the oracle {name}"), torch.random.fork_rng([]):
            self.hosted = HostedOracle(name)
        self.oracle = self.hosted.oracle

    def __call__(self, images: Sequence[torch.Tensor], prompts: Sequence[str]) -> list[tuple[float, str]]:
        """(score, "") for each, or (NaN, why): of a picture that the user cut short none is a score."""
        if trouble := host.cut_short():
            return [(math.nan, trouble)] * len(images)
        try:
            with as_not_redone(lambda: f"scoring by {self.hosted.name}"):
                scores = self.hosted.each(images, prompts)
        except NotRedone as error:
            scores = [(math.nan, str(error))] * len(images)
        troubles = [trouble for _, trouble in scores if trouble]
        if troubles:
            say(self.p, f"{pictures(len(troubles))} not scored: {troubles[0]}")
        return scores
