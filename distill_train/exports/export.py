"""``understudy export``: a run in, one file for a stock loader out. What it may be is a file each in ``kinds``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ...files import CheckpointError, read_header, save_tensors
from ...files.student_file import METHOD, StudentFile, levels_text
from ...pipelines.folder_files import has_fingerprint
from ...predictor.file import ENTRY, KIND
from ..run.directory import Run, read_recipe
from ..students.written import cast, check
from ..teachers.architectures import ARCHITECTURES, HOSTED, Facts
from .base import PREDICTS_V, Base
from .choice import choose
from .guidance import fold_guidance, takes_guidance
from .halves import half, weights_of
from .hosted import HostedBase
from .kind import ExportError, Kind, Trained

TITLE, SUFFIX = "modelspec.title", ".safetensors"
_NEAR = ", at the timesteps of its training, to which that comes near"
# What of a preset's sampling no other node has.
_ONLY_HERE = {
    "LCM": _NEAR,
    "LCM-LoRA": _NEAR,
    "consistency": ", which no other node has",
    "codi": " at the timesteps of its training, which other nodes meet at 1 step only",
}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Exported:
    """A written and checked file, what it is, how many tensors it has, and what else to know."""

    path: Path
    student: StudentFile
    kind: Kind
    tensors: int
    notes: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The models folder that it belongs in."""
        return f"models/{self.kind.folder}"

    @property
    def node(self) -> str:
        """The stock node that loads it."""
        return self.kind.node

    def summary(self) -> str:
        """What to tell the user, a few lines."""
        student = self.student
        sampling = f"{student.steps} steps, cfg {student.guidance:g}, {student.sampler}, {student.scheduler}"
        only = _ONLY_HERE.get(student.preset, "")
        if student.sigmas is not None:
            only = f"; at the noise levels {levels_text(student.sigmas)}, to which {student.scheduler} comes near"
        fixed = "" if student.folded_guidance is None else f"; guidance {student.folded_guidance:g} is fixed in them"
        lines = [
            f"{self.path}: {self.tensors} tensors, each of a name and shape that {self.kind.against} has{fixed}",
            f"Copy it to {self.folder}; {self.node} loads it.",
            f"Student sampler samples it with settings_from this file: {sampling}{only}.",
        ]
        return "\n".join([*lines, *self.notes])


def export(
    run: Path,
    to: str | None = None,
    guidance: float | None = None,
    out: Path | None = None,
    base: Path | None = None,
    dtype: str = "auto",
    comfyui: Path | None = None,
) -> Exported:
    """Write a run's averaged weights as ``to``, the name of a kind; without it as what the run trained.

    run: its folder, or one of the files in the run's exports folder. guidance: the scale, as cfg, to fix in a student
    that takes it as an input. out: a file, or a folder for it; the run's exports folder without it. base: the model to
    check against, and to complete a checkpoint with; the recipe's teacher without it. dtype: "auto" is the run's own.
    comfyui: the folder of the ComfyUI that checks students of what it loads; the recipe's without it.
    A file that is there already is replaced only if it is an earlier export.
    Raises ExportError, CheckpointError, FileNotFoundError or FileExistsError.
    """
    from safetensors.torch import load_file

    file, recipe = _student_file(run)
    if read_header(file).metadata.get(ENTRY) == KIND:
        raise ExportError(
            f"{file} is a gradient predictor, which is used as it is, once it has a prior (sferd-prior): copy it to "
            "models/understudy_predictors, or name it as 'understudy generate --predictor'"
        )
    whole = StudentFile.read(file)
    if dtype not in ("auto", *DTYPES):
        raise ExportError(f"--dtype {dtype}: expected auto, {', '.join(DTYPES)}")
    told, title = recipe["teacher"], partial(_title, file)
    kind = choose(file, whole, HOSTED if told.get("comfy") else whole.base, to)
    student = half(whole, kind, lambda other: title(other) + SUFFIX)
    model = _base(base, told, student, kind, comfyui)
    if model.zero_snr:
        student = replace(student, terminal_snr="zero")
    if student.base != model.architecture.kind:
        raise ExportError(
            f"{model.path} is {model.architecture.name}, but the student was distilled from {student.teacher_file}"
        )
    trained = _folded(Trained(file, student, weights_of(student, whole, load_file(file)), model), guidance)
    made, student = kind.contents(trained), trained.student
    tensors = cast(made.tensors, DTYPES.get(dtype) or next(iter(trained.weights.values())).dtype) | {**made.kept}
    name = title(kind) + ("" if guidance is None else f"-cfg{guidance:g}")
    path = _path(file, out, name + ("" if dtype == "auto" else f"-{dtype}"))
    _require_replaceable(path, file, model.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    readable = partial(check, expected=made.expected, base=model.path)
    save_tensors(tensors, path, _metadata(student, kind, path.stem), check=readable)
    notes = [*made.notes, *_notes(student, kind, {*tensors, *model.others})]
    if base is not None and not has_fingerprint(base, student.teacher_sha256):
        notes.append(
            f"{base} is another file than {student.teacher_file}, which the student was distilled from: names and "
            "shapes agree, but whether it is the same model was not checked."
        )
    return Exported(path, student, kind, len(tensors), tuple(notes))


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


def _title(file: Path, kind: Kind) -> str:
    return f"{file.resolve().parents[1].name}-{file.stem}-{kind.name}"


def _base(given: Path | None, told: dict, student: StudentFile, kind: Kind, comfyui: Path | None) -> Base | HostedBase:
    if comfyui is None and told.get("comfyui"):
        comfyui = Path(told["comfyui"])
    if given is not None:
        return kind.open_base(given, comfyui)
    named = Path(told.get("comfy") or told["path"])
    if not named.exists():
        raise FileNotFoundError(f"the teacher {named} is not there; say where it is with --base")
    if not has_fingerprint(named, student.teacher_sha256):
        raise ExportError(f"{named} is no longer what the student was distilled from; name the right one with --base")
    return kind.open_base(named, comfyui)


def _folded(given: Trained, guidance: float | None) -> Trained:
    """The same without an input for the guidance scale, which is fixed."""
    student, weights = given.student, given.weights
    if not takes_guidance(weights):
        if guidance is not None:
            raise ExportError("--guidance: this student does not take the guidance scale as an input; leave it out")
        return given
    low, high = (None if w is None else w + 1 for w in (student.w_min, student.w_max))
    known = "" if low is None or high is None else f"; it was trained with {low:g} to {high:g}"
    if guidance is None:
        raise ExportError(f"choose with --guidance the scale (cfg) that the student is to be fixed at{known}")
    if known and not low <= guidance <= high:
        raise ExportError(f"--guidance {guidance:g} is not what the student knows{known}")
    student = replace(student, guidance=1.0, folded_guidance=guidance)
    return replace(given, student=student, weights=fold_guidance(weights, guidance))


def _path(file: Path, out: Path | None, title: str) -> Path:
    if out is None or out.is_dir():
        return (out or file.parent) / f"{title}{SUFFIX}"
    if out.suffix != SUFFIX:
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


def _metadata(student: StudentFile, kind: Kind, title: str) -> Mapping[str, str]:
    """Our own entries, the model specification's, and those that the kind has beside them."""
    licence = f"a derivative of {student.teacher_file}; the teacher's licence applies to it"
    return {
        **student.metadata(),
        "licence": licence,
        "modelspec.sai_model_spec": "1.0.0",
        TITLE: title,
        "modelspec.architecture": (_facts(student).modelspec or student.base.lower()) + kind.modelspec,
        "modelspec.prediction_type": {"v_prediction": "v"}.get(student.prediction, student.prediction),
        "modelspec.license": licence,
        **kind.metadata(student),
    }


def _facts(student: StudentFile) -> Facts:
    return ARCHITECTURES.get(student.base, ARCHITECTURES[HOSTED])


def _notes(student: StudentFile, kind: Kind, keys: Iterable[str]) -> list[str]:
    """keys: of the file and of its base."""
    notes = list(kind.notes(student))
    if student.companion is not None:
        notes.append(f"It is one half of the student: the other is {student.companion}; export and load both.")
    marked = _facts(student).says_prediction and PREDICTS_V in keys
    if student.prediction != "epsilon" and not marked and student.base in ARCHITECTURES:
        what = "its base" if kind.completes else "it"
        prediction = {"v_prediction": "v_prediction", "sample": "x0"}[student.prediction]
        prediction += " and zsnr" if student.terminal_snr else ""
        notes.append(
            f"ComfyUI takes {what} for a network that predicts eps: set {prediction} in ModelSamplingDiscrete."
        )
    return notes
