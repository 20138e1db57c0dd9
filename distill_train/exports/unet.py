"""The whole UNet of a student, under the original layout's names."""

import torch

from ...files import CheckpointError, preview
from ...files.student_file import BASE_PART
from ...pipelines.lora import Change, lora_changes, read_lora
from ..teachers.architectures import ARCHITECTURES
from .base import PREDICTS_V, ZERO_SNR
from .kind import Contents, Trained


def unet(trained: Trained, prefix: str = "") -> Contents:
    """The UNet that was trained, or the base's with the LoRA that was; with it, what says how its output is meant.

    Raises CheckpointError for tensors that the base has not.
    """
    base = trained.base
    weights = _merged(trained) if trained.student.trained == "lora" else trained.weights
    if unknown := weights.keys() - base.names.keys():
        raise CheckpointError(f"{base.path} has no tensors {preview(unknown)} that the student has")
    markers = _markers(trained)
    return Contents(
        tensors={prefix + base.names[key]: value for key, value in weights.items()},
        expected={prefix + name: base.shapes[key] for key, name in base.names.items()} | dict.fromkeys(markers, (0,)),
        kept={key: torch.zeros(0) for key in markers},
    )


def trained_changes(trained: Trained) -> dict[str, Change]:
    """The changes of a student that is a LoRA, by diffusers' name of the layer."""
    if trained.student.alpha is None:
        raise CheckpointError(f"{trained.file}: its metadata lacks alpha")
    lora = read_lora(trained.file, BASE_PART["lora"] if trained.student.companion else "")
    return lora_changes(lora, trained.base.names, str(trained.base.path))


def _merged(trained: Trained) -> dict[str, torch.Tensor]:
    """The base UNet's weights, by diffusers' name, with the LoRA applied; changed ones in float32."""
    changes, weights = trained_changes(trained), trained.base.unet()
    for module, change in changes.items():
        try:
            weights[f"{module}.weight"] = change.applied(weights[f"{module}.weight"])
        except ValueError as error:
            raise CheckpointError(f"the LoRA does not fit {trained.base.path}: {module}: {error}") from error
    return weights


def _markers(trained: Trained) -> set[str]:
    """Names of the empty tensors that say what the network predicts, where files of the architecture do."""
    student, markers = trained.student, {ZERO_SNR} & trained.base.others.keys()
    if student.prediction == "v_prediction" and ARCHITECTURES[student.base].says_prediction:
        markers |= {PREDICTS_V, ZERO_SNR} if student.terminal_snr else {PREDICTS_V}
    return markers
