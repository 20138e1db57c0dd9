"""SD 1.x and SDXL folders as diffusers saves them, read offline."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from ..files import CheckpointError, outline, preview, read_header
from ..oracles.clip_tokenizer import clip_tokenizer
from .folder_files import read_json, weight_files
from .layout import EDM, SD1, SDXL, Architecture
from .stable_diffusion import Components, Facts, TextEncoder, zero_terminal_snr
from .vae import load_vae

CLIP_TEXT = "clip_text_model"


def read_folder(path: str | Path, needs_vae: bool = True) -> Architecture:
    """The architecture of a folder. Raises CheckpointError naming what is missing or damaged; reads no weights."""
    path = Path(path)
    kind = read_json(path / "model_index.json").get("_class_name", "pipeline of an unknown kind")
    for name in ("unet", *["vae"] * needs_vae, "text_encoder", "scheduler"):
        if not (path / name).is_dir():
            hint = "; --vae (teacher.vae in a recipe) may name one" if name == "vae" else ""
            raise CheckpointError(
                f"{path} is a {kind} and has no {name}/; expected a diffusers folder of an SD 1.x or SDXL pipeline"
                + hint
            )
    scheduler = read_json(path / "scheduler" / "scheduler_config.json")
    if "FlowMatch" in scheduler.get("_class_name", ""):
        raise CheckpointError(f"{path} is a flow-matching pipeline; expected SD 1.x or SDXL")
    if scheduler.get("_class_name", "").startswith("EDM"):
        raise CheckpointError(f"{path} {EDM}")
    for file in sorted(path.glob("*/*.safetensors")):
        read_header(file)
    architecture = SDXL if (path / "text_encoder_2").is_dir() else SD1
    unet, text = read_json(path / "unet" / "config.json"), read_json(path / "text_encoder" / "config.json")
    if unet.get("in_channels", 4) != unet.get("out_channels", 4):
        raise CheckpointError(
            f"{path} has a UNet that reads {unet.get('in_channels')} channels and gives {unet.get('out_channels')}: an "
            "inpainting or editing model; expected a text-to-image one"
        )
    if text.get("model_type", CLIP_TEXT) != CLIP_TEXT:
        raise CheckpointError(
            f"{path} is a {kind} with a text encoder of the type {text['model_type']}; expected SD 1.x or SDXL"
        )
    if architecture is SD1 and text.get("hidden_act", "quick_gelu") != SD1.texts[0].activation:
        raise CheckpointError(f"{path} looks like SD 2.x by its text encoder; expected SD 1.x or SDXL")
    return architecture


def load_folder(path: str | Path, dtype: torch.dtype, vae: Path | None = None) -> Components:
    """Every network of a diffusers folder; the autoencoder of ``vae`` where that is given.

    Raises CheckpointError as :func:`read_folder` does.
    """
    read_folder(path, needs_vae=vae is None)
    facts = read_facts(path)
    return Components(
        unet=load_unet(path, dtype),
        vae=load_own_vae(path, vae),
        texts=load_texts(path, dtype),
        alphas_cumprod=facts.alphas_cumprod,
        prediction=facts.prediction,
        empty_negative_is_zero=facts.empty_negative_is_zero,
    )


def read_facts(path: str | Path) -> Facts:
    """What its configs say."""
    from diffusers import DDIMScheduler

    path = Path(path)
    scheduler = read_json(path / "scheduler" / "scheduler_config.json")
    ours = DDIMScheduler.from_config({**scheduler, "rescale_betas_zero_snr": False})
    alphas_cumprod = ours.alphas_cumprod.double()
    architecture = read_folder(path, needs_vae=False)
    return Facts(
        alphas_cumprod=zero_terminal_snr(alphas_cumprod) if scheduler.get("rescale_betas_zero_snr") else alphas_cumprod,
        prediction=_prediction(path, scheduler),
        empty_negative_is_zero=read_json(path / "model_index.json").get(
            "force_zeros_for_empty_prompt", architecture.empty_negative_is_zero
        ),
        guidance_width=read_json(path / "unet" / "config.json").get("time_cond_proj_dim"),
    )


def load_unet(path: str | Path, dtype: torch.dtype) -> nn.Module:
    """Its UNet alone. Raises as :func:`load_folder`."""
    from diffusers import UNet2DConditionModel

    return load_network(UNet2DConditionModel, Path(path) / "unet", dtype)


def outline_unet(path: str | Path) -> nn.Module:
    """The same on torch's meta device, of which no weight is read. Raises as :func:`load_folder`."""
    from diffusers import UNet2DConditionModel

    folder = Path(path) / "unet"
    config = read_json(folder / "config.json")
    try:
        with torch.device("meta"):
            network = UNet2DConditionModel.from_config(config)
    except ValueError as error:
        raise CheckpointError(f"{folder / 'config.json'} is not one of a UNet2DConditionModel: {error}") from error
    found = {key: tensor for file in weight_files(folder) for key, tensor in outline(file).items()}
    expected = network.state_dict()
    _require_whole(folder, UNet2DConditionModel, expected.keys() - found.keys())
    if wrong := sorted(key for key, value in expected.items() if found[key].shape != value.shape):
        shapes = f"{list(found[wrong[0]].shape)}, and its config says {list(expected[wrong[0]].shape)}"
        raise CheckpointError(f"{folder} does not fit its config: {wrong[0]} is {shapes}")
    return network.eval().requires_grad_(False)


def load_own_vae(path: str | Path, vae: Path | None = None) -> nn.Module:
    """Its autoencoder, or that of ``vae``. Raises as :func:`load_folder`."""
    from diffusers import AutoencoderKL

    if vae is not None:
        return load_vae(vae, read_folder(path, needs_vae=False))
    return load_network(AutoencoderKL, Path(path) / "vae", torch.float32)


def load_texts(path: str | Path, dtype: torch.dtype) -> tuple[TextEncoder, ...]:
    """Its text encoders alone. Raises as :func:`load_folder`."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    path, architecture = Path(path), read_folder(path, needs_vae=False)
    encoders = ["text_encoder", "text_encoder_2"] if architecture is SDXL else ["text_encoder"]
    return tuple(
        TextEncoder(
            load_network(CLIPTextModelWithProjection if name.endswith("_2") else CLIPTextModel, path / name, dtype),
            _tokenizer(path / name.replace("text_encoder", "tokenizer"), layout.pad_token),
        )
        for name, layout in zip(encoders, architecture.texts, strict=True)
    )


def _prediction(path: Path, scheduler: dict) -> str:
    said = scheduler.get("prediction_type", "epsilon")
    known = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
    if said not in known:
        raise CheckpointError(
            f"{path}: the scheduler's prediction_type is {said!r}; expected one of {', '.join(known)}"
        )
    return known[said]


def load_network(kind, folder: Path, dtype: torch.dtype):
    """A network of the class ``kind`` from its part of a folder. Raises CheckpointError where it is not complete."""
    variant = "fp16" if all(".fp16." in file.name for file in weight_files(folder)) else None
    # Keyword arguments for the dtype differ between versions, hence the cast afterwards.
    try:
        network, problems = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, variant=variant, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "mismatched" not in str(error):  # such as for a want of memory
            raise
        raise CheckpointError(f"{folder} cannot be read as {kind.__name__}: {error}") from error
    _require_whole(folder, kind, [key for key in problems["missing_keys"] if not key.endswith("position_ids")])
    return network.to(dtype).eval().requires_grad_(False)


def _require_whole(folder: Path, kind: type, missing: Iterable[str]) -> None:
    if missing := sorted(missing):
        raise CheckpointError(f"{folder} is not complete: {kind.__name__} lacks {preview(missing)}")


def _tokenizer(folder: Path, pad_token: str):
    """The folder's own tokenizer where it has one, else the pack's."""
    if not folder.is_dir():
        return clip_tokenizer(pad_token)
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
