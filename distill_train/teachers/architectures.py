"""What files call the architectures that students are exported of: the one place that a new one is added to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """title: as users read it. modelspec: the model specification's name, empty where it is the host's. kohya: that of
    kohya's trainer, by which A1111 knows which checkpoints a LoRA fits. original_names: kohya's trainer names layers as
    the original layout does, and its readers too; else as diffusers. says_prediction: its files say by empty tensors
    that a network predicts v. original_controlnets: programs read its ControlNets in the original layout; else under
    diffusers' names alone.
    """

    title: str
    modelspec: str
    kohya: str
    original_names: bool
    says_prediction: bool
    original_controlnets: bool


HOSTED = "comfyui"  # stands for all that ComfyUI loads, whose kinds are its own names

# By `Teacher.kind`, which a student's file has as its ``base``.
ARCHITECTURES = {
    "sd1": Facts(
        title="SD 1.x",
        modelspec="stable-diffusion-v1",
        kohya="sd_v1",
        original_names=False,
        says_prediction=False,
        original_controlnets=True,
    ),
    "sdxl": Facts(
        title="SDXL",
        modelspec="stable-diffusion-xl-v1-base",
        kohya="sdxl_base_v1-0",
        original_names=True,
        says_prediction=True,
        original_controlnets=False,
    ),
    HOSTED: Facts(
        title="what ComfyUI loads",
        modelspec="",
        kohya="",
        original_names=False,
        says_prediction=False,
        original_controlnets=False,
    ),
}
