"""How a model may be distilled into a LoRA, a row for each method: what its recipe says that others' do not.

Learning rates, betas and courses are those of the shipped recipes: of lcm-lora for `lcm` and `cd`, whose own trains all
weights; of dmd; and of pd with lcm-lora's rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config import RecipeError

INTERVALS = 50


@dataclass(frozen=True)
class Way:
    """method: the trainer's name of it. makes: in words, what comes out. source: who described it. grid: what of the
    schedule is learned. settings: of the recipe, by the guidance scale (cfg) of the teacher. guided: what becomes of
    that. note: a sentence on how its settings say it. loop: what [loop] says otherwise than all. held, saved: bytes in
    memory and in a checkpoint for each value of the LoRA, in float32: itself, its gradient, Adam's two averages, and
    what the method keeps beside them.
    """

    method: str
    makes: str
    source: str
    grid: str
    settings: Callable[[float], Mapping[str, Any]]
    guided: str = "which the student learns"
    note: str = ""
    loop: Mapping[str, Any] = field(default_factory=dict)
    held: int = 16
    saved: int = 12


def _lcm(cfg: float) -> dict[str, Any]:
    w = round(cfg - 1, 6)
    return {"intervals": INTERVALS, "w_min": w, "w_max": w, "target_ema": 0.0}


_ALL = (
    Way(
        "lcm", "a LoRA for 4 steps without guidance", "Luo et al. 2023", f"{INTERVALS} intervals", _lcm,
        note="LCM's w is cfg - 1.",
    ),
    # The target's average is a fifth copy of each value.
    Way(
        "cd", "a LoRA for 5 steps that keeps its guidance", "Starodubcev et al. 2023", f"{INTERVALS} intervals",
        lambda cfg: {"intervals": INTERVALS, "cfg": cfg, "target_ema": 0.95}, "which the student keeps",
        held=20, saved=16,
    ),
    # As are the weights of the student before, which teach.
    Way(
        "pd", "LoRAs for 4, 2 and 1 steps without guidance, one after the other", "Salimans and Ho 2022",
        "8 steps of the teacher", lambda cfg: {"teacher_steps": 8, "student_steps": 1, "cfg": cfg},
        loop={"steps": 6000, "decay": "cosine"}, held=20, saved=16,
    ),
    # The fake score has a LoRA of its own.
    Way(
        "dmd", "a LoRA for 4 steps without guidance, from texts alone", "Yin et al. 2024", "4 steps",
        lambda cfg: {"student_steps": 4, "cfg": cfg, "fake_updates": 5},
        loop={"steps": 5000, "lr": 5e-5, "weight_decay": 0.01, "grad_clip": 10.0}, held=32, saved=24,
    ),
)  # fmt: skip
WAYS: dict[str, Way] = {way.method: way for way in _ALL}


def way_of(method: str) -> Way:
    """Raises RecipeError for a method of which there is none."""
    if method not in WAYS:
        raise RecipeError(f"--method {method}: expected one of {', '.join(WAYS)}; of others change a shipped recipe")
    return WAYS[method]
