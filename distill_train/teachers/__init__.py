"""Teachers: Stable Diffusion 1.x, SDXL and the demo family, read offline from one path."""

from pathlib import Path

import torch

from ...demo_family import family
from ...files import read_header
from ...pipelines.checkpoint import open_checkpoint
from ...pipelines.student_request import quiet_libraries
from ..config import RecipeError
from .base import Teacher

__all__ = ["Teacher", "load_teacher"]


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
    device, path = torch.device(device), Path(path)
    if str(path) == "demo":
        path = family.FOLDER / "teacher.safetensors"
    if path.is_file() and read_header(path).metadata.get("understudy", "").startswith("demo-"):
        from .demo import DemoTeacher

        if prediction == "epsilon" or zero_snr or empty != "auto":
            raise RecipeError(
                "the demo family predicts v, not down to zero SNR, and has an empty text of its own; leave out "
                "teacher.prediction, teacher.zero_snr and teacher.empty"
            )

        return DemoTeacher(path, device, dtype, vae)
    from .stable_diffusion import StableDiffusionTeacher

    quiet_libraries()
    return StableDiffusionTeacher(open_checkpoint(path, vae), device, dtype, prediction, zero_snr, empty)
