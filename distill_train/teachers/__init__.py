"""Teachers: Stable Diffusion 1.x, SDXL and the demo family, read offline from one path."""

from pathlib import Path

import torch

from ...files import read_header
from ...models.demo import family
from ...pipelines.checkpoint import open_checkpoint
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
) -> Teacher:
    """The frozen teacher in a checkpoint file or a diffusers folder; "demo" is the one that ships with the pack.

    dtype: of the UNet and the text encoders. vae: the demo family's autoencoder, where it is not the pack's.
    prediction: "epsilon" or "v_prediction", whatever the file says; "auto" believes it. zero_snr: the schedule ends at
    zero terminal SNR, also where the file does not say so.
    Raises FileNotFoundError, CheckpointError that says what the path holds instead, or RecipeError for a prediction,
    schedule or autoencoder that the model cannot have.
    """
    device, path = torch.device(device), Path(path)
    if str(path) == "demo":
        path = family.FOLDER / "teacher.safetensors"
    if path.is_file() and read_header(path).metadata.get("understudy", "").startswith("demo-"):
        from .demo import DemoTeacher

        if prediction == "epsilon" or zero_snr:
            raise RecipeError(
                "the demo family predicts v, not down to zero SNR; leave out teacher.prediction and teacher.zero_snr"
            )

        return DemoTeacher(path, device, dtype, vae)
    if vae is not None:
        raise RecipeError(
            f"teacher.vae is {vae}, but only the demo family has it apart; leave it out: the checkpoint's own is used"
        )
    from .stable_diffusion import StableDiffusionTeacher

    return StableDiffusionTeacher(open_checkpoint(path), device, dtype, prediction, zero_snr)
