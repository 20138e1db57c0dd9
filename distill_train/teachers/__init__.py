"""Teachers: each kind is one file here, which knows what it can read, and is found by being there."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import torch

from ..config import TeacherSettings
from .base import FromPath, Teacher, WaitingTeacher
from .stable_diffusion import StableDiffusionTeacher

__all__ = ["FromPath", "Teacher", "WaitingTeacher", "load_teacher", "open_teacher", "teacher_classes"]


def teacher_classes() -> tuple[type[FromPath], ...]:
    """Every kind; the last is asked for what no other knows, as its errors say what a path holds instead."""
    found = [
        value
        for module in iter_modules(__path__)
        for value in vars(import_module(f".{module.name}", __name__)).values()
        if isinstance(value, type) and issubclass(value, FromPath) and "load" in vars(value) and value is not FromPath
    ]
    return tuple(sorted(dict.fromkeys(found), key=lambda teacher: teacher is StableDiffusionTeacher))


def load_teacher(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    vae: Path | None = None,
    prediction: str = "auto",
    zero_snr: bool = False,
    empty: str = "auto",
) -> Teacher:
    """The frozen teacher in a checkpoint file or a diffusers folder; "demo" is the one that ships with the pack.

    dtype: of the UNet and the text encoders. vae: an autoencoder in the place of its own, or of the demo family's.
    prediction: "epsilon" or "v_prediction", whatever the file says; "auto" believes it. zero_snr: the schedule ends at
    zero terminal SNR, also where the file does not say so. empty: "zeros" or "text", what stands for no prompt.
    Raises FileNotFoundError, CheckpointError that says what the path holds instead, or RecipeError for a prediction,
    schedule or autoencoder that the model cannot have.
    """
    *others, last = teacher_classes()
    kind = next((teacher for teacher in others if teacher.knows(Path(path))), last)
    return kind.load(Path(path), torch.device(device), dtype, vae, prediction, zero_snr, empty)


def open_teacher(told: TeacherSettings, device: torch.device | str, dtype: torch.dtype) -> Teacher:
    """The frozen teacher that a recipe names: one that ComfyUI loads, or what :func:`load_teacher` loads."""
    if told.comfy is None:
        teacher = load_teacher(told.path, device, dtype, told.vae, told.prediction, told.zero_snr, told.empty)
    else:
        from .comfy import ComfyTeacher

        teacher = ComfyTeacher(told, torch.device(device), dtype)
    teacher.read_texts_as(told.clip_skip, told.max_tokens)
    return teacher
