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
    """files: all that are needed. into: puts loaders into two columns, the second for text encoder and VAE."""

    files: Sequence[ModelFile]
    into: Callable[[Column, Column], Loaded]


def lora_on_checkpoint(checkpoint: ModelFile, lora: ModelFile) -> Loading:
    """The student is the teacher with a LoRA."""

    def into(column: Column, shared: Column) -> Loaded:
        whole = _checkpoint(column, "Teacher", checkpoint)
        student = _lora(column, whole["MODEL"], lora)
        return Loaded(student, whole["MODEL"], whole["CLIP"], whole["VAE"])

    return Loading([checkpoint, lora], into)


def two_checkpoints(student: ModelFile, teacher: ModelFile) -> Loading:
    """Both have the same text encoders and VAE inside."""

    def into(column: Column, shared: Column) -> Loaded:
        first, second = _checkpoint(column, "Student", student), _checkpoint(column, "Teacher", teacher)
        return Loaded(first["MODEL"], second["MODEL"], first["CLIP"], first["VAE"])

    return Loading([student, teacher], into)


def two_networks(student: ModelFile, teacher: ModelFile, texts: ModelFile, kind: str, vae: ModelFile) -> Loading:
    """They share text encoder and VAE. kind: the host's name for the encoder's use."""

    def into(column: Column, shared: Column) -> Loaded:
        first, second = _network(column, "Student", student), _network(column, "Teacher", teacher)
        return Loaded(first, second, *_texts_and_vae(shared, texts, kind, vae))

    return Loading([student, teacher, texts, vae], into)


def lora_on_network(network: ModelFile, lora: ModelFile, texts: ModelFile, kind: str, vae: ModelFile) -> Loading:
    """The student is the teacher with a LoRA. kind: the host's name for the encoder's use."""

    def into(column: Column, shared: Column) -> Loaded:
        whole = _network(column, "Teacher", network)
        return Loaded(_lora(column, whole, lora), whole, *_texts_and_vae(shared, texts, kind, vae))

    return Loading([network, lora, texts, vae], into)


def oracle(column: Column, file: ModelFile = IMAGE_REWARD, title: str = "Oracle") -> Output:
    look = Look(title, 166, [file])
    return column.add("UnderstudyLoadOracle", look, oracle_name=file.name)["oracle"]


def _checkpoint(column: Column, title: str, file: ModelFile) -> Node:
    return column.add("CheckpointLoaderSimple", Look(title, models=[file]), ckpt_name=file.name)


def _network(column: Column, title: str, file: ModelFile) -> Output:
    look = Look(title, models=[file])
    return column.add("UNETLoader", look, unet_name=file.name, weight_dtype="default")["MODEL"]


def _lora(column: Column, model: Output, file: ModelFile) -> Output:
    look = Look("Student: with a LoRA", models=[file])
    return column.add("LoraLoaderModelOnly", look, model=model, lora_name=file.name)["MODEL"]


def _texts_and_vae(column: Column, texts: ModelFile, kind: str, vae: ModelFile) -> tuple[Output, Output]:
    encoder = column.add("CLIPLoader", Look(models=[texts]), clip_name=texts.name, type=kind, device="default")
    return encoder["CLIP"], column.add("VAELoader", Look(models=[vae]), vae_name=vae.name)["VAE"]
