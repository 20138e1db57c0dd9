"""A plan as a recipe, with comments on where its numbers come from."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..config import toml
from .plan import Plan
from .ways import Way

# Learning rate and rank as in the recipe lcm-lora, and as there no averages of the weights.
LOOP = {
    "steps": 2000,
    "batch_size": 8,
    "accumulate": "auto",
    "lr": 1e-4,
    "betas": (0.9, 0.999),
    "warmup": 100,
    "decay": "constant",
    "ema": 0.0,
    "precision": "bf16",
    "checkpointing": "auto",
    "log_every": 10,
    "sample_every": 200,
    "checkpoint_every": 200,
}
DATA = (
    '# Pictures with captions as .txt files beside them. Also: kind = "prompts", path = "prompts.txt", for which the\n'
)
DATA += "# teacher makes the pictures."


def recipe_text(plan: Plan, way: Way) -> str:
    """TOML."""
    teacher = {"comfy": plan.file, "comfyui": plan.host.folder}
    if plan.texts:
        teacher |= {"clip": [each.path for each in plan.texts], "clip_type": plan.companions.clip_type}
    if plan.vae:
        teacher["vae"] = plan.vae.path
    teacher |= {key: value for key in ("shift", "guidance") if (value := getattr(plan, key)) is not None}
    samples = {"size": plan.side, "teacher_steps": plan.row.steps if plan.row else 25, "teacher_cfg": plan.cfg}
    name = re.sub(r"[^\w.-]+", "-", plan.file.stem)
    return "\n".join(
        [
            f"# {plan.file.name}, {plan.kind} to ComfyUI, distilled into",
            f"# {way.makes} ({way.source}).",
            f"# 'understudy train --help-config {way.method}' explains every key.",
            *(f"# Missing: {each.path}" for each in plan.missing),
            _entries({"method": way.method, "seed": 0, "export": f"{name}-student.safetensors"}),
            _table("teacher", teacher),
            _table("student", {"train": "lora", "rank": 64, "dtype": "bf16"}) + _targets(plan),
            _table("loop", {**LOOP, **way.loop}),
            f"# The teacher's guidance: {guidance_said(plan, way)}. {way.note}".rstrip(),
            _table("settings", way.settings(plan.cfg)),
            DATA,
            _table("data", {"kind": "folder", "path": "pictures", "size": plan.side}),
            _table("samples", samples),
        ]
    )


def _targets(plan: Plan) -> str:
    """As a comment: without the key, layers on which what the network says does not depend are left out."""
    return f"# What has a LoRA, if nothing else is named here: targets = {toml(plan.targets)}\n" if plan.targets else ""


def guidance_said(plan: Plan, way: Way) -> str:
    """How the teacher is guided, and who says so."""
    none = ", which is none" if plan.cfg == 1 else f", {way.guided}"
    source = (
        f"as the preset {plan.row.key} has it" if plan.row else f"as no preset is of {plan.kind}: set what it needs"
    )
    told = "" if plan.guidance is None else f"; it is told {plan.guidance:g}, as by FluxGuidance"
    return f"cfg {plan.cfg:g}{none}, {source}{told}"


def _table(name: str, entries: Mapping) -> str:
    return f"[{name}]\n{_entries(entries)}"


def _entries(entries: Mapping) -> str:
    return "".join(f"{key} = {toml(value)}\n" for key, value in entries.items())
