"""The model files that templates name: where they are published, where a host looks for them, and who says so.

No address is guessed: each is copied from its source, which is

- TPL: the template of that name in ``comfyui-workflow-templates-json`` 0.1.123, from its ``properties.models``;
- front end: the graph that ``comfyui-frontend-package`` 1.49.6 opens with;
- page: the repository's own page of files on the hub, which lists the file under this path;
- oracles: this pack's own record of the published oracles.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..oracles.published import by_name
from .graph import Model

HUB = "https://huggingface.co"
CHECKPOINTS, NETWORKS, LORAS = "checkpoints", "diffusion_models", "loras"
TEXTS, VAES, CONTROLNETS = "text_encoders", "vae", "controlnet"


@dataclass(frozen=True)
class ModelFile(Model):
    """bytes: to three digits, as pages of files have it. source: who says where it is."""

    bytes: float = 0.0
    source: str = ""


def of_url(url: str, directory: str, size: float, source: str, sha256: str | None = None) -> ModelFile:
    """A file called as a browser saves it, which is how a loader's widget has it."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    return ModelFile(name, url, directory, in_words(size), sha256, size, source)


def in_words(size: float) -> str:
    """Bytes in decimal units, as the hub has them: "12.3 GB"."""
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _on_hub(repository: str, path: str, directory: str, size: float, source: str, query: str = "") -> ModelFile:
    return of_url(f"{HUB}/{repository}/resolve/main/{path}{query}", directory, size, source)


def _oracle(name: str) -> ModelFile:
    entry = by_name(name)
    return of_url(entry.url, entry.folder, entry.size, "oracles", entry.sha256)


_SPLIT = "split_files/"
_KREA, _QWEN, _KLEIN = "Comfy-Org/Krea-2", "Comfy-Org/Qwen-Image_ComfyUI", "Comfy-Org/flux2-klein"
_DOWNLOAD = "?download=true"

Z_IMAGE_TURBO = _on_hub(
    "Comfy-Org/z_image_turbo",
    _SPLIT + "diffusion_models/z_image_turbo_bf16.safetensors",
    NETWORKS,
    12.3e9,
    "TPL image_z_image_turbo",
)
Z_IMAGE = _on_hub(
    "Comfy-Org/z_image", _SPLIT + "diffusion_models/z_image_bf16.safetensors", NETWORKS, 12.3e9, "TPL image_z_image"
)
Z_IMAGE_TEXTS = _on_hub(
    "Comfy-Org/z_image_turbo", _SPLIT + "text_encoders/qwen_3_4b.safetensors", TEXTS, 8.04e9, "TPL image_z_image"
)
Z_IMAGE_VAE = _on_hub("Comfy-Org/z_image_turbo", _SPLIT + "vae/ae.safetensors", VAES, 335e6, "TPL image_z_image")

KREA_TURBO = _on_hub(
    _KREA, "diffusion_models/krea2_turbo_fp8_scaled.safetensors", NETWORKS, 13.1e9, "TPL image_krea2_turbo_t2i"
)
# No template has RAW: the page of the same repository lists it beside Turbo.
KREA_RAW = _on_hub(_KREA, "diffusion_models/krea2_raw_fp8_scaled.safetensors", NETWORKS, 13.1e9, f"page {_KREA}")
KREA_TEXTS = _on_hub(
    _KREA, "text_encoders/qwen3vl_4b_fp8_scaled.safetensors", TEXTS, 5.24e9, "TPL image_krea2_turbo_t2i"
)
KREA_VAE = _on_hub(_KREA, "vae/qwen_image_vae.safetensors", VAES, 254e6, "TPL image_krea2_turbo_t2i")

QWEN_2512 = _on_hub(
    _QWEN,
    _SPLIT + "diffusion_models/qwen_image_2512_fp8_e4m3fn.safetensors",
    NETWORKS,
    20.4e9,
    "TPL image_qwen_Image_2512",
)
QWEN_2512_LIGHTNING = _on_hub(
    "lightx2v/Qwen-Image-2512-Lightning",
    "Qwen-Image-2512-Lightning-4steps-V1.0-fp32.safetensors",
    LORAS,
    1.7e9,
    "TPL image_qwen_Image_2512",
)
QWEN = _on_hub(
    _QWEN,
    _SPLIT + "diffusion_models/qwen_image_fp8_e4m3fn.safetensors",
    NETWORKS,
    20.4e9,
    "TPL image_qwen_image_instantx_controlnet",
)
QWEN_LIGHTNING = _on_hub(
    "lightx2v/Qwen-Image-Lightning",
    "Qwen-Image-Lightning-4steps-V1.0.safetensors",
    LORAS,
    1.7e9,
    "TPL image_qwen_image_instantx_controlnet",
)
QWEN_CONTROLNET = _on_hub(
    "Comfy-Org/Qwen-Image-InstantX-ControlNets",
    _SPLIT + "controlnet/Qwen-Image-InstantX-ControlNet-Union.safetensors",
    CONTROLNETS,
    3.53e9,
    "TPL image_qwen_image_instantx_controlnet",
)
QWEN_TEXTS = _on_hub(
    _QWEN, _SPLIT + "text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors", TEXTS, 9.38e9, "TPL image_qwen_Image_2512"
)
QWEN_VAE = _on_hub(_QWEN, _SPLIT + "vae/qwen_image_vae.safetensors", VAES, 254e6, "TPL image_qwen_Image_2512")

KLEIN = _on_hub(
    _KLEIN,
    _SPLIT + "diffusion_models/flux-2-klein-4b.safetensors",
    NETWORKS,
    7.75e9,
    "TPL image_flux2_klein_text_to_image",
)
KLEIN_BASE = _on_hub(
    _KLEIN,
    _SPLIT + "diffusion_models/flux-2-klein-base-4b.safetensors",
    NETWORKS,
    7.75e9,
    "TPL image_flux2_klein_text_to_image",
)
KLEIN_TEXTS = Z_IMAGE_TEXTS  # as in TPL image_flux2_klein_image_edit_4b_distilled
KLEIN_VAE = _on_hub(
    "Comfy-Org/flux2-dev", _SPLIT + "vae/flux2-vae.safetensors", VAES, 336e6, "TPL image_flux2_klein_text_to_image"
)

SCHNELL = _on_hub(
    "Comfy-Org/flux1-schnell", "flux1-schnell-fp8.safetensors", CHECKPOINTS, 17.2e9, "TPL flux_schnell", _DOWNLOAD
)
DEV = _on_hub(
    "Comfy-Org/flux1-dev", "flux1-dev-fp8.safetensors", CHECKPOINTS, 17.2e9, "TPL flux1_dev_uso_reference_image_gen"
)

SDXL = _on_hub(
    "stabilityai/stable-diffusion-xl-base-1.0",
    "sd_xl_base_1.0.safetensors",
    CHECKPOINTS,
    6.94e9,
    "TPL image_sdxl_simple",
    _DOWNLOAD,
)
SDXL_LIGHTNING = _on_hub(
    "ByteDance/SDXL-Lightning", "sdxl_lightning_4step_lora.safetensors", LORAS, 394e6, "page ByteDance/SDXL-Lightning"
)
SDXL_DMD2 = _on_hub("tianweiy/DMD2", "dmd2_sdxl_4step_lora_fp16.safetensors", LORAS, 394e6, "page tianweiy/DMD2")

SD15 = _on_hub(
    "Comfy-Org/stable-diffusion-v1-5-archive", "v1-5-pruned-emaonly-fp16.safetensors", CHECKPOINTS, 2.13e9, "front end"
)
SD15_LCM = _on_hub(
    "latent-consistency/lcm-lora-sdv1-5",
    "pytorch_lora_weights.safetensors",
    LORAS,
    135e6,
    "page latent-consistency/lcm-lora-sdv1-5",
)

IMAGE_REWARD = _oracle("imagereward")
HPS = _oracle("hpsv2.1")

FILES = tuple(dict.fromkeys(each for each in list(globals().values()) if isinstance(each, ModelFile)))
