"""What the table's models are published to be sampled at (timesteps, sigmas, or the shift that makes them) and as.

Numbers of the sources that the rows name, put into sigmas by formulas of their own; no pack and no host.
"""

import math
from itertools import accumulate
from typing import NamedTuple


class Published(NamedTuple):
    """key: of a student or a teacher. architecture: the host's class, without which no host can be asked. sigmas: of so
    many steps at a side of so many pixels, within the tolerance that the published digits allow."""

    key: str
    architecture: str
    steps: int
    sigmas: list
    side: int = 1024
    tolerance: float = 1e-4


# Their classes came after 0.33.0, the newest host that the tests have: these are tested on their numbers alone.
NOT_IN_A_HOST = {"qwen-image-2.1-turbo", "qwen-image-2.1", "flux3-klein", "flux3-klein-base"}


def _sigmas():
    """Stable Diffusion's 1,000, from betas linear in their square roots between .00085 and .012."""
    low, high = 0.00085**0.5, 0.012**0.5
    betas = ((low + (high - low) * t / 999) ** 2 for t in range(1000))
    return [math.sqrt((1 - ab) / ab) for ab in accumulate((1 - beta for beta in betas), lambda a, b: a * b)]


SIGMAS = _sigmas()


def at(*timesteps, grid=range(1000)):
    """Sigmas at timesteps, linear in log sigma between those of the grid, and 0."""
    found = []
    for t in timesteps:
        below, above = max(g for g in grid if g <= t), min(g for g in grid if g >= t)
        part = (t - below) / (above - below) if above > below else 0
        found.append(math.exp((1 - part) * math.log(SIGMAS[below]) + part * math.log(SIGMAS[above])))
    return [*found, 0.0]


def evenly(steps):
    """Timesteps of `sgm_uniform`: even from 999 to 0 without the last."""
    return [999 - 999 * i / steps for i in range(steps)]


def shifted(times, shift):
    return [shift * u / (1 + (shift - 1) * u) for u in times]


def simple(steps, shift, table=1000):
    """A flow's even times 1, 1 - 1 / N ..., as near as a table of so many has them, shifted."""
    return [*shifted([1 - int(i * table / steps) / table for i in range(steps)], shift), 0.0]


def mu(steps, value):
    return simple(steps, math.exp(value), 10000)


def flux2(steps, tokens=4096):
    """Black Forest Labs' compute_empirical_mu, up to 4,300 squares of 16 x 16 pixels: a line in the steps through fits
    of mu at 10 and at 200."""
    at_10, at_200 = 8.73809524e-05 * tokens + 1.89833333, 0.00016927 * tokens + 0.45666666
    slope = (at_200 - at_10) / 190
    return [*shifted([1 - i / steps for i in range(steps)], math.exp(slope * steps + at_200 - 200 * slope)), 0.0]


def last(shift):
    """The last of the 1,000 times of a flow, shifted once: where `sgm_uniform` and `normal` end."""
    return shifted([1 / 1000], shift)[0]


def sgm(steps, shift):
    return [*shifted([1 - (1 - last(shift)) * i / steps for i in range(steps)], shift), 0.0]


def normal(steps, shift):
    return [*shifted([1 - (1 - last(shift)) * i / (steps - 1) for i in range(steps)], shift), 0.0]


def karras(steps):
    high, low = SIGMAS[-1] ** (1 / 7), SIGMAS[0] ** (1 / 7)
    return [*((high + (low - high) * i / (steps - 1)) ** 7 for i in range(steps)), 0.0]


def without_the_last_but_one(sigmas):
    """What UniPC leaves out."""
    return sigmas[:-2] + sigmas[-1:]


TRAILING = at(999, 749, 499, 249)
LCM_GRID = range(19, 1000, 20)
KLEIN = [1, 0.9674, 0.9081, 0.7672, 0]
FLUX2_TURBO = [1, 0.985, 0.967, 0.941, 0.906, 0.853, 0.763, 0.580, 0]

PUBLISHED = [
    Published("demo", "SD15", 4, at(999, 759, 499, 259)),
    Published("LCM", "SD15", 4, at(999, 754, 509, 264, grid=LCM_GRID)),
    Published("LCM-LoRA", "SDXL", 4, at(999, 754, 509, 264, grid=LCM_GRID)),
    Published("consistency", "SD15", 5, at(981, 781, 581, 381, 181)),
    Published("codi", "SD15", 2, at(999, 499)),
    Published("codi", "SDXL", 4, at(999, 749, 499, 249)),
    Published("codi", "SD15", 3, at(999, 699, 349)),
    Published("tcd", "SDXL", 4, TRAILING),
    Published("hyper-sd-1step", "SD15", 1, at(999)),
    Published("pcm-smallcfg", "SD15", 4, TRAILING),
    Published("pcm-normalcfg", "SDXL", 8, at(999, 874, 749, 624, 499, 374, 249, 124)),
    Published("sd-turbo", "SD20", 1, at(999)),
    Published("sd-turbo", "SD20", 4, at(999, 899, 799, 699)),
    Published("sdxl-turbo", "SDXL", 1, at(999)),
    Published("sdxl-turbo", "SDXL", 4, at(999, 899, 799, 699)),
    Published("sdxl-lightning", "SDXL", 4, at(999, 749.25, 499.5, 249.75)),
    Published("sdxl-lightning", "SDXL", 8, at(*evenly(8))),
    Published("sdxl-lightning-1step", "SDXL", 1, at(999)),
    Published("hyper-sd", "SD15", 2, at(999, 499.5)),
    Published("hyper-sd-cfg", "SDXL", 8, at(*evenly(8))),
    Published("hyper-sdxl-1step-unet", "SDXL", 1, at(800)),
    Published("dmd2", "SDXL", 4, TRAILING),
    Published("dmd2-1step", "SDXL", 1, at(399)),
    Published("flash", "SDXL", 4, TRAILING),
    Published("nitrosd", "SDXL", 4, TRAILING),
    Published("z-image-turbo", "ZImage", 8, [1, 0.9545, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3, 0]),
    Published("krea2-turbo", "Krea2", 8, mu(8, 1.15)),
    Published("qwen-image-2.1-turbo", "", 8,
              [1.0, 0.978453, 0.95418, 0.926626, 0.89508, 0.845148, 0.704534, 0.414568, 0]),
    Published("qwen-image-lightning", "QwenImage", 4, simple(4, 3.0)),
    Published("flux2-klein", "Flux2", 4, KLEIN),
    Published("flux2-klein", "Flux2", 8, flux2(8)),
    Published("flux2-dev-turbo", "Flux2", 8, FLUX2_TURBO, tolerance=6e-4),  # of three digits
    Published("flux2-dev-turbo", "Flux2", 8, flux2(8)),
    Published("flux3-klein", "", 16, []),
    Published("anima-turbo", "Anima", 8, simple(8, 3.0)),
    Published("sd35-large-turbo", "SD3", 4, sgm(4, 3.0)),
    Published("sd35-turbox", "SD3", 8, simple(8, 5.0)),
    Published("flux1-schnell", "FluxSchnell", 4, [1, 0.75, 0.5, 0.25, 0]),
    Published("flux1-turbo-alpha", "Flux", 8, mu(8, 1.15)),
    Published("hyper-flux1-dev", "Flux", 8, mu(8, 1.15)),
    Published("ernie-image-turbo", "ErnieImage", 8, simple(8, 3.0)),
    Published("lens-turbo", "Lens", 4, mu(4, 1.15)),
    Published("lens-turbo", "Lens", 4, mu(4, 0.5), side=256),
    Published("mage-flow-turbo", "MageFlow", 4, simple(4, 6.0)),
    Published("boogu-turbo", "Boogu", 4, sgm(4, 3.16)),
    Published("hidream-i1-fast", "HiDream", 16, normal(16, 3.0)),
    Published("hidream-i1-dev", "HiDream", 28, normal(28, 6.0)),
    # teachers
    Published("demo-teacher", "UnderstudyDemo", 6, at(*evenly(6))),
    Published("sd15", "SD15", 25, karras(25)),
    Published("sd21", "SD20", 25, karras(25)),
    Published("sdxl", "SDXL", 25, karras(25)),
    Published("sd35-large", "SD3", 20, sgm(20, 3.0)),
    Published("flux1-dev", "Flux", 20, mu(20, 1.15)),
    Published("z-image", "ZImage", 25, simple(25, 3.0)),
    Published("krea2-raw", "Krea2", 52, mu(52, 1.15), side=1280),
    Published("krea2-raw", "Krea2", 52, mu(52, 0.5), side=256),
    Published("qwen-image", "QwenImage", 50, simple(50, 3.1)),
    Published("qwen-image-2.1", "", 40, []),
    Published("flux2-klein-base", "Flux2", 20, flux2(20)),
    Published("flux2-dev", "Flux2", 20, flux2(20)),
    Published("flux2-dev", "Flux2", 50, flux2(50)),
    Published("flux3-klein-base", "", 50, []),
    Published("anima-base", "Anima", 30, simple(30, 3.0)),
    Published("ernie-image", "ErnieImage", 20, simple(20, 3.0)),
    Published("lens", "Lens", 20, mu(20, 1.15)),
    Published("mage-flow", "MageFlow", 30, simple(30, 6.0)),
    Published("boogu-base", "Boogu", 25, simple(25, 3.16)),
    Published("hidream-i1-full", "HiDream", 50, without_the_last_but_one(simple(51, 3.0))),
]  # fmt: skip

# Sampler, scheduler (- where the sigmas above say it), steps, cfg, whether the negative prompt acts, and the least
# fraction of the teacher's schedule that is said to refine a student's images; the demo's is bench/adaptive.py's.
SETTINGS = """
    demo                  consistency      -            4   1    no 0.75
    LCM                   lcm              sgm_uniform  4   1    no 0.3
    LCM-LoRA              lcm              sgm_uniform  5   1.8  yes 0.3
    consistency           consistency      -            4   8    yes 0.3
    codi                  euler            -            4   1    no 0.3
    tcd                   tcd              simple       4   1    no 0.3
    hyper-sd-1step        tcd              simple       1   1    no 0.3
    pcm-smallcfg          euler            simple       4   1    no 0.3
    pcm-normalcfg         euler            simple       4   3    yes 0.3
    sd-turbo              euler_ancestral  -            1   1    no 0.3
    sdxl-turbo            euler_ancestral  -            1   1    no 0.3
    sdxl-lightning        euler            sgm_uniform  4   1    no 0.3
    sdxl-lightning-1step  euler            sgm_uniform  1   1    no 0.3
    hyper-sd              euler            sgm_uniform  4   1    no 0.3
    hyper-sd-cfg          euler            sgm_uniform  8   3.5  yes 0.3
    hyper-sdxl-1step-unet lcm              -            1   1    no 0.3
    dmd2                  lcm              simple       4   1    no 0.3
    dmd2-1step            one_step         -            1   1    no 0.3
    flash                 lcm              simple       4   1    no 0.3
    nitrosd               lcm              simple       4   1    no 0.3
    z-image-turbo         res_multistep    simple       8   1    no 0.33
    krea2-turbo           euler            simple       8   1    no 0.3
    qwen-image-2.1-turbo  euler            -            8   1    no 0.35
    qwen-image-lightning  euler            simple       4   1    no 0.3
    flux2-klein           euler            -            4   1    no 0.15
    flux2-dev-turbo       euler            -            8   1    no 0.15
    flux3-klein           euler            simple       16  1    no -
    anima-turbo           euler            simple       8   1    no 0.3
    sd35-large-turbo      euler            sgm_uniform  4   1.2  yes 0.3
    sd35-turbox           euler            simple       8   1    no 0.3
    flux1-schnell         euler            simple       4   1    no 0.3
    flux1-turbo-alpha     euler            simple       8   1    no 0.3
    hyper-flux1-dev       euler            simple       8   1    no 0.3
    ernie-image-turbo     euler            simple       8   1    no 0.3
    lens-turbo            euler            simple       4   1    no 0.3
    mage-flow-turbo       euler            simple       4   1    no 0.2
    boogu-turbo           lcm              sgm_uniform  4   1    no 0.3
    hidream-i1-fast       lcm              normal       16  1    no 0.3
    hidream-i1-dev        lcm              normal       28  1    no 0.3
    demo-teacher          dpmpp_2m         sgm_uniform  6   3    yes -
    sd15                  dpmpp_2m         karras       25  7    yes -
    sd21                  dpmpp_2m         karras       25  7    yes -
    sdxl                  dpmpp_2m         karras       25  7    yes -
    sd35-large            euler            sgm_uniform  20  4    yes -
    flux1-dev             euler            simple       20  1    no -
    z-image               res_multistep    simple       25  4    yes -
    krea2-raw             euler            simple       52  4.5  yes -
    qwen-image            euler            simple       50  4    yes -
    qwen-image-2.1        euler            simple       40  1    no -
    flux2-klein-base      euler            -            20  5    yes -
    flux2-dev             euler            -            20  1    no -
    flux3-klein-base      euler            simple       50  3.5  yes -
    anima-base            euler            simple       30  4    yes -
    ernie-image           euler            simple       20  4    yes -
    lens                  euler            simple       20  5    yes -
    mage-flow             euler            simple       30  5    yes -
    boogu-base            dpmpp_2m         simple       25  4    yes -
    hidream-i1-full       uni_pc           simple       50  5    yes -
"""

# What files of each family are called where they are published.
FILES = {
    "LCM": "LCM_Dreamshaper_v7_4k latent-consistency/lcm-sdxl/diffusion_pytorch_model",
    "LCM-LoRA": """
        latent-consistency/lcm-lora-sdv1-5/pytorch_lora_weights latent-consistency/lcm-lora-sdxl/pytorch_lora_weights
        latent-consistency/lcm-lora-ssd-1b/pytorch_lora_weights lcm_lora_sdxl
    """,
    "tcd": "h1t/TCD-SD15-LoRA/pytorch_lora_weights h1t/TCD-SDXL-LoRA/pytorch_lora_weights",
    "pcm-smallcfg": "pcm_sd15_smallcfg_2step_converted pcm_sdxl_smallcfg_16step_converted",
    "pcm-normalcfg": "pcm_sd15_normalcfg_4step_converted pcm_sdxl_normalcfg_8step_converted",
    "sd-turbo": "sd_turbo",
    "sdxl-turbo": "sd_xl_turbo_1.0_fp16",
    "sdxl-lightning": """
        sdxl_lightning_2step sdxl_lightning_4step sdxl_lightning_8step sdxl_lightning_4step_unet
        sdxl_lightning_2step_lora sdxl_lightning_8step_lora
    """,
    "sdxl-lightning-1step": "sdxl_lightning_1step_x0 sdxl_lightning_1step_unet_x0",
    "hyper-sd": "Hyper-SD15-2steps-lora Hyper-SD15-4steps-lora Hyper-SDXL-8steps-lora",
    "hyper-sd-1step": "Hyper-SD15-1step-lora Hyper-SDXL-1step-lora",
    "hyper-sd-cfg": "Hyper-SD15-8steps-CFG-lora Hyper-SDXL-8steps-CFG-lora Hyper-SDXL-12steps-CFG-lora",
    "hyper-sdxl-1step-unet": "Hyper-SDXL-1step-Unet",
    "dmd2": "dmd2_sdxl_4step_unet_fp16 dmd2_sdxl_4step_lora_fp16",
    "dmd2-1step": "dmd2_sdxl_1step_unet_fp16",
    "flash": "comfy/FlashSDXL jasperai/flash-sd/pytorch_lora_weights jasperai/flash-sdxl/pytorch_lora_weights",
    "nitrosd": "nitrosd-realism_comfyui nitrosd-vibrant_comfyui",
    "z-image-turbo": "z_image_turbo_bf16 z_image_turbo_int8_convrot z_image_turbo_nvfp4",
    "krea2-turbo": """
        krea2_turbo_fp8_scaled krea2_turbo_int8_convrot krea2_turbo_bf16 krea2_turbo_nvfp4
        krea2_turbo_lora_rank_64_bf16
    """,
    "qwen-image-2.1-turbo": "qwen_image_2.1_turbo_int8_convrot qwen_image_2.1_turbo_bf16",
    "qwen-image-lightning": """
        Qwen-Image-Lightning-4steps-V1.0 Qwen-Image-Lightning-8steps-V1.1 Qwen-Image-Lightning-8steps-V2.0-bf16
        Qwen-Image-2512-Lightning-4steps-V1.0-fp32 Qwen-Image-2512-Lightning-4steps-V1.0-bf16
        Qwen-Image-fp8-e4m3fn-Lightning-4steps-V1.0-fp32 Wuli-Qwen-Image-2512-Turbo-LoRA-2steps-V1.0-bf16
    """,
    "flux2-klein": "flux-2-klein-4b flux-2-klein-4b-fp8 flux-2-klein-4b-nvfp4 flux-2-klein-9b-kv-fp8",
    "flux2-dev-turbo": "Flux_2-Turbo-LoRA_comfyui fal/FLUX.2-dev-Turbo/lora",
    "flux3-klein": "flux3-image-klein-int8-convrot flux3-image-klein-bf16",
    "anima-turbo": "anima-turbo-lora-v0.2 anima-turbo-lora-v0.1",
    "sd35-large-turbo": "sd3.5_large_turbo",
    "sd35-turbox": "SD3.5-Large-TurboX",
    "flux1-schnell": "flux1-schnell flux1-schnell-fp8",
    "flux1-turbo-alpha": "FLUX.1-Turbo-Alpha",
    "hyper-flux1-dev": "Hyper-FLUX.1-dev-8steps-lora Hyper-FLUX.1-dev-16steps-lora",
    "ernie-image-turbo": "ernie-image-turbo",
    "lens-turbo": "lens_turbo_bf16 lens_turbo_mxfp8",
    "mage-flow-turbo": "mage_flow_turbo_int8_convrot",
    "boogu-turbo": "boogu_image_turbo_fp8_scaled",
    "hidream-i1-fast": "hidream_i1_fast_fp8",
    "hidream-i1-dev": "hidream_i1_dev_fp8",
}
# Those that are distilled for one number of steps, which their names say.
ONE_NUMBER = {
    "pcm-smallcfg", "pcm-normalcfg", "sdxl-lightning", "hyper-sd", "hyper-sd-cfg", "qwen-image-lightning",
    "hyper-flux1-dev",
}  # fmt: skip
REFUSED_FILES = {
    "pi-Flow": ["gmqwen_k8_piid_4step", "gmflux_k8_piid_4step", "gmflux_k8_piid_8step"],
    "SwD": ["yresearch/swd-sdxl/lora", "swd-medium-4-steps", "swd-large-4-steps", "swd_flux"],
    "Sana-Sprint": ["Sana_Sprint_1.6B_1024px"],
    "NitroFusion's plain networks": ["nitrosd-realism_unet", "nitrosd-vibrant_unet"],
}
