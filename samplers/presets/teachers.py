"""The teachers of the table: full models as ComfyUI's templates or their makers sample them.

TPL: a template of ``comfyui-workflow-templates-json`` 0.1.123. KRITA: a preset of krita-ai-diffusion.
"""

from __future__ import annotations

from .settings import BySize, Flux2, Mu, Shift, Teacher


def _diffusion(key: str, architecture: str) -> Teacher:
    options = {"sampler": "dpmpp_2m", "schedule": "karras", "steps": 25, "cfg": 7.0, "negative": True}
    return Teacher(key=key, architectures=(architecture,), **options)


def _flow(key: str, architecture: str, steps: int, cfg: float = 1.0, **options) -> Teacher:
    options = {"sampler": "euler", "schedule": "simple", "negative": cfg > 1} | options
    return Teacher(key=key, architectures=(architecture,), steps=steps, cfg=cfg, **options)


_ALL = (
    # bench/adaptive.py: what the demo's images are refined with.
    Teacher(key="demo-teacher", architectures=("UnderstudyDemo",), sampler="dpmpp_2m", schedule="sgm_uniform", steps=6,
            cfg=3.0, negative=True),
    # TPL image_sdxl_simple; KRITA has the same sampler and scheduler with 20 steps, for SD 1.5 as well.
    _diffusion("sd15", "SD15"),
    _diffusion("sd21", "SD20"),
    _diffusion("sdxl", "SDXL"),
    # TPL of SD 3.5 Large: cfg 4.01.
    _flow("sd35-large", "SD3", 20, 4.0, schedule="sgm_uniform"),
    # TPL of FLUX.1 dev and Krea dev: FluxGuidance at its default.
    _flow("flux1-dev", "Flux", 20, guidance=3.5),
    # TPL image_z_image, whose note says 30 to 50 steps, cfg 3 to 5.
    _flow("z-image", "ZImage", 25, 4.0, sampler="res_multistep", patch=Shift(3.0), allowed=range(25, 51),
          cfgs=(3.0, 5.0), host="0.23.0"),
    # krea-ai/krea-2's README: 52 steps, cfg 3.5 in cond + g (cond - uncond), which is 4.5 here; its sampling.py: mu .5
    # at 256 x 256 pixels, 1.15 at 1280 x 1280.
    _flow("krea2-raw", "Krea2", 52, 4.5, patch=Mu(BySize(0.5, 1.15, 256, 6400)), host="0.26.0"),
    # TPL image_qwen_Image_2512; TPL image_qwen_image has 20 steps.
    _flow("qwen-image", "QwenImage", 50, 4.0, patch=Shift(3.1), allowed=range(20, 51)),
    # TPL image_qwen_image_2_1_t2i: 25 steps; its makers: 40 to 50, no guidance, mu by size (Comfy-Org/ComfyUI 16447),
    # where the class has one for all.
    _flow("qwen-image-2.1", "QwenImage21", 40, patch=Mu(BySize(0.5, 0.9, 256, 8192)), allowed=range(25, 51),
          host="0.37.0"),
    # TPL of FLUX.2 klein base. 4B and 9B read different text encoders: a teacher is of its student's size.
    _flow("flux2-klein-base", "Flux2", 20, 5.0, schedule=Flux2(), host="0.9.2"),
    # TPL image_flux2: 20 steps; Black Forest Labs: 50.
    _flow("flux2-dev", "Flux2", 20, schedule=Flux2(), guidance=4.0, allowed=range(20, 51)),
    # TPL image_flux3_klein_t2i.
    _flow("flux3-klein-base", "Flux3", 50, 3.5, host="0.41.0"),
    # TPL image_anima_base_v1.
    _flow("anima-base", "Anima", 30, 4.0, host="0.16.0"),
    # TPL of Ernie-Image; its documentation: about 50 steps.
    _flow("ernie-image", "ErnieImage", 20, 4.0, allowed=range(20, 51), host="0.19.0"),
    # TPL of Lens: ModelSamplingFlux 1.15 and .5, CFGNorm 1; its documentation: 50 steps.
    _flow("lens", "Lens", 20, 5.0, patch=Mu(BySize(0.5, 1.15)), cfg_norm=1.0, allowed=range(20, 51), host="0.23.0"),
    # TPL of Mage-Flow.
    _flow("mage-flow", "MageFlow", 30, 5.0, host="0.29.0"),
    # TPL of Boogu; SwarmUI's notes: 20 to 25 steps.
    _flow("boogu-base", "Boogu", 25, 4.0, sampler="dpmpp_2m", allowed=range(20, 26), host="0.26.0"),
    # TPL of HiDream-I1 and its note.
    _flow("hidream-i1-full", "HiDream", 50, 5.0, sampler="uni_pc", patch=Shift(3.0)),
)  # fmt: skip
TEACHERS = {teacher.key: teacher for teacher in _ALL}
