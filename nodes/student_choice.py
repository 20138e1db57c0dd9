"""Which row of the table a student is sampled by, as its user or its files say."""

from __future__ import annotations

from typing import NamedTuple

from ..files.student_file import is_student
from ..oracles.calibration_names import NONE
from ..samplers.presets import STUDENTS, Student, of_file, refusal
from .folders import model_file, student_path
from .presets import classes, offered, patch_kept, row_of_file
from .upstream import graph_of, host_options
from .upstream_files import ModelFile, Upstream, model_files

AUTO = "auto"


class Choice(NamedTuple):
    """A row, the steps and the cfg to sample it with, and what to say on the node."""

    row: Student
    steps: int
    cfg: float
    said: list[str]


def choose(
    hidden, model, cells: tuple[int, int], preset: str, steps: int, cfg: float, settings_from: str = NONE
) -> Choice:
    """The row of a preset, of a student's own file or, with ``auto``, of the files that the graph makes `model` from.

    A student's own file brings its steps and cfg. cells: height and width of the latents.
    Raises ValueError where nothing or more than one family fits, and for a family that cannot be sampled here.
    """
    names, asked = classes(model), (steps, cfg)
    if settings_from != NONE:
        row, steps, cfg = row_of_file(student_path(settings_from), names)
        said = _as_a_file_says("settings_from", settings_from, (steps, cfg), asked)
    else:
        upstream = model_files(graph_of(hidden), hidden.unique_id, "model", model_file, host_options)
        if preset != AUTO:
            row = STUDENTS[preset]
            file = next((each for each in upstream.files if row.match(each.name)), None)
            row = row if file is None else row.as_in(file.name)
            said = [*_refusals(row, upstream), *row.objections(steps, cfg)]
        else:
            row, file = by_files(upstream, names)
            beside = _beside(row, file, upstream, names)
            if _is_own(file):
                row, steps, cfg = row_of_file(file.path, names)
                said = [*_as_a_file_says(AUTO, file, (steps, cfg), asked), *beside]
            else:
                row = row.as_in(file.name)
                chosen = f"auto: {row.key}, by {file}; usually {row.steps} steps at cfg {row.cfg:g}."
                said = [chosen, *beside, *row.objections(steps, cfg)]
    kept = patch_kept(row, model, cells)
    return Choice(row, steps, cfg, [*said, kept] if kept else said)


def by_files(upstream: Upstream, names: list[str]) -> tuple[Student, ModelFile]:
    """The one family that files are of, and the nearest file of it. names: of the model's class, its own first.

    Raises ValueError, which says what was seen and which presets there are for the model's class.
    """
    fitting = [key for key in offered() if not STUDENTS[key].architectures or {*STUDENTS[key].architectures} & {*names}]
    choose_one = f"Choose the preset yourself; for {names[0]} there are {', '.join(fitting)}."
    if upstream.undecided:
        raise ValueError(
            f"preset auto: {' and '.join(upstream.undecided)} is known only when the graph runs. {choose_one}"
        )
    found: dict[str, tuple[Student, ModelFile]] = {}
    for file in upstream.files:
        row = _row_of(file, names)
        if row is not None:
            found.setdefault(row.key, (row, file))
    if not found:
        seen = "; ".join(map(str, upstream.files)) or "no file at all"
        raise ValueError(
            f"preset auto: no file that the model is made from is a student's by its name. Seen: {seen}. {choose_one}"
        )
    if len(found) > 1:
        several = " and ".join(f"{key} by {file}" for key, (_, file) in found.items())
        raise ValueError(f"preset auto: the model is made from students of several presets, {several}. {choose_one}")
    ((row, file),) = found.values()
    if row.architectures and not {*row.architectures} & {*names}:
        raise ValueError(
            f"preset auto: {file} is called as those of {row.key}, which load as {' or '.join(row.architectures)}, but "
            f"this model is {names[0]}. {choose_one}"
        )
    return row, file


def _as_a_file_says(why: str, file, own: tuple[int, float], asked: tuple[int, float]) -> list[str]:
    """What to say where a student's own file brings its steps and cfg."""
    said = ["{}: as {} says, {} steps at cfg {:g}.".format(why, file, *own)]
    if own != asked:
        said.append("The {} steps at cfg {:g} that are set here are not used: choose a preset for them.".format(*asked))
    return said


def _refusals(row: Student, upstream: Upstream) -> list[str]:
    """What to say where a preset is chosen although a file is by its name of those that cannot be sampled."""
    found = filter(None, (refusal(file.name) for file in upstream.files))
    return [f"{row.key} is as you chose, but {why}" for why in found]


def _beside(row: Student, chosen: ModelFile, upstream: Upstream, names: list[str]) -> list[str]:
    """What to say where files are of the chosen one's family, too."""
    rows = ((file, _row_of(file, names)) for file in upstream.files if file.name != chosen.name)
    others = [str(file) for file, other in rows if other is not None and other.key == row.key]
    if not others:
        return []
    verb = "is" if len(others) == 1 else "are"
    return [
        f"{' and '.join(others)} {verb} of {row.key}, too: a model is made for one of them, so take off the others."
    ]


def _row_of(file: ModelFile, names: list[str]) -> Student | None:
    if file.part is not None:
        return STUDENTS["demo"] if file.part == "student" else None
    if _is_own(file):
        return row_of_file(file.path, names)[0]
    row = of_file(file.name)
    return None if row is not None and file.lora and not row.lora else row


def _is_own(file: ModelFile) -> bool:
    """Whether it is a student's own file, which says how it is sampled."""
    return file.path is not None and is_student(file.path)
