"""What files call the architectures that students are exported of: the one place that a new one is added to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """title: as users read it. modelspec: the model specification's name. kohya: that of kohya's trainer, by which
    A1111 knows which checkpoints a LoRA fits. original_names: kohya's trainer names layers as the original layout does,
    and its readers too; else as diffusers. says_prediction: its files say by empty tensors that a network predicts v.
    """

    title: str
    modelspec: str
    kohya: str
    original_names: bool
    says_prediction: bool


# By `Teacher.kind`, which a student's file has as its ``base``.
ARCHITECTURES = {
    "sd1": Facts("SD 1.x", "stable-diffusion-v1", "sd_v1", original_names=False, says_prediction=False),
    "sdxl": Facts("SDXL", "stable-diffusion-xl-v1-base", "sdxl_base_v1-0", original_names=True, says_prediction=True),
}
