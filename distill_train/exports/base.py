"""The model that a student was distilled from, as the headers of its files tell it."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from ...files import CheckpointError, read_header
from ...pipelines.folder import read_folder
from ...pipelines.layout import UNET, Architecture, original_unet_names, unet_config
from ...pipelines.single_file import read_single_file

Shapes = dict[str, tuple[int, ...]]
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

    def unet(self) -> dict[str, torch.Tensor]:
        """The UNet's weights by diffusers' name."""
        from safetensors.torch import load_file

        if self.path.is_dir():
            return {key: value for file in _unet_files(self.path) for key, value in load_file(file).items()}
        weights = self._read({UNET + name for name in self.names.values()})
        return {key: weights[UNET + name] for key, name in self.names.items()}

    def other_weights(self) -> dict[str, torch.Tensor]:
        """The tensors of ``others``."""
        return self._read(self.others.keys())

    def _read(self, keys) -> dict[str, torch.Tensor]:
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in keys}


def open_base(path: Path) -> Base:
    """Raises FileNotFoundError, or CheckpointError for what is no SD 1.x or SDXL checkpoint."""
    return _of_folder(path) if path.is_dir() else _of_file(path)


def _of_file(path: Path) -> Base:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    architecture, header = read_single_file(path)
    # Diffusers' converter moves whatever it is given: moving names shows which one becomes which.
    moved = convert_ldm_unet_checkpoint({key: key for key in header.shapes}, unet_config(architecture, header.shapes))
    return Base(
        path=path,
        architecture=architecture,
        names={key: name.removeprefix(UNET) for key, name in moved.items()},
        shapes={key: header.shapes[name] for key, name in moved.items()},
        # An average of the teacher's UNet is not the student's.
        others={key: shape for key, shape in header.shapes.items() if not key.startswith((UNET, "model_ema."))},
        zero_snr=ZERO_SNR in header.shapes,
    )


def _of_folder(path: Path) -> Base:
    architecture, shapes = read_folder(path), {}
    for file in _unet_files(path):
        shapes |= read_header(file).shapes
    layers = _config(path / "unet" / "config.json")["layers_per_block"]
    zero_snr = _config(path / "scheduler" / "scheduler_config.json").get("rescale_betas_zero_snr", False)
    return Base(path, architecture, original_unet_names(shapes, layers), shapes, {}, zero_snr)


def _config(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _unet_files(path: Path) -> list[Path]:
    files = sorted((path / "unet").glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{path / 'unet'} has no .safetensors file")
    # A folder may hold the same weights twice, in full and in half precision.
    return [file for file in files if ".fp16." not in file.name] or files
