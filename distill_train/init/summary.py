"""A plan in a few lines for a person, with what it will take by count."""

from __future__ import annotations

from ..run.sizes import size
from .plan import Plan
from .recipe import guidance_said
from .ways import Way

EXPORTED = 2  # bytes of a value in an export, which is in half precision


def summary(plan: Plan, way: Way) -> str:
    weights = min(plan.file.stat().st_size, 2 * plan.network_values)  # 8 bits stay so; all else is loaded in 16
    training = way.held * plan.values
    lines = [
        f"model       {plan.file.name}, {plan.kind} to the ComfyUI in {plan.host.folder}",
        f"method      {way.method}, into {way.makes}",
        f"texts       {_texts(plan)}",
        f"vae         {'in the file' if plan.whole else plan.vae or 'not known for this family: set teacher.vae'}",
        f"targets     {_targets(plan)}",
        f"grid        {way.grid}{_shift(plan)}",
        f"guidance    {guidance_said(plan, way)}",
        f"memory      {size(weights + training)} at least: {size(weights)} for the network, {size(training)} for "
        f"{plan.values / 1e6:.3g} million values that train",
        f"disk        checkpoints of {size(way.saved * plan.values)}, exports of {size(EXPORTED * plan.values)}",
    ]
    return "\n".join([*lines, *(f"Missing: put {each.path.name} into {each.path.parent}" for each in plan.missing)])


def _texts(plan: Plan) -> str:
    if plan.whole:
        return "in the file"
    if plan.companions is None:
        return "not known for this family: set teacher.clip and teacher.clip_type"
    return f"{', '.join(map(str, plan.texts))}; of the type {plan.companions.clip_type}"


def _targets(plan: Plan) -> str:
    if not plan.layers:
        return "no layers are named as attention and feed-forward usually are: set student.targets"
    return f"{plan.layers} layers: {', '.join(plan.targets) or 'attention and feed-forward of all blocks'}"


def _shift(plan: Plan) -> str:
    if plan.process.prediction != "flow":
        return ""
    shift = plan.shift or plan.process.shift
    return f", shift {shift if isinstance(shift, str) else format(shift, '.4g')}"
