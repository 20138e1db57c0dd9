"""The model that a student was distilled from, as the headers of its files tell it."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from ...files import read_header
from ...pipelines.folder import read_folder
from ...pipelines.folder_files import weight_files
from ...pipelines.layout import UNET, Architecture, original_unet_names
from ...pipelines.single_file import read_single_file
from ..students.kohya import Layers, Shapes
from ..teachers.architectures import ARCHITECTURES

# Empty tensors by which SDXL files say that the network predicts v, and with zero terminal SNR.
PREDICTS_V, ZERO_SNR = "v_pred", "ztsnr"


@dataclass(frozen=True)
class Base:
    """A checkpoint file or diffusers folder; no weight is read before it is asked for.

    names: the original layout's name, without ``UNET``, of each UNet tensor of diffusers' name. shapes: of the UNet's
    tensors, by diffusers' name. others: of a checkpoint file's remaining tensors that an export takes over. zero_snr:
    whether it says that its last timestep is noise alone.
    """

    path: Path
    architecture: Architecture
    names: dict[str, str]
    shapes: Shapes
    others: Shapes
    zero_snr: bool

    @property
    def layers(self) -> Layers:
        """What a LoRA of it may change."""
        return Layers(self.names, self.shapes, ARCHITECTURES[self.architecture.kind].original_names)

    def unet(self) -> dict[str, torch.Tensor]:
        """The UNet's weights by diffusers' name."""
        from safetensors.torch import load_file

        if self.path.is_dir():
            files = weight_files(self.path / "unet")
            return {key: value for file in files for key, value in load_file(file).items()}
        weights = read_single_file(self.path).tensors(UNET + name for name in self.names.values())
        return {key: weights[UNET + name] for key, name in self.names.items()}

    def other_weights(self) -> dict[str, torch.Tensor]:
        """The tensors of ``others``."""
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in self.others}


def open_base(path: Path) -> Base:
    """Raises FileNotFoundError, or CheckpointError for what is no SD 1.x or SDXL checkpoint."""
    return _of_folder(path) if path.is_dir() else _of_file(path)


def _of_file(path: Path) -> Base:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    file = read_single_file(path)
    # Diffusers' converter moves whatever it is given: moving names shows which one becomes which.
    moved = convert_ldm_unet_checkpoint({name: name for name in file.names}, file.unet)
    return Base(
        path=path,
        architecture=file.architecture,
        names={key: name.removeprefix(UNET) for key, name in moved.items()},
        shapes={key: file.shapes[name] for key, name in moved.items()},
        # An average of the teacher's UNet is not the student's.
        others={key: shape for key, shape in file.header.shapes.items() if not key.startswith((UNET, "model_ema."))},
        zero_snr=ZERO_SNR in file.header.shapes,
    )


def _of_folder(path: Path) -> Base:
    architecture, shapes = read_folder(path, needs_vae=False), {}
    for file in weight_files(path / "unet"):
        shapes |= read_header(file).shapes
    layers = _config(path / "unet" / "config.json")["layers_per_block"]
    zero_snr = _config(path / "scheduler" / "scheduler_config.json").get("rescale_betas_zero_snr", False)
    return Base(path, architecture, original_unet_names(shapes, layers), shapes, {}, zero_snr)


def _config(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
