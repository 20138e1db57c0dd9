"""Students of SD 1.5, SD 2.1 and SDXL, and those of this project.

TPL: a template of ``comfyui-workflow-templates-json`` 0.1.123. EX: ComfyUI_examples. KRITA: a preset of
krita-ai-diffusion. Where a rollback has no other source, it is this table's: so far back that noise is to signal about
as far as published refining goes.
"""

from __future__ import annotations

from .settings import X0, Grid, Lcm, Student, Timesteps

_BOTH = {"architectures": ("SD15", "SDXL"), "teachers": ("sd15", "sdxl"), "rollback": 0.3}
_SDXL = {"architectures": ("SDXL",), "teachers": ("sdxl",), "rollback": 0.3}
_LCM = {
    "sampler": "lcm", "schedule": "sgm_uniform", "patch": Lcm(), "cfgs": (1.0, 2.0),
    "teachers": ("sd15", "sdxl"), "rollback": 0.3,
}  # fmt: skip
_SD_TURBO = {
    "sampler": "euler_ancestral", "schedule": Timesteps(tuple(range(999, 0, -100))), "steps": 1, "allowed": range(1, 5),
    "rollback": 0.3,
}  # fmt: skip
_TCD = {"sampler": "tcd", "schedule": "simple", "knobs": {"gamma": 0.3}} | _BOTH

DIFFUSION = (
    # distill_train/demo. Rollback: bench/adaptive.py's 0.7, of which six steps of eight start at timestep 749.
    Student(
        key="demo", about="the student of Load demo pair", sampler="consistency", schedule=Grid("trailing"),
        steps=4, allowed=range(1, 51), teachers=("demo-teacher",), rollback=0.75,
    ),
    # Luo et al. 2023 evaluate 1 to 8 steps. SimianLuo/LCM_Dreamshaper_v7, latent-consistency/lcm-sdxl: whole networks,
    # whose own input for guidance ComfyUI leaves out.
    Student(
        key="LCM", about="a whole latent consistency model", files=("lcm-dreamshaper", "(?<![a-z])lcm-(sdxl|ssd-1b)"),
        steps=4, allowed=range(1, 9), cfg=1.0, **_LCM,
    ),
    # EX lcm, README and its picture's metadata: 5 steps, cfg 1.8. KRITA "Realtime - LCM": 6, 1.8.
    Student(
        key="LCM-LoRA", lora=True,
        about="a checkpoint with an LCM LoRA", files=("lcm-lora",), steps=5, allowed=range(1, 9),
        cfg=1.8, negative=True, **_LCM,
    ),
    # Starodubcev et al. 2023, CD-SD 1.5.
    Student(
        key="consistency", about="consistency distillation without LCM's boundary scaling", sampler="consistency",
        schedule=Grid("leading"), steps=4, allowed=range(1, 51), cfg=8.0, cfgs=None, negative=True, teachers=("sd15",),
        rollback=0.3,
    ),
    # Mei et al. 2024: 1 to 4 steps of DDIM on the grid of the training. A file says its own grid.
    Student(
        key="codi", about="a model under its CoDi or PE-CoDi ControlNet", sampler="euler",
        schedule=Grid("trailing", 20), steps=4, allowed=range(1, 5), cfgs=None,
        teachers=("sd15", "sdxl"), rollback=0.3,
    ),
    # jabir-zheng/TCD README; JettHu/ComfyUI-TCD README for the schedule.
    Student(
        key="tcd", lora=True,
        about="a checkpoint with a TCD LoRA", files=("tcd-(sd15|sdxl)-lora",), steps=4, allowed=range(1, 51),
        **_TCD,
    ),
    # ByteDance/Hyper-SD README: TCD, 1 to 8 steps.
    Student(
        key="hyper-sd-1step", lora=True, about="a checkpoint with Hyper-SD's 1-step LoRA, for 1 to 8 steps",
        files=("hyper-(sd15|sdxl)-1steps?-lora",), steps=1, allowed=range(1, 9), **_TCD,
    ),
    # wangfuyun/PCM_Weights README: "DDIM or Euler", trailing; smallcfg 1 to 2.
    Student(
        key="pcm-smallcfg", lora=True,
        about="a checkpoint with a PCM LoRA named smallcfg", sampler="euler", schedule="simple",
        files=("pcm-(sd15|sdxl)-smallcfg-(?P<steps>2|4|8|16)step",), steps=4, allowed=(2, 4, 8, 16), cfgs=(1.0, 2.0),
        **_BOTH,
    ),
    # The same: normalcfg 2 to 9; 2.5 to 3.5 with 4 steps, 3 to 6 with 8.
    Student(
        key="pcm-normalcfg", lora=True,
        about="a checkpoint with a PCM LoRA named normalcfg", sampler="euler", schedule="simple",
        files=("pcm-(sd15|sdxl)-normalcfg-(?P<steps>2|4|8|16)step",), steps=4, allowed=(2, 4, 8, 16), cfg=3.0,
        cfgs=(2.0, 9.0), negative=True, **_BOTH,
    ),
    # EX sdturbo: SDTurboScheduler, 1 step.
    Student(
        key="sd-turbo", about="SD-Turbo", files=("(?<![a-z])sd-turbo",), architectures=("SD20",), teachers=("sd21",),
        **_SD_TURBO,
    ),
    # TPL sdxlturbo_example: the same.
    Student(
        key="sdxl-turbo", about="SDXL-Turbo", files=("(?<![a-z])sd-?xl-turbo",), architectures=("SDXL",),
        teachers=("sdxl",), **_SD_TURBO,
    ),
    # ByteDance/SDXL-Lightning README: "always use the correct checkpoint for the corresponding inference steps".
    Student(
        key="sdxl-lightning", lora=True,
        about="SDXL-Lightning, whole or as a LoRA", sampler="euler", schedule="sgm_uniform",
        files=("sdxl-lightning-(?P<steps>2|4|8)step",), steps=4, allowed=(2, 4, 8), **_SDXL,
    ),
    # The same README: its 1-step file is "x0".
    Student(
        key="sdxl-lightning-1step", about="SDXL-Lightning's 1-step model, which predicts x0",
        files=("sdxl-lightning-1step",), sampler="euler", schedule="sgm_uniform", steps=1, allowed=(1,), patch=X0(),
        **_SDXL,
    ),
    # ByteDance/Hyper-SD: the N-step LoRAs.
    Student(
        key="hyper-sd", lora=True, about="a checkpoint with Hyper-SD's 2-, 4- or 8-step LoRA", sampler="euler",
        files=("hyper-(sd15|sdxl)-(?P<steps>2|4|8)steps?-lora",), schedule="sgm_uniform", steps=4, allowed=(2, 4, 8),
        **_BOTH,
    ),
    # KRITA "Realtime - Hyper": cfg 3.5; ByteDance/Hyper-SD README: 5 to 8.
    Student(
        key="hyper-sd-cfg", lora=True,
        about="a checkpoint with Hyper-SD's CFG LoRA", sampler="euler", schedule="sgm_uniform",
        files=("hyper-(sd15|sdxl)-(?P<steps>8|12)steps?-cfg-lora",), steps=8, allowed=(8, 12), cfg=3.5, cfgs=(3.5, 8.0),
        negative=True, **_BOTH,
    ),
    # ByteDance/Hyper-SD, its node HyperSDXL1StepUnetScheduler.
    Student(
        key="hyper-sdxl-1step-unet", about="Hyper-SDXL's 1-step UNet", files=("hyper-sdxl-1steps?-unet",),
        sampler="lcm", schedule=Timesteps((800,)), steps=1, allowed=(1,), **_SDXL,
    ),
    # tianweiy/DMD2 README: timesteps 999, 749, 499, 249, "guidance_scale=0".
    Student(
        key="dmd2", lora=True,
        about="DMD2's 4-step model, whole or as a LoRA", files=("dmd2-sdxl-4step",), sampler="lcm",
        schedule="simple", steps=4, allowed=(4,), **_SDXL,
    ),
    # The same README: timestep 399, from noise of full size.
    Student(
        key="dmd2-1step", about="DMD2's 1-step model", files=("dmd2-sdxl-1step",), sampler="one_step",
        schedule=Timesteps((399,)), steps=1, allowed=(1,), knobs={"full_noise": True}, **_SDXL,
    ),
    # gojasper/flash-diffusion README: 4 steps, trailing, guidance 0.
    Student(
        key="flash", lora=True, about="a checkpoint with a Flash Diffusion LoRA", files=("flash-?sd(xl)?(?![a-z0-9])",),
        sampler="lcm", schedule="simple", steps=4, allowed=(4,), **_BOTH,
    ),
    # ChenDY/NitroFusion README: its *_comfyui checkpoints have their timestep shift in them.
    Student(
        key="nitrosd", about="NitroFusion's _comfyui checkpoints", files=("nitrosd-(realism|vibrant)-comfyui",),
        sampler="lcm", schedule="simple", steps=4, allowed=range(1, 5), **_SDXL,
    ),
)  # fmt: skip
