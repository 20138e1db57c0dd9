"""Several oracles as one: a weighted mean of percentiles, so that units cannot mislead, and a veto for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .calibration import Calibration, CalibrationError

VETOED = 101.0  # taken off a vetoed image's score: more than the 100 that is the best of them, so that it is below 0


@dataclass(frozen=True)
class Part:
    """One oracle of several: its scores count as percentiles of ``calibration``.

    ``calibration`` None is for a :class:`CombinedOracle`, whose scores are percentiles already and whose vetoes hold
    here too. Images below the ``veto``-th percentile, 0 to 100, are rejected whatever the others say; 0 vetoes none.
    """

    oracle: Callable[..., torch.Tensor]
    calibration: Calibration | None
    weight: float = 1.0
    veto: float = 0.0

    def __post_init__(self):
        name = self.oracle.family
        if not self.weight >= 0:
            raise ValueError(f"the weight of {name} is {self.weight:g}; expected 0 or more")
        if not 0 <= self.veto <= 100:
            raise ValueError(f"the veto of {name} is {self.veto:g}; expected a percentile, 0 to 100")
        if self.calibration is not None:
            self.require(self.calibration.settings)
            self.calibration.require_enough()
            if self.veto:
                self.calibration.value_at(self.veto)  # a published table does not reach every percentile
        elif not isinstance(self.oracle, CombinedOracle):
            raise CalibrationError(f"{name} needs a calibration: its scores become percentiles of the student's own")

    def require(self, settings: dict) -> None:
        """Raise CalibrationMismatch unless the calibration was made by this oracle with images of these settings."""
        if self.calibration is not None:
            self.calibration.require(settings, self.oracle.fingerprint, self.oracle.family)
        else:
            self.oracle.require(settings)

    def judged(self, images: torch.Tensor, prompts: Sequence[str], *how) -> tuple[torch.Tensor, torch.Tensor]:
        """The images' percentiles, 0 to 100, and which of them are vetoed."""
        scores = self.oracle(images, prompts, *how)
        if self.calibration is None:
            vetoed = scores < 0
            percentiles = scores + VETOED * vetoed
        else:
            percentiles = torch.tensor([100 * self.calibration.fraction_below(score) for score in scores.tolist()])
            vetoed = torch.zeros(len(scores), dtype=torch.bool)
        return percentiles, vetoed | (percentiles < self.veto)


class CombinedOracle:
    """Scores are the weighted mean of the parts' percentiles, 0 to 100; a vetoed image's is 101 lower, so below 0.

    Called as an :class:`~understudy.oracles.base.Oracle` is. Raises ValueError if all weights are 0.
    """

    family = "combined"
    unit = "percentile, vetoed images below 0"

    def __init__(self, parts: Sequence[Part]):
        self.parts = tuple(parts)
        self.total = sum(part.weight for part in self.parts)
        if not self.total:
            raise ValueError("all weights are 0; give at least one oracle a weight")

    @property
    def passes(self) -> int:
        """How many looks at each image its oracles take together."""
        return sum(part.oracle.passes for part in self.parts)

    @property
    def reads_prompts(self) -> bool:
        return any(part.oracle.reads_prompts for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the parts: oracles, calibrations with their percentiles, weights and vetoes."""
        told = [(p.oracle.fingerprint, _description(p.calibration), p.weight, p.veto) for p in self.parts]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    @property
    def against(self) -> str | None:
        """SHA-256 of what the parts' scores depend on beside image and prompt; None if nothing."""
        told = [part.oracle.against for part in self.parts]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest() if any(told) else None

    def require_count(self, images: int) -> None:
        """Raise OracleError unless every part can score that many images."""
        for part in self.parts:
            part.oracle.require_count(images)

    def require(self, settings: dict) -> None:
        """Raise CalibrationMismatch unless every calibration was made with images of these settings."""
        for part in self.parts:
            part.require(settings)

    def remarks(self, prompts: Sequence[str]) -> list[str]:
        # What two oracles remark alike, such as an empty prompt, is told once.
        return list(dict.fromkeys(remark for part in self.parts for remark in part.oracle.remarks(prompts)))

    def __call__(self, images: torch.Tensor, prompts: Sequence[str], *how) -> torch.Tensor:
        """As the parts are called; ``how`` is what else they take: the images' places, and ``on_progress``."""
        mean = torch.zeros(len(images))
        vetoed = torch.zeros(len(images), dtype=torch.bool)
        for part in self.parts:
            percentiles, rejected = part.judged(images, prompts, *how)
            mean += part.weight / self.total * percentiles
            vetoed |= rejected
        return mean - VETOED * vetoed


def _description(calibration: Calibration | None):
    """What a calibration says. Its percentiles count: they move as images are added under the same settings."""
    return calibration and (calibration.settings_hash, calibration.levels, calibration.percentiles)
