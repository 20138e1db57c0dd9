"""Open a student or teacher from wherever it is: a diffusers folder or a single file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ..files import CheckpointError
from . import folder, single_file
from .layout import Architecture
from .stable_diffusion import Components, Facts, TextEncoder, ends_in_noise
from .vae import read_vae


@dataclass(frozen=True)
class Checkpoint:
    """A pipeline on disk, already known to be one; nothing is loaded before :meth:`load`.

    vae: of an autoencoder to take in the place of its own, or where it has none.
    """

    path: Path
    architecture: Architecture
    vae: Path | None = None

    @property
    def reader(self):
        """The module that reads such a path."""
        return folder if self.path.is_dir() else single_file

    def load(self, dtype: torch.dtype, prediction: str | None = None) -> Components:
        """Its networks; prediction: "eps" or "v", whatever it says itself.

        Raises CheckpointError for what is not complete or contradicts itself.
        """
        facts = self.facts(prediction)
        load = folder.load_folder if self.path.is_dir() else single_file.load_single_file
        return replace(load(self.path, dtype, self.vae), prediction=facts.prediction)

    def facts(self, prediction: str | None = None) -> Facts:
        """What it says of itself, or of what it predicts another; reads no weights. Raises as :meth:`load`."""
        facts = self.reader.read_facts(self.path)
        if prediction is not None:
            facts = replace(facts, prediction=prediction)
        if facts.prediction == "eps" and ends_in_noise(facts.alphas_cumprod):
            raise CheckpointError(
                f"{self.path} predicts eps, and its scheduler says that the last timestep is noise alone "
                "(rescale_betas_zero_snr), where eps says nothing of the picture. If it predicts v, say so "
                "(prediction_type in its scheduler_config.json; teacher.prediction in a recipe); else set "
                "rescale_betas_zero_snr to false there"
            )
        return facts

    def load_unet(self, dtype: torch.dtype) -> nn.Module:
        """Its UNet alone. Raises CheckpointError for one that is not complete, as those for the other parts do."""
        return self.reader.load_unet(self.path, dtype)

    def outline_unet(self) -> nn.Module:
        """The same on torch's meta device, of which no weight is read. Raises as :meth:`load_unet`."""
        return self.reader.outline_unet(self.path)

    def load_vae(self) -> nn.Module:
        """The autoencoder alone, in float32."""
        return self.reader.load_own_vae(self.path, self.vae)

    def load_texts(self, dtype: torch.dtype) -> tuple[TextEncoder, ...]:
        """Its text encoders alone."""
        return self.reader.load_texts(self.path, dtype)


def open_checkpoint(path: str | Path, vae: str | Path | None = None) -> Checkpoint:
    """Look at the headers of a folder or file. Raises FileNotFoundError, or CheckpointError saying what it is not."""
    path, vae = Path(path), None if vae is None else Path(vae)
    architecture = architecture_at(path, needs_vae=vae is None)
    if vae is not None or path.is_file():
        read_vae(vae or path, architecture)
    return Checkpoint(path, architecture, vae)


def architecture_at(path: Path, needs_vae: bool = False) -> Architecture:
    """The same for the architecture alone."""
    if path.is_dir():
        return folder.read_folder(path, needs_vae)
    file = single_file.read_single_file(path)
    if needs_vae and not file.has_vae:
        raise CheckpointError(f"{path} has no autoencoder inside; name one with --vae (teacher.vae in a recipe)")
    return file.architecture
