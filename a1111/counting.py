"""Network evaluations, counted where the host makes them."""

from __future__ import annotations

from dataclasses import dataclass

KEPT_AS = "understudy_evaluations"  # on the processing that they are counted for
TWICE, UNKNOWN = 2, ("DPM adaptive", "Restart")
FIRST_TWICE = ("PLMS",)  # of the second order in its first step alone


@dataclass
class Evaluations:
    """Those of one run. rows: the network's inputs for a picture in a step, None before the first one.

    each: a picture's evaluations so far, None where the host does not say them.
    """

    each: float | None = 0
    rows: float | None = None

    def add(self, rows: float, cfg: float) -> None:
        self.rows = rows
        if self.each is not None:
            self.each = self.each + self.passes(cfg) if rows == int(rows) else None

    def passes(self, cfg: float) -> float:
        """Evaluations in a step: some hosts list the text's and the negative's, others the pictures alone."""
        return self.rows if self.rows > 1 else 1 if cfg == 1 else TWICE


def count_for(p) -> Evaluations:
    """A new count for what this processing samples from now on."""
    from modules import shared

    counted = Evaluations()
    # Then the host leaves the negative's out in some steps, and does not say in which.
    if getattr(shared.opts, "skip_early_cond", 0) or getattr(p, "s_min_uncond", 0):
        counted.each = None
    setattr(p, KEPT_AS, counted)
    return counted


def count(params) -> None:
    """on_cfg_denoiser: before each of the host's calls of its network."""
    p = getattr(getattr(params, "denoiser", None), "p", None)
    counted = getattr(p, KEPT_AS, None)
    if counted is not None:
        hires = getattr(p, "is_hr_pass", False) and getattr(p, "hr_cfg", None)
        counted.add(len(params.x) / len(p.prompts), hires or p.cfg_scale)


def runs_in(sampler: str, steps: int) -> int | None:
    """How often a sampler asks for a denoised picture in so many steps that end at 0; None where that depends."""
    from modules import sd_samplers

    known = sd_samplers.find_sampler_config(sampler)
    if known is None or sampler in UNKNOWN:
        return None
    # One of the second order takes its last step, to 0, in one.
    of_second_order = known.total_steps(steps) > steps
    return TWICE * steps - 1 if of_second_order else steps + (sampler in FIRST_TWICE)
