"""The loaders of a student and its teacher, each with its file's address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .graph import Column, Look, Node, Output
from .model_files import IMAGE_REWARD, ModelFile


class Loaded(NamedTuple):
    student: Output
    teacher: Output
    clip: Output
    vae: Output


@dataclass(frozen=True)
class Loading:
    """files: all that are needed. into: puts loaders into a column, of text encoder and VAE the titles alone."""

    files: Sequence[ModelFile]
    into: Callable[[Column], Loaded]


def lora_on_checkpoint(
    checkpoint: ModelFile, lora: ModelFile, collapsed: bool = False, title: str = "Teacher"
) -> Loading:
    """The student is the teacher with a LoRA. collapsed: only the titles are shown. title: of the checkpoint."""

    def into(column: Column) -> Loaded:
        whole = _checkpoint(column, title, checkpoint, collapsed)
        student = _lora(column, whole["MODEL"], lora, collapsed)
        return Loaded(student, whole["MODEL"], whole["CLIP"], whole["VAE"])

    return Loading([checkpoint, lora], into)


def two_checkpoints(student: ModelFile, teacher: ModelFile) -> Loading:
    """Both have the same text encoders and VAE inside."""

    def into(column: Column) -> Loaded:
        first, second = _checkpoint(column, "Student", student), _checkpoint(column, "Teacher", teacher)
        return Loaded(first["MODEL"], second["MODEL"], first["CLIP"], first["VAE"])

    return Loading([student, teacher], into)


def two_networks(student: ModelFile, teacher: ModelFile, texts: ModelFile, kind: str, vae: ModelFile) -> Loading:
    """They share text encoder and VAE. kind: the host's name for the encoder's use."""

    def into(column: Column) -> Loaded:
        shared = _texts_and_vae(column, texts, kind, vae)
        first, second = _network(column, "Student", student), _network(column, "Teacher", teacher)
        return Loaded(first, second, *shared)

    return Loading([student, teacher, texts, vae], into)


def lora_on_network(
    network: ModelFile, lora: ModelFile, texts: ModelFile, kind: str, vae: ModelFile, collapsed: bool = False
) -> Loading:
    """The student is the teacher with a LoRA. kind: the host's name for the encoder's use. collapsed: only titles
    of these two are shown."""

    def into(column: Column) -> Loaded:
        shared = _texts_and_vae(column, texts, kind, vae)
        whole = _network(column, "Teacher", network, collapsed)
        return Loaded(_lora(column, whole, lora, collapsed), whole, *shared)

    return Loading([network, lora, texts, vae], into)


def oracle(column: Column, file: ModelFile = IMAGE_REWARD, title: str = "Oracle") -> Output:
    """Its title alone; it stands before what is shown whole, as Nodes 2.0 fits the view to nodes not yet collapsed."""
    look = Look(title, models=[file], collapsed=True)
    return column.add("UnderstudyLoadOracle", look, oracle_name=file.name)["oracle"]


def _checkpoint(column: Column, title: str, file: ModelFile, collapsed: bool = False) -> Node:
    look = Look(title, models=[file], collapsed=collapsed)
    return column.add("CheckpointLoaderSimple", look, ckpt_name=file.name)


def _network(column: Column, title: str, file: ModelFile, collapsed: bool = False) -> Output:
    look = Look(title, models=[file], collapsed=collapsed)
    return column.add("UNETLoader", look, unet_name=file.name, weight_dtype="default")["MODEL"]


def _lora(column: Column, model: Output, file: ModelFile, collapsed: bool = False) -> Output:
    look = Look("Student: with a LoRA", models=[file], collapsed=collapsed)
    return column.add("LoraLoaderModelOnly", look, model=model, lora_name=file.name)["MODEL"]


def _texts_and_vae(column: Column, texts: ModelFile, kind: str, vae: ModelFile) -> tuple[Output, Output]:
    look = Look(models=[texts], collapsed=True)
    clip = column.add("CLIPLoader", look, clip_name=texts.name, type=kind, device="default")["CLIP"]
    return clip, column.add("VAELoader", Look(models=[vae], collapsed=True), vae_name=vae.name)["VAE"]
