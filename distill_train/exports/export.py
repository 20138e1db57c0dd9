"""``understudy export``: a run in, one file for a stock loader out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ...files import CheckpointError, preview, read_header, save_tensors
from ...files.student_file import METHOD, StudentFile
from ...pipelines.folder_files import has_fingerprint
from ...pipelines.layout import SDXL, UNET
from ...pipelines.lora import Change, lora_changes, read_lora
from ..run.directory import Run, read_recipe
from ..students.kohya import kohya_shapes, kohya_tensors, lora_metadata
from ..students.written import cast, check
from .base import PREDICTS_V, ZERO_SNR, Base, open_base
from .guidance import fold_guidance, takes_guidance

# Folder below ComfyUI's models folder, and the node that loads from it.
PLACES = {
    "lora": ("loras", "Load LoRA"),
    "unet": ("diffusion_models", "Load Diffusion Model"),
    "checkpoint": ("checkpoints", "Load Checkpoint"),
}
TITLE = "modelspec.title"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class ExportError(ValueError):
    """An export that cannot be made; the message says which one can."""


@dataclass(frozen=True)
class Exported:
    """A written and checked file, the models folder it belongs in, the node that loads it, and what else to know."""

    path: Path
    student: StudentFile
    folder: str
    node: str
    tensors: int
    notes: tuple[str, ...]

    def summary(self) -> str:
        """What to tell the user, a few lines."""
        student = self.student
        sampling = f"{student.steps} steps, cfg {student.guidance:g}, {student.sampler}, {student.scheduler}"
        only = ", which no other node has" if student.preset == "consistency" else ""
        fixed = "" if student.folded_guidance is None else f"; guidance {student.folded_guidance:g} is fixed in them"
        lines = [
            f"{self.path}: {self.tensors} tensors, each of a name and shape that the base has{fixed}",
            f"Copy it to {self.folder}; {self.node} loads it.",
            f"Understudy Student Sampler samples it with settings_from this file: {sampling}{only}.",
        ]
        return "\n".join([*lines, *self.notes])


def export(
    run: Path,
    to: str | None = None,
    guidance: float | None = None,
    out: Path | None = None,
    base: Path | None = None,
    dtype: str = "auto",
) -> Exported:
    """Write a run's averaged weights as ``to``: "lora", "unet" or "checkpoint"; what the run trained without it.

    run: its folder, or one of the files in the run's exports folder. guidance: the scale, as cfg, to fix in a student
    that takes it as an input. out: a file, or a folder for it; the run's exports folder without it. base: the model to
    check against, and to complete a checkpoint with; the recipe's teacher without it. dtype: "auto" is the run's own.
    A file that is there already is replaced only if it is an earlier export.
    Raises ExportError, CheckpointError, FileNotFoundError or FileExistsError.
    """
    file, recipe = _student_file(run)
    student = StudentFile.read(file)
    if student.base not in ("sd1", "sdxl"):
        raise ExportError(
            f"{file} is a student of the {student.base} architecture; only SD 1.x and SDXL ones are exported"
        )
    if dtype not in ("auto", *DTYPES):
        raise ExportError(f"--dtype {dtype}: expected auto, {', '.join(DTYPES)}")
    to = to or {"lora": "lora", "full": "unet"}[student.trained]
    if to not in PLACES:
        raise ExportError(f"--to {to}: expected {', '.join(PLACES)}")
    model = _base(base, recipe, student)
    if model.zero_snr:
        student = replace(student, terminal_snr="zero")
    if student.base != ("sdxl" if model.architecture is SDXL else "sd1"):
        raise ExportError(
            f"{model.path} is {model.architecture.name}, but the student was distilled from {student.teacher_file}"
        )
    tensors, expected, student = _tensors(file, student, to, guidance, model, DTYPES.get(dtype))
    folder, node = PLACES[to]
    title = f"{file.resolve().parents[1].name}-{file.stem}-{to}"
    title += "" if guidance is None else f"-cfg{guidance:g}"
    path = _path(file, out, title + ("" if dtype == "auto" else f"-{dtype}"))
    _require_replaceable(path, file, model.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    readable = partial(check, expected=expected, base=model.path)
    save_tensors(tensors, path, _metadata(student, to, path.stem), check=readable)
    notes = _notes(student, to, tensors, model)
    if base is not None and not has_fingerprint(base, student.teacher_sha256):
        notes.append(
            f"{base} is another file than {student.teacher_file}, which the student was distilled from: names and "
            "shapes agree, but whether it is the same model was not checked."
        )
    return Exported(path, student, f"models/{folder}", node, len(tensors), tuple(notes))


def _student_file(run: Path) -> tuple[Path, dict]:
    file, run = (run, run.resolve().parents[1]) if run.is_file() else (None, run)
    if not (run / "recipe.json").is_file():
        raise FileNotFoundError(f"{run} holds no run: it has no recipe.json; expected the folder of 'understudy train'")
    recipe = read_recipe(run)
    if file is not None:
        return file, recipe
    file, steps = run / "exports" / recipe["export"], recipe["loop"]["steps"]
    reached = Run(run).reached()
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: the run has not ended; continue it with --resume")
    if reached is not None and reached < steps:  # it had ended, and now goes on for longer
        raise ExportError(
            f"{run} has not ended: it is at step {reached} of {steps}; continue it with --resume, or name "
            f"{file} for what it was when it last ended"
        )
    return file, recipe


def _base(given: Path | None, recipe: dict, student: StudentFile) -> Base:
    if given is not None:
        return open_base(given)
    named = Path(recipe["teacher"]["path"])
    if not named.exists():
        raise FileNotFoundError(f"the teacher {named} is not there; say where it is with --base")
    if not has_fingerprint(named, student.teacher_sha256):
        raise ExportError(f"{named} is no longer what the student was distilled from; name the right one with --base")
    return open_base(named)


def _tensors(
    file: Path, student: StudentFile, to: str, guidance: float | None, base: Base, dtype: torch.dtype | None
) -> tuple[dict[str, torch.Tensor], dict[str, tuple[int, ...]], StudentFile]:
    """What the file is to hold, the shapes that the base asks for, and what the file is to say of itself."""
    from safetensors.torch import load_file

    weights = load_file(file)
    dtype = dtype or next(iter(weights.values())).dtype
    if guidance is not None and not takes_guidance(weights):
        raise ExportError("--guidance: this student does not take the guidance scale as an input; leave it out")
    if student.trained == "lora":
        if student.alpha is None:
            raise CheckpointError(f"{file}: its metadata lacks alpha")
        changes = lora_changes(read_lora(file), base.names, str(base.path))
        if to == "lora":
            return cast(kohya_tensors(changes, base.layers), dtype), kohya_shapes(changes, base.layers), student
        weights = merged(changes, base)
    elif to == "lora":
        raise ExportError("--to lora: the run trained all weights; export a unet or a checkpoint")
    elif takes_guidance(weights):
        weights, student = _folded(weights, student, guidance)
    if unknown := weights.keys() - base.names.keys():
        raise CheckpointError(f"{base.path} has no tensors {preview(unknown)} that the student has")
    prefix = UNET if to == "checkpoint" else ""
    tensors = cast({prefix + base.names[key]: value for key, value in weights.items()}, dtype)
    expected = {prefix + name: base.shapes[key] for key, name in base.names.items()}
    if to == "checkpoint":
        if not base.others:
            raise ExportError(
                f"--to checkpoint: {base.path} is a folder; name a checkpoint file of the same model with --base"
            )
        tensors |= base.other_weights()
        expected |= base.others
    markers = {ZERO_SNR} & base.others.keys()
    if student.prediction == "v_prediction" and student.base == "sdxl":
        markers |= {PREDICTS_V, ZERO_SNR} if student.terminal_snr else {PREDICTS_V}
    tensors |= {key: torch.zeros(0) for key in markers}
    return tensors, expected | dict.fromkeys(markers, (0,)), student


def merged(changes: Mapping[str, Change], base: Base) -> dict[str, torch.Tensor]:
    """The base UNet's weights, by diffusers' name, with a LoRA applied; changed ones in float32."""
    weights = base.unet()
    for module, change in changes.items():
        try:
            weights[f"{module}.weight"] = change.applied(weights[f"{module}.weight"])
        except ValueError as error:
            raise CheckpointError(f"the LoRA does not fit {base.path}: {module}: {error}") from error
    return weights


def _folded(
    weights: dict[str, torch.Tensor], student: StudentFile, guidance: float | None
) -> tuple[dict[str, torch.Tensor], StudentFile]:
    low, high = (None if w is None else w + 1 for w in (student.w_min, student.w_max))
    trained = "" if low is None or high is None else f"; it was trained with {low:g} to {high:g}"
    if guidance is None:
        raise ExportError(f"choose with --guidance the scale (cfg) that the student is to be fixed at{trained}")
    if trained and not low <= guidance <= high:
        raise ExportError(f"--guidance {guidance:g} is not what the student knows{trained}")
    return fold_guidance(weights, guidance), replace(student, guidance=1.0, folded_guidance=guidance)


def _path(file: Path, out: Path | None, title: str) -> Path:
    if out is None or out.is_dir():
        return (out or file.parent) / f"{title}.safetensors"
    if out.suffix != ".safetensors":
        raise ExportError(f"--out {out}: expected a .safetensors file or a folder that exists")
    return out


def _require_replaceable(path: Path, *sources: Path) -> None:
    """Raises FileExistsError unless ``path`` is free, or an earlier export that nothing here is read from."""
    if not path.exists():
        return
    try:
        replaceable = {METHOD, TITLE} <= read_header(path).metadata.keys()
    except CheckpointError:
        replaceable = False
    if not replaceable or any(path.samefile(source) for source in sources):
        raise FileExistsError(f"{path} is there already and would be lost; name another file with --out")


def _metadata(student: StudentFile, to: str, title: str) -> dict[str, str]:
    """Our own entries, the model specification's, and those by which A1111 knows which LoRAs fit a checkpoint."""
    architecture = {"sd1": "stable-diffusion-v1", "sdxl": "stable-diffusion-xl-v1-base"}[student.base]
    licence = f"a derivative of {student.teacher_file}; the teacher's licence applies to it"
    metadata = student.metadata() | {
        "licence": licence,
        "modelspec.sai_model_spec": "1.0.0",
        TITLE: title,
        "modelspec.architecture": architecture + ("/lora" if to == "lora" else ""),
        "modelspec.prediction_type": {"v_prediction": "v"}.get(student.prediction, student.prediction),
        "modelspec.license": licence,
    }
    return metadata | (lora_metadata(student.base, student.rank, student.alpha) if to == "lora" else {})


def _notes(student: StudentFile, to: str, tensors: Mapping[str, torch.Tensor], base: Base) -> list[str]:
    notes = []
    if to == "unet":
        notes.append("Text encoders and VAE come from the base checkpoint: Load Checkpoint, or Load CLIP and Load VAE.")
    marked = student.base == "sdxl" and PREDICTS_V in tensors.keys() | base.others.keys()
    if student.prediction != "epsilon" and not marked:
        what = "its base" if to == "lora" else "it"
        kind = {"v_prediction": "v_prediction", "sample": "x0"}[student.prediction]
        kind += " and zsnr" if student.terminal_snr else ""
        notes.append(f"ComfyUI takes {what} for a network that predicts eps: set {kind} in ModelSamplingDiscrete.")
    return notes
