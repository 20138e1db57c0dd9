"""What a file of ``understudy train`` says of its sampling, in the host's words, for the button that fills it in."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..files.student_file import EMBEDDED, StudentFile, is_student
from .choices import SAME
from .words import NOT_OURS

LORA = re.compile(r"<(?:lora|lyco):([^:>]+)[^>]*>", re.IGNORECASE)
# The host's widgets, by the end of their elem_id; those that are not there are not filled.
WIDGETS = {"steps": "steps", "cfg": "cfg_scale", "sampler": "sampling", "scheduler": "scheduler"}


@dataclass
class Filled:
    """values: of WIDGETS, teacher and remove, those that the file can set. said: what was filled in, and what not."""

    values: dict[str, object] = field(default_factory=dict)
    said: str = NOT_OURS


def fill(prompt: str, remove: str) -> Filled:
    """For the first student that the prompt names, else for the loaded checkpoint. remove: what the panel has.

    Raises CheckpointError for a student's file that cannot be read.
    """
    for name, path in _candidates(prompt):
        if path.suffix == ".safetensors" and path.is_file() and is_student(path):
            student = StudentFile.read(path)
            filled = Filled()
            lacks = [*_sampling(student, filled.values), *_teacher(student, name, remove, filled.values)]
            filled.said = _sentence(path, filled.values, lacks)
            return filled
    return Filled()


def _candidates(prompt: str) -> Iterator[tuple[str | None, Path]]:
    """(name in the prompt, file) of its LoRAs, then (None, the loaded checkpoint)."""
    from modules import sd_models

    # The host's own extension for LoRAs, wherever it has it.
    networks = sys.modules.get("networks")
    known = {**getattr(networks, "available_network_aliases", {}), **getattr(networks, "available_networks", {})}
    for name in LORA.findall(prompt):
        if name in known:
            yield name, Path(known[name].filename)
    chosen = sd_models.select_checkpoint()
    if chosen is not None:
        yield None, Path(chosen.filename)


def _sampling(student: StudentFile, values: dict) -> Iterator[str]:
    """Sets what the host can honour; yields what it cannot."""
    from modules import sd_samplers, sd_schedulers

    values["steps"] = student.steps
    if student.guidance == EMBEDDED:
        yield "its guidance is an input of the network, which this host cannot give: export it with --guidance"
    else:
        values["cfg"] = student.guidance
    sampler = next((s.name for s in sd_samplers.all_samplers if f"k_{student.sampler}" in s.aliases), None)
    if sampler is None:
        yield f"this host has no sampler {student.sampler!r}, which is Understudy Student Sampler's own in ComfyUI"
    else:
        values["sampler"] = sampler
    schedule = next((s.label for s in sd_schedulers.schedulers if s.name == student.scheduler), None)
    if schedule is None:
        yield f"this host has no schedule {student.scheduler!r}"
    else:
        values["scheduler"] = schedule
    if student.prediction not in ("epsilon", "flow"):
        yield f"it predicts {student.prediction}: the host has to take its model so, or the pictures are noise"
    if student.companion is not None:
        yield f"it is one half of a student: {student.companion} is the other"
    # What a schedule depends on beside its name is set elsewhere or, as in A1111 itself, nowhere.
    if student.shift is not None:
        yield f"it learned a flow of shift {student.shift:g}: set that where this host has a setting for it"
    if student.sigmas is not None:
        levels = ", ".join(f"{sigma:.3g}" for sigma in student.sigmas[:-1])
        yield f"its noise levels are {levels}, and a schedule comes only near them"


def _teacher(student: StudentFile, name: str | None, remove: str, values: dict) -> Iterator[str]:
    from modules import sd_models

    if name is not None:
        values["teacher"] = SAME
        part = f"<lora:{name}:*>"
        values["remove"] = remove if part in remove.split(",") else ",".join(filter(None, [remove.strip(), part]))
        if _file(sd_models.select_checkpoint().filename) != student.teacher_file:
            yield f"it was distilled from {student.teacher_file}, which is not the loaded checkpoint"
        return
    for info in sd_models.checkpoints_list.values():
        if info.sha256 == student.teacher_sha256 or _file(info.filename) == student.teacher_file:
            values["teacher"] = info.title
            return
    yield f"its teacher {student.teacher_file} is not among the host's checkpoints"


def _file(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


def _sentence(path: Path, values: dict, lacks: list[str]) -> str:
    texts = {"sampler": "{}", "scheduler": "{}", "steps": "{} steps", "cfg": "CFG {:g}", "teacher": "teacher: {}"}
    said = ", ".join(text.format(values[key]) for key, text in texts.items() if key in values)
    without = f", without {values['remove']}" if "remove" in values else ""
    return f"{path.name}: {said}{without}." + "".join(f" But {lack}." for lack in lacks)
