"""Students of flow models: SD 3.5, FLUX, Z-Image, Krea 2, Qwen-Image and others.

TPL: a template of ``comfyui-workflow-templates-json`` 0.1.123. EX: ComfyUI_examples. KRITA: a preset of
krita-ai-diffusion. SWARM: SwarmUI's model support page. Where a rollback has no other source, it is this table's: so
far back that noise is to signal about as far as published refining goes.
"""

from __future__ import annotations

from .settings import BySize, Flux2, Mu, Shift, Sigmas, Student

_EULER = {"sampler": "euler", "schedule": "simple"}

FLOW = (
    # TPL image_z_image_turbo: 8 steps; Tongyi-MAI/Z-Image README: guidance 0; SWARM: 4 work. Rollback: TPL
    # utility_z_image_turbo_2k_upscaler.
    Student(
        key="z-image-turbo", about="Z-Image-Turbo", files=("z-image-turbo",), architectures=("ZImage",),
        sampler="res_multistep", schedule="simple", steps=8, allowed=range(4, 21), patch=Shift(3.0),
        teachers=("z-image",), rollback=0.33, host="0.11.0",
    ),
    # TPL image_krea2_turbo_t2i; krea-ai/krea-2 README: 8 steps, mu 1.15; SWARM: 4 steps at least.
    Student(
        key="krea2-turbo", lora=True,
        about="Krea 2 Turbo, whole or as a LoRA", files=("krea-?2-turbo",), architectures=("Krea2",),
        steps=8, allowed=range(4, 9), patch=Mu(1.15), teachers=("krea2-raw",), rollback=0.3, host="0.26.0", **_EULER,
    ),
    # TPL image_qwen_image_2_1_turbo_t2i, whose note calls the schedule fixed.
    Student(
        key="qwen-image-2.1-turbo", about="Qwen-Image 2.1 Turbo", files=("qwen-image-2-1-turbo",),
        architectures=("QwenImage21",), sampler="euler",
        schedule=Sigmas((1.0, 0.978453, 0.95418, 0.926626, 0.89508, 0.845148, 0.704534, 0.414568, 0.0)),
        steps=8, allowed=(8,), teachers=("qwen-image-2.1",), rollback=0.35, host="0.39.0",
    ),
    # ModelTC/Qwen-Image-Lightning's workflows and generate_with_diffusers.py: shift 3; TPL image_qwen_Image_2512. The
    # 2-step LoRA is Wuli-art's.
    Student(
        key="qwen-image-lightning", lora=True, about="Qwen-Image with a Lightning or a 2-step Turbo LoRA",
        files=("qwen-image-([a-z0-9-]+-)?lightning-(?P<steps>4|8)steps",
               "qwen-image-2512-turbo-lora-(?P<steps>2)steps"),
        architectures=("QwenImage",), steps=4, allowed=(2, 4, 8), patch=Shift(3.0), teachers=("qwen-image",),
        rollback=0.3, **_EULER,
    ),
    # TPL of FLUX.2 klein: 4 steps; SWARM: 8. Flux2Scheduler.
    Student(
        key="flux2-klein", about="FLUX.2 klein, distilled", files=(r"flux-?2-klein-\d+b",), architectures=("Flux2",),
        sampler="euler", schedule=Flux2(), steps=4, allowed=range(4, 9), teachers=("flux2-klein-base",), rollback=0.15,
        host="0.9.2",
    ),
    # TPL image_flux2: Flux2Scheduler, 8 steps, guidance 4. fal's own card has other sigmas: 1, .6509, .4374, .2932,
    # .1893, .1108, .0495, .00031.
    Student(
        key="flux2-dev-turbo", lora=True, about="FLUX.2 dev with fal's Turbo LoRA", files=("flux-?2-(dev-)?turbo",),
        architectures=("Flux2",), sampler="euler", schedule=Flux2(), steps=8, allowed=(8,), guidance=4.0,
        teachers=("flux2-dev",), rollback=0.15,
    ),
    # TPL image_flux3_klein_distilled_t2i; documentation: 4 to 16 steps. A flow map, which reads the next noise level:
    # samplers that leave the schedule break it. No source says how far back, nor how its class measures time.
    Student(
        key="flux3-klein", about="FLUX 3 Klein, distilled", files=("flux-?3-image-klein(?!-base)",),
        architectures=("Flux3",), steps=16, allowed=range(4, 17), teachers=("flux3-klein-base",), host="0.41.0",
        **_EULER,
    ),
    # TPL image_anima_base_v1, its turbo LoRA switched on.
    Student(
        key="anima-turbo", lora=True,
        about="Anima with its Turbo LoRA", files=("anima-turbo",), architectures=("Anima",), steps=8,
        allowed=(8,), teachers=("anima-base",), rollback=0.3, host="0.16.0", **_EULER,
    ),
    # EX sd3 README: 4 steps, cfg 1.2.
    Student(
        key="sd35-large-turbo", about="SD 3.5 Large Turbo",
        files=("(sd3-5|stable-diffusion-3-5)-large-turbo(?!x)",), architectures=("SD3",), sampler="euler",
        schedule="sgm_uniform", steps=4, allowed=(4,), cfg=1.2, cfgs=(1.0, 1.2), negative=True,
        teachers=("sd35-large",), rollback=0.3,
    ),
    # SWARM: 8 steps, shift 5.
    Student(
        key="sd35-turbox", about="SD 3.5 Large TurboX", files=("(sd3-5|stable-diffusion-3-5)-large-turbox",),
        architectures=("SD3",), steps=8, allowed=(8,), patch=Shift(5.0), teachers=("sd35-large",), rollback=0.3,
        **_EULER,
    ),
    # TPL flux_schnell.
    Student(
        key="flux1-schnell", about="FLUX.1 schnell", files=("flux-?1-schnell",), architectures=("FluxSchnell",),
        steps=4, allowed=range(1, 5), teachers=("flux1-dev",), rollback=0.3, **_EULER,
    ),
    # KRITA "Flux - Turbo": 8 steps, 3 at least. FluxGuidance as its teacher's.
    Student(
        key="flux1-turbo-alpha", lora=True,
        about="FLUX.1 dev with alimama's Turbo-Alpha LoRA", files=("flux-?1-turbo-alpha",),
        architectures=("Flux",), steps=8, allowed=range(3, 9), guidance=3.5, teachers=("flux1-dev",), rollback=0.3,
        **_EULER,
    ),
    # ByteDance/Hyper-SD README: LoRA at 0.125, guidance 3.5.
    Student(
        key="hyper-flux1-dev", lora=True, about="FLUX.1 dev with Hyper-SD's LoRA at strength 0.125",
        files=("hyper-flux-1-dev-(?P<steps>8|16)steps?-lora",), architectures=("Flux",), steps=8, allowed=(8, 16),
        guidance=3.5, teachers=("flux1-dev",), rollback=0.3, **_EULER,
    ),
    # TPL of Ernie-Image-Turbo.
    Student(
        key="ernie-image-turbo", about="Ernie-Image-Turbo", files=("ernie-image-turbo",), architectures=("ErnieImage",),
        steps=8, allowed=(8,), teachers=("ernie-image",), rollback=0.3, host="0.19.0", **_EULER,
    ),
    # TPL of Lens Turbo: 4 steps; documentation: 8. Its CFGNorm does nothing at cfg 1.
    Student(
        key="lens-turbo", about="Lens Turbo", files=("(?<![a-z])lens-turbo",), architectures=("Lens",), steps=4,
        allowed=(4, 8), patch=Mu(BySize(0.5, 1.15)), teachers=("lens",), rollback=0.3, host="0.23.0", **_EULER,
    ),
    # TPL of Mage-Flow Turbo.
    Student(
        key="mage-flow-turbo", about="Mage-Flow Turbo", files=("mage-flow-turbo",), architectures=("MageFlow",),
        steps=4, allowed=(4,), teachers=("mage-flow",), rollback=0.2, host="0.29.0", **_EULER,
    ),
    # TPL of Boogu Turbo; SWARM.
    Student(
        key="boogu-turbo", about="Boogu Turbo", files=("boogu-image-turbo",), architectures=("Boogu",), sampler="lcm",
        schedule="sgm_uniform", steps=4, allowed=(4,), teachers=("boogu-base",), rollback=0.3, host="0.26.0",
    ),
    # TPL of HiDream-I1 and its note.
    Student(
        key="hidream-i1-fast", about="HiDream-I1 fast", files=("hidream-i1-fast",), architectures=("HiDream",),
        sampler="lcm", schedule="normal", steps=16, allowed=(16,), patch=Shift(3.0), teachers=("hidream-i1-full",),
        rollback=0.3,
    ),
    # The same, of the dev model.
    Student(
        key="hidream-i1-dev", about="HiDream-I1 dev", files=("hidream-i1-dev",), architectures=("HiDream",),
        sampler="lcm", schedule="normal", steps=28, allowed=(28,), patch=Shift(6.0), teachers=("hidream-i1-full",),
        rollback=0.3,
    ),
)  # fmt: skip
