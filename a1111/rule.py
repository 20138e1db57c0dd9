"""Which of a job's pictures are too low: the pack's thresholds, and calibrations in the host's folder of models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from ..oracles.budget import Budget
from ..oracles.calibration import Calibration, CalibrationMismatch
from ..oracles.calibration_names import calibration_file, names_in
from ..oracles.published_calibrations import PUBLISHED_CALIBRATIONS
from ..oracles.scores import Scores
from ..oracles.settings import flat
from ..oracles.threshold import Threshold
from . import host
from .choices import BUDGET, PERCENTILE, SCORE, USES, Choices, RefusedChoice
from .counting import Evaluations, runs_in

FOLDER = "understudy_calibrations"
NETWORK = re.compile(r"<[^<>:]+:[^<>]+>")


def calibration_files() -> list[str]:
    """The user's own in models/understudy_calibrations, as ComfyUI's Calibrate writes them, and the published ones."""
    return [*names_in(host.models_folder(FOLDER)), *PUBLISHED_CALIBRATIONS]


def calibration_path(name: str) -> Path:
    """Raises ValueError for a name that cannot be a file's."""
    return calibration_file(host.models_folder(FOLDER), name)


def settings_of(p) -> dict:
    """What makes the student's pictures beside prompt and seed, which a calibration is made for."""
    from modules.shared import opts

    again = None
    if getattr(p, "enable_hr", False):
        names = ("hr_upscale_to_x", "hr_upscale_to_y", "hr_upscaler", "hr_second_pass_steps", "denoising_strength")
        again = {name: getattr(p, name) for name in names}
    elif hasattr(p, "init_images"):
        again = {"denoising_strength": p.denoising_strength}
    return {
        "checkpoint": getattr(p, "sd_model_hash", None) or p.sd_model_name,
        "vae": getattr(p, "sd_vae_name", None),
        "clip_skip": getattr(opts, "CLIP_stop_at_last_layers", 1),
        "networks": sorted({found for prompt in p.all_prompts for found in NETWORK.findall(prompt)}),
        "sampler": p.sampler_name,
        "scheduler": getattr(p, "scheduler", None),
        "steps": p.steps,
        "cfg": p.cfg_scale,
        "width": p.width,
        "height": p.height,
        "image_to_image": again,
    }


def calibration_of(choices: Choices, settings: dict, oracle) -> Calibration | None:
    """The chosen calibration, None where the rule needs none. Raises ValueError for one of other settings."""
    if "calibration" not in USES[choices.rule]:
        return None
    name = choices.calibration
    path = None if name in PUBLISHED_CALIBRATIONS else calibration_path(name)
    if path is not None and not path.is_file():
        there = ", ".join(calibration_files())
        raise RefusedChoice(f"no calibration {name!r} in models/{FOLDER}; there are: {there}")
    table = PUBLISHED_CALIBRATIONS[name] if path is None else Calibration.load(path)
    if path is None or table.settings.keys() == settings.keys():
        table.require(settings, oracle.fingerprint, oracle.family)
    else:
        _require_of_elsewhere(table, settings, oracle)
    table.require_enough()
    return table


def _require_of_elsewhere(table: Calibration, settings: dict, oracle) -> None:
    """Another host has other names for settings, all but the student's steps."""
    if table.oracle != oracle.fingerprint:
        raise CalibrationMismatch(
            f"calibration {table.name!r} was made with another oracle ({table.oracle[:12] or 'not named'}, not "
            f"{oracle.fingerprint[:12]}). Use the same, or calibrate under a new name"
        )
    named = {value for key, value in flat(table.settings).items() if key.rsplit(".", 1)[-1].endswith("steps")}
    steps = {value for value in named if isinstance(value, int)}
    if steps and settings["steps"] not in steps:
        raise CalibrationMismatch(
            f"calibration {table.name!r} was made with {', '.join(map(str, sorted(steps)))} steps, and these pictures "
            f"have {settings['steps']}. Use the same, or calibrate under a new name"
        )


def threshold_of(choices: Choices, table: Calibration | None, student: Evaluations | None = None) -> Threshold:
    """The rule as the pack's threshold. student: what its first picture took, which a budget asks for.

    Raises ValueError for a budget that the student alone exceeds, or where evaluations cannot be counted.
    """
    if choices.rule == SCORE:
        return Threshold.fixed(choices.score)
    if choices.rule == PERCENTILE:
        return Threshold.percentile(table, choices.percentile)
    if choices.rule == BUDGET:
        runs = runs_in(choices.sampler, choices.steps)
        if not student.each or runs is None:
            who = "the student" if not student.each else f"the teacher with {choices.sampler}"
            raise RefusedChoice(f"it cannot be told what {who} takes of a budget; choose another rule or sampler")
        teacher = runs * student.passes(choices.cfg)
        return Threshold.budget(table, budget_with_tries(choices.budget, student.each, teacher, choices.best_of))
    return Threshold.worst_fraction(choices.share / 100)


def budget_with_tries(evaluations: float, student: float, teacher: float, n: int) -> Budget:
    """The budget of single tries, where what fails is tried up to ``n`` times before the teacher redoes it.

    With a share f of tries that fail, one that fails costs (1 + f + ... + f^(n-2)) of the student's tries more, and the
    teacher in f^(n-1) of the cases. The cost rises with f, so that the share which a budget pays for is found halving.
    """

    def more(share: float) -> float:
        return student * sum(share**number for number in range(n - 1)) + share ** (n - 1) * teacher

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if student + middle * more(middle) <= evaluations else (low, middle)
    return Budget(evaluations, student, more(high))


def record(name: str, settings: dict, oracle, images: Sequence[tuple[str, float, str]]) -> Calibration:
    """Scores of the student's own pictures, as (image id, score, prompt), into the calibration of that name.

    A picture counts once. Raises ValueError where it was begun with other settings or another oracle.
    """
    path = calibration_path(name)
    ids, values, prompts = zip(*images, strict=True)
    if path.is_file():
        table = Calibration.load(path)
    else:
        began = datetime.now(timezone.utc).isoformat()
        table = Calibration(path.stem, {}, settings, oracle.fingerprint, "prompts of jobs", began=began)
    if table.add(Scores(values, ids, oracle.fingerprint, prompts, settings, family=oracle.family)):
        table.save(path)
    return table
