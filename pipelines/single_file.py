"""SD 1.x and SDXL single-file checkpoints, offline: diffusers' converters, our configurations, strict loading."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..files import CheckpointError, Header, fill, read_header
from ..oracles.clip_tokenizer import clip_tokenizer
from ..samplers.denoisers import scaled_linear
from .layout import UNET, VAE, Architecture, Shapes, architecture_of, text_config, unet_config
from .renaming import Names, original_names, original_shape, original_tensor, require_readable
from .stable_diffusion import Components, Facts, TextEncoder, zero_terminal_snr
from .vae import load_vae


@dataclass(frozen=True)
class SingleFile:
    """A checkpoint file of which no weight is read before it is asked for.

    names: the file's own name of each tensor by that of the original layout. shapes: by the latter. unet: arguments of
    diffusers' UNet2DConditionModel.
    """

    path: Path
    architecture: Architecture
    header: Header
    names: Names
    shapes: Shapes
    unet: dict

    @property
    def has_vae(self) -> bool:
        return any(key.startswith(VAE) for key in self.names)

    @property
    def prediction(self) -> str:
        """ "v" where the file says so: the empty tensor `v_pred` (NoobAI and later), or trainers' metadata."""
        said = self.header.metadata.get("modelspec.prediction_type", "")
        return "v" if "v_pred" in self.header.shapes or said.startswith("v") else "eps"

    @property
    def zero_snr(self) -> bool:
        """Whether it says that its last timestep is noise alone; of eps that says nothing, to the host neither."""
        return "ztsnr" in self.header.shapes and self.prediction == "v"

    def tensors(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Those of these names, in the original layout."""
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as file:

            def read(key: str) -> torch.Tensor | None:
                return file.get_tensor(key) if key in self.header.shapes else None

            return {name: original_tensor(self.names[name], name, read) for name in names}


def read_single_file(path: str | Path) -> SingleFile:
    """What a checkpoint file is, by its header. Raises FileNotFoundError, or CheckpointError that says what it is."""
    from safetensors import safe_open

    path, header = Path(path), read_header(path)
    names = {name: key for key, name in original_names(header.shapes).items()}
    shapes = {name: original_shape(key, name, header.shapes[key]) for name, key in names.items()}
    architecture = architecture_of(path, shapes)
    with safe_open(path, framework="pt") as file:
        require_readable(path, header, file.get_tensor)
    try:
        for layout in architecture.texts:
            text_config(layout, shapes)
        return SingleFile(path, architecture, header, names, shapes, unet_config(architecture, shapes))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def load_single_file(path: str | Path, dtype: torch.dtype, vae: Path | None = None) -> Components:
    """Every network of a checkpoint file; the autoencoder of ``vae`` where that is given.

    Raises CheckpointError for tensors missing from it or of another shape.
    """
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
    """What its header says."""
    file = read_single_file(path)
    return Facts(
        alphas_cumprod=zero_terminal_snr(scaled_linear()) if file.zero_snr else scaled_linear(),
        prediction=file.prediction,
        empty_negative_is_zero=file.architecture.empty_negative_is_zero,
    )


def load_unet(path: str | Path, dtype: torch.dtype) -> nn.Module:
    """Its UNet alone. Raises as :func:`load_single_file`."""
    file = read_single_file(path)
    return _filled_unet(file, file.tensors(name for name in file.names if name.startswith(UNET)), dtype)


def outline_unet(path: str | Path) -> nn.Module:
    """The same on torch's meta device, of which no weight is read. Raises as :func:`load_single_file`."""
    file = read_single_file(path)
    unet = {name: shape for name, shape in file.shapes.items() if name.startswith(UNET)}
    weights = {name: torch.empty(shape, device="meta") for name, shape in unet.items()}
    return _filled_unet(file, weights, torch.float32)


def _filled_unet(file: SingleFile, weights: dict[str, torch.Tensor], dtype: torch.dtype) -> nn.Module:
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    with torch.device("meta"):
        network = UNet2DConditionModel(**file.unet)
    return fill(file.path, network, convert_ldm_unet_checkpoint(weights, file.unet), dtype, adopt=True)


def load_own_vae(path: str | Path, vae: Path | None = None) -> nn.Module:
    """Its autoencoder, or that of ``vae``. Raises as :func:`load_single_file`."""
    return load_vae(vae or path, read_single_file(path).architecture)


def load_texts(path: str | Path, dtype: torch.dtype) -> tuple[TextEncoder, ...]:
    """Its text encoders alone. Raises as :func:`load_single_file`."""
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_open_clip_checkpoint
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    file, texts = read_single_file(path), []
    for layout in file.architecture.texts:
        weights = file.tensors(name for name in file.names if name.startswith(layout.prefix))
        config = CLIPTextConfig(**text_config(layout, file.shapes))
        with torch.device("meta"):
            network = (CLIPTextModelWithProjection if layout.open_clip else CLIPTextModel)(config)
        if layout.open_clip:
            converted = convert_open_clip_checkpoint(network, weights, prefix=layout.prefix)
        else:
            converted = convert_ldm_clip_checkpoint(weights)
        # `CLIPTextModel` lost its inner "text_model" in transformers 5.6.
        if not any(key.startswith("text_model.") for key in network.state_dict()):
            converted = {key.removeprefix("text_model."): value for key, value in converted.items()}
        filled = fill(path, network, converted, dtype, adopt=True)
        texts.append(TextEncoder(filled, clip_tokenizer(layout.pad_token)))
    return tuple(texts)
