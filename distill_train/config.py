"""Recipes: TOML files, validated before anything is loaded."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WINDOW = 75  # tokens of a prompt that CLIP reads at once, besides a start and an end
SIZED = "by size"  # in the place of a shift: one that follows from the picture's size


class RecipeError(ValueError):
    """A recipe that cannot be read; the message names the file, the key and what is expected."""


class Strict(BaseModel):
    """Settings in which a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Loop(Strict):
    """How long, how fast and how often: the same for every method."""

    steps: int = Field(gt=0, description="optimizer steps of the whole run")
    batch_size: int = Field(gt=0, description="samples in a step, over all processes and accumulated parts")
    accumulate: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        1,
        description="parts in which a process works on its share of a batch: less memory; auto measures how few "
        "will do, and the run keeps to that",
    )
    optimizer: Literal["adamw", "adamw8bit", "radam"] = Field(
        "adamw", description="adamw8bit keeps its state in 8 bits and needs bitsandbytes; radam needs no warmup"
    )
    lr: float = Field(gt=0, description="peak learning rate")
    warmup: int = Field(0, ge=0, description="steps over which the learning rate rises to its peak")
    decay: Literal["cosine", "constant", "wsd"] = Field(
        "cosine", description="learning rate after the warmup; wsd falls over the last fifth only"
    )
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    betas: tuple[float, float] = Field((0.9, 0.99), description="of the optimizer's two averages")
    grad_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the weight average that is exported; 0 for none")
    ema_offload: bool = Field(
        False,
        description="keep that average and the target's in main memory: less of the device's, and each step waits for "
        "copies",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="of the passes, under autocast, and of weights that do not train; what trains is fp32"
    )
    checkpointing: bool | Literal["auto"] = Field(
        False,
        description="recompute activations in the backward pass: less memory, slower; auto where not even one sample's "
        "fit without",
    )
    compile: bool = Field(
        False,
        description="compile the network's transformer blocks, for which the first step takes minutes: faster where a "
        "GPU waits for its kernels to be launched, as with small pictures",
    )
    memory_gib: float | None = Field(
        None, gt=0, description="GiB that auto may let the training take in all; what is free without it"
    )
    log_every: int = Field(50, gt=0, description="steps between lines of the log")
    sample_every: int = Field(1000, gt=0, description="steps between sample grids and measurements")
    checkpoint_every: int = Field(1000, gt=0, description="steps between checkpoints")
    keep_checkpoints: int = Field(2, gt=0, description="how many of the newest checkpoints stay")
    tracker: Literal["auto", "none", "tensorboard", "trackio"] = Field(
        "auto", description="where the log also goes; auto takes what is installed"
    )


class TeacherSettings(Strict):
    """The model to distil."""

    path: Path | None = Field(
        None, description='checkpoint file or diffusers folder, SD 1.x or SDXL; "demo" is the embedded teacher'
    )
    comfy: Path | None = Field(
        None, description="instead of path: a checkpoint or diffusion model of any family, loaded by ComfyUI"
    )
    comfyui: Path | None = Field(
        None, description="ComfyUI's folder; without it COMFYUI_PATH, or the one in whose custom_nodes this pack lies"
    )
    clip: tuple[Path, ...] = Field(
        (), description="with comfy: text encoders, a file or several; those in the checkpoint without any"
    )
    clip_type: str = Field(
        "stable_diffusion", description="what ComfyUI's text encoder loaders call the type of clip, e.g. flux or wan"
    )
    shift: Annotated[float, Field(gt=0)] | Literal[SIZED] | None = Field(
        None,
        description=f"with comfy: of a flow's schedule, as in ModelSamplingSD3, or {SIZED!r}, as in ModelSamplingFlux "
        "by default; ComfyUI's own without it",
    )
    guidance: float | None = Field(
        None, ge=0, description="with comfy: what FLUX.1 dev and its like are told, as by FluxGuidance; 3.5 without it"
    )
    prediction: Literal["auto", "epsilon", "v_prediction"] = Field(
        "auto", description="what its network predicts; auto asks the file, but not every v-prediction model says it"
    )
    zero_snr: bool = Field(
        False, description="its last timestep is noise alone (zero terminal SNR), also where the file does not say so"
    )
    vae: Path | None = Field(
        None,
        description="autoencoder in the place of its own: a file, or with path a folder of diffusers",
    )
    empty: Literal["auto", "zeros", "text"] = Field(
        "auto",
        description="what guidance takes for no prompt: zeros, as SDXL's own training, or the empty text's embedding, "
        "as many finetunes of it; auto asks the folder, and takes zeros for an SDXL file, text for all others",
    )
    clip_skip: int | None = Field(
        None,
        gt=0,
        description="layer of the text encoders that is read, from the end: the n of A1111's Clip skip n and of -n in "
        "ComfyUI's CLIP Set Last Layer; the architecture's own without it, 1 for SD 1.x and 2 for SDXL",
    )
    max_tokens: int = Field(
        WINDOW,
        gt=0,
        multiple_of=WINDOW,
        description="of a prompt that are read; above 75 in windows of 75, as ComfyUI and kohya's scripts read long "
        "ones",
    )

    @model_validator(mode="after")
    def _either(self):
        if (self.path is None) == (self.comfy is None):
            raise ValueError("expected path, for SD 1.x, SDXL or demo, or comfy, for any model that ComfyUI loads")
        fields, hosted = type(self).model_fields, ("comfyui", "clip", "clip_type", "shift", "guidance")
        said = [name for name in hosted if getattr(self, name) != fields[name].default]
        if self.comfy is None and said:
            raise ValueError(f"{', '.join(said)}: for a teacher that ComfyUI loads, so with comfy, not path")
        if self.comfy is not None and (self.prediction != "auto" or self.zero_snr):
            raise ValueError("prediction and zero_snr are for path; with comfy ComfyUI says what a model predicts")
        return self

    @property
    def file(self) -> Path:
        """Where the model lies, whoever loads it."""
        return self.path or self.comfy


class AttentionSettings(Strict):
    """How a teacher is guided by its own attention, beside classifier-free guidance."""

    weight: float = Field(0.3, ge=0, description="w in x0 + w (x_bar - x0(z~)); SFERD's is 0.3, 0 the plain teacher")
    block: str | None = Field(
        None,
        description="name of the module that is looked at, a self-attention or, of a transformer, a block; by default "
        "the one in the middle",
    )
    kernel: int = Field(
        9, ge=3, description="odd width of the blur on latents of 64x64 places; it grows and shrinks with them"
    )
    sigma: float = Field(2.0, gt=0, description="standard deviation of the blur there; it scales with the kernel")

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError("expected an odd number")
        return kernel


class StudentSettings(Strict):
    """What trains, and how it is saved."""

    train: Literal["full", "lora", "control", "predictor", "prior"] = Field(
        "lora",
        description="all weights, or a LoRA: less memory, a small file; control: a ControlNet; of SFERD a predictor or "
        "a predictor's prior; the last three for methods with one",
    )
    base: Literal["frozen", "lora", "full"] = Field(
        "frozen", description="of control: what of the network under it trains, too; frozen and lora keep one in memory"
    )
    control: Path | None = Field(
        None, description="of control: a ControlNet to start from, a file or folder; without it one that does nothing"
    )
    file: Path | None = Field(None, description="with predictor and prior: the student, a LoRA or a UNet, which stays")
    predictor: Path | None = Field(None, description="with prior: the file of the predictor that is to have one")
    rank: int = Field(64, gt=0, description="rank of the LoRA")
    alpha: float | None = Field(None, gt=0, description="scale of the LoRA is alpha / rank; the rank without it")
    targets: tuple[str, ...] = Field(
        (),
        description="ends of the names of the layers that get a LoRA; without any, of a diffusers UNet the "
        "usual ones, and of what ComfyUI loads the attention and feed-forward of its blocks",
    )
    dtype: Literal["fp16", "bf16", "fp32"] = Field("fp16", description="of the exported weights")

    @model_validator(mode="after")
    def _controlled(self):
        if self.train != "control" and (self.base != "frozen" or self.control is not None):
            raise ValueError(f"base and control are for train = control, not {self.train}")
        return self


class Samples(Strict):
    """What the sample grid shows: the student at 1, 2 and 4 steps beside the teacher, from the same noise."""

    prompts: tuple[str, ...] = Field((), description="one row each; built-in ones without any")
    seed: int = Field(0, ge=0, description="of the noise")
    size: int | None = Field(None, gt=0, description="side in pixels; the teacher's own without it")
    teacher_steps: int = Field(25, gt=0, description="of the teacher, by DPM-Solver++ 2M")
    teacher_cfg: float = Field(7.5, ge=1, description="guidance scale of the teacher; 1 is none")
    oracle: Path | None = Field(None, description="an oracle's file; its mean score of each column goes to the log")
    oracle_family: str = Field("auto", description="what the oracle is; auto asks the file")


class Recipe(Strict):
    """One training: a method, its settings, the loop and the file that the result is written to."""

    method: str = Field(description="how the student learns; see the [settings] of each below")
    seed: int = Field(ge=0, description="every draw of the run follows from it")
    export: str = Field(description="file name of the exported weights, in the run's exports folder")
    loop: Loop = Field(description="how long, how fast and how often")
    teacher: TeacherSettings | None = Field(None, description="the model to distil, a table")
    attention: AttentionSettings | None = Field(
        None, description="the teacher's guidance by its own attention, as SFERD's; a table, none without it"
    )
    student: StudentSettings = Field(StudentSettings(), description="what trains, and how it is saved")
    data: dict[str, Any] = Field(default_factory=dict, description="what is learned from, where a model is distilled")
    samples: Samples = Field(Samples(), description="what the sample grid shows")
    settings: dict[str, Any] = Field(default_factory=dict, description="the method's own keys")

    @field_validator("export")
    @classmethod
    def _file_name(cls, name: str) -> str:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError("expected a file name that ends in .safetensors, without a folder")
        return name


def load_recipe(path: Path, changes: tuple[str, ...] = ()) -> Recipe:
    """The recipe in a TOML file, with ``changes`` such as "loop.steps=100" made to it.

    Raises RecipeError with every problem that was found.
    """
    try:
        return validated(path, tomllib.loads(path.read_text(encoding="utf-8-sig")), changes)
    except (FileNotFoundError, IsADirectoryError) as e:
        raise RecipeError(f"there is no recipe {str(path)!r}; the pack's own lie in distill_train/recipes") from e
    except UnicodeDecodeError as e:
        raise RecipeError(f"{path} is not a text file in UTF-8: {e.reason} at byte {e.start}") from e
    except tomllib.TOMLDecodeError as e:
        raise RecipeError(f"{path} is not TOML: {e}") from e


def validated(source: Path, recipe: dict[str, Any], changes: tuple[str, ...] = ()) -> Recipe:
    """The recipe that ``source`` holds, with ``changes`` made to it. Raises RecipeError with every problem."""
    for change in changes:
        _make(recipe, change)
    try:
        return Recipe.model_validate(recipe)
    except ValidationError as e:
        raise RecipeError(explain(source, e)) from e


def _make(recipe: dict, change: str) -> None:
    """Put one "a.b=value" into a recipe; what is no TOML value is taken as a text."""
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {change!r} sets nothing; expected KEY=VALUE, e.g. loop.steps=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.strip().split(".")
    for table in tables:
        recipe = recipe.setdefault(table, {})
        if not isinstance(recipe, dict):
            raise RecipeError(f"--set {change!r}: {table} is a value, not a table")
    recipe[last] = value


def toml(value: Any) -> str:
    """A value of a recipe as TOML writes it: a text or path, whatever characters it has, a number, or several."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, Path | str):
        return json.dumps(str(value), ensure_ascii=False)  # a basic string of TOML escapes as JSON's
    return str(value).lower() if isinstance(value, bool) else str(value)


def explain(source: object, error: ValidationError) -> str:
    """A pydantic error in one line for each wrong key."""
    lines = [f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']} (given: {e['input']!r})" for e in error.errors()]
    return f"{source}: " + "; ".join(lines)
