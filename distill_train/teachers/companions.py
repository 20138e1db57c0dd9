"""Which text encoders and which autoencoder a model of ComfyUI needs beside its own file, by its class there.

Data alone. TPL: a template of ``comfyui-workflow-templates-json`` 0.1.123, by what its loaders name. EX:
ComfyUI_examples. CORE: ``comfy/sd.py`` of ComfyUI 0.33.0. A new architecture is a row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class File:
    """A file to look for. published: its usual name. kind: of a text encoder, what ComfyUI recognises it as, which is a
    name in ``comfy.sd.TEModel``. name: a regular expression that the file's own name, in small letters and with _ for
    -, has to hold, where contents do not tell.
    """

    published: str
    kind: str | None = None
    name: str | None = None

    def called_so(self, path: Path) -> bool:
        return self.name is None or re.search(self.name, path.stem.lower().replace("-", "_")) is not None


@dataclass(frozen=True)
class Companions:
    """clip_type: as Load CLIP has it. texts: in the order of its loader. width: of what the network reads of a text,
    where models of one class differ by it.
    """

    clip_type: str
    texts: tuple[File, ...]
    vae: File
    width: int | None = None


_CLIP_L = File("clip_l.safetensors", "CLIP_L")
_CLIP_G = File("clip_g.safetensors", "CLIP_G")
_T5 = File("t5xxl_fp16.safetensors", "T5_XXL", "^(?!.*umt5)")
_QWEN3_4B = File("qwen_3_4b.safetensors", "QWEN3_4B")
_QWEN3VL_4B = File("qwen3vl_4b_fp8_scaled.safetensors", "QWEN3VL_4B")
_QWEN3VL_8B = File("qwen3vl_8b_int8_convrot.safetensors", "QWEN3VL_8B")
# Latents of FLUX.1 and SD 3 are of one shape, and so are their autoencoders: only names tell them apart.
_FLUX = File("ae.safetensors", name=r"^ae($|_)|flux_?1?_(vae|ae)|taef1")
_SD3 = File("sd3_vae.safetensors", name="sd3|sd_3|taesd3")
_FLUX2 = File("flux2-vae.safetensors", name="flux_?2|full_encoder_small_decoder|taef2")
_QWEN = File("qwen_image_vae.safetensors", name="qwen_image_vae")
_WAN = File("wan_2.1_vae.safetensors", name=r"wan_?2[._]1")
_SD15 = File("vae-ft-mse-840000-ema-pruned.safetensors", name="vae_ft_mse|taesd(?!xl|3)")
_SDXL = File("sdxl_vae.safetensors", name="sdxl|taesdxl")

COMPANIONS: dict[str, tuple[Companions, ...]] = {
    "SD15": (Companions("stable_diffusion", (_CLIP_L,), _SD15),),
    "SDXL": (Companions("stable_diffusion", (_CLIP_L, _CLIP_G), _SDXL),),
    # EX sd3: three encoders; TPL of SD 3.5: a checkpoint with TripleCLIPLoader's.
    "SD3": (Companions("sd3", (_CLIP_L, _CLIP_G, _T5), _SD3),),
    # TPL flux_schnell, flux dev full.
    "Flux": (Companions("flux", (_CLIP_L, _T5), _FLUX),),
    # TPL of FLUX.2 dev and of klein, whose sizes read different encoders: CORE takes three layers of each.
    "Flux2": (
        Companions("flux2", (_QWEN3_4B,), _FLUX2, width=3 * 2560),
        Companions("flux2", (File("qwen_3_8b_fp8mixed.safetensors", "QWEN3_8B"),), _FLUX2, width=3 * 4096),
        Companions(
            "flux2",
            (File("mistral_3_small_flux2_bf16.safetensors", "MISTRAL3_24B_PRUNED_FLUX2"),),
            _FLUX2,
            width=3 * 5120,
        ),
    ),
    # TPL image_z_image and image_z_image_turbo.
    "ZImage": (Companions("lumina2", (_QWEN3_4B,), _FLUX),),
    # TPL image_krea2_turbo_t2i.
    "Krea2": (Companions("krea2", (_QWEN3VL_4B,), _QWEN),),
    # TPL image_qwen_image, image_qwen_Image_2512.
    "QwenImage": (Companions("qwen_image", (File("qwen_2.5_vl_7b_fp8_scaled.safetensors", "QWEN25_7B"),), _QWEN),),
    # TPL image_qwen_image_2_1_t2i.
    "QwenImage21": (
        Companions(
            "qwen_image",
            (_QWEN3VL_8B,),
            File("qwen_image_2.1_vae_bf16.safetensors", name=r"qwen_image_2[._]1_vae"),
        ),
    ),
    # TPL image_anima_base_v1.
    "Anima": (
        Companions("stable_diffusion", (File("qwen_3_06b_base.safetensors", "QWEN3_06B"),), _QWEN),
    ),
    # TPL of Ernie-Image.
    "ErnieImage": (Companions("flux2", (File("ministral-3-3b.safetensors", "MINISTRAL_3_3B"),), _FLUX2),),
    # TPL of Lens.
    "Lens": (Companions("lens", (File("gpt_oss_20b_nvfp4.safetensors", "GPT_OSS_20B"),), _FLUX2),),
    # TPL of Boogu; CORE for the encoder.
    "Boogu": (Companions("boogu", (_QWEN3VL_8B,), _FLUX),),
    # TPL of Mage-Flow; CORE for the encoder. The autoencoder is its own.
    "MageFlow": (
        Companions("mage", (_QWEN3VL_4B,), File("mage_flow_vae.safetensors", name="mage_flow_vae")),
    ),
    # TPL of HiDream-I1: QuadrupleCLIPLoader.
    "HiDream": (
        Companions(
            "hidream",
            (_CLIP_L, _CLIP_G, _T5, File("llama_3.1_8b_instruct_fp8_scaled.safetensors", "LLAMA3_8")),
            _FLUX,
        ),
    ),
    # CORE for the type; TPL of Wan 2.1 and 2.2 for the files.
    "WAN21_T2V": (
        Companions("wan", (File("umt5_xxl_fp8_e4m3fn_scaled.safetensors", "T5_XXL", "umt5"),), _WAN),
    ),
}  # fmt: skip


def companions_of(classes: Sequence[str], width: int | None) -> Companions | None:
    """What a model needs; None for an architecture that is not there.

    classes: names of the model's class in ComfyUI and of those that it inherits from, its own first. width: of what its
    network reads of a text.
    """
    rows = next((COMPANIONS[name] for name in classes if name in COMPANIONS), ())
    return next((row for row in rows if row.width in (None, width)), None)
