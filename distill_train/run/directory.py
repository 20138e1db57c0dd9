"""A run is a directory: recipe, checkpoints, log, samples, exports. Every file is written whole or not at all."""

import json
import math
import os
import shutil
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from ...files import write_whole
from ..config import Recipe, RecipeError, validated
from ..methods import method_classes

# What may be changed when a run goes on, as no step that was taken would have been another. Where teacher and data lie
# is among it, since checkpoints know them by their content.
CHANGEABLE = (
    *(f"loop.{key}" for key in ("lr", "grad_clip", "log_every", "sample_every", "checkpoint_every")),
    *("loop.keep_checkpoints", "loop.tracker", "loop.memory_gib", "samples.*", "student.dtype", "student.control"),
    *("teacher.path", "teacher.comfy", "teacher.comfyui", "data.path", "data.captions", "data.filter.oracle"),
)
FOUND = ("accumulate", "checkpointing")  # of [loop]: where a recipe says "auto", a run's own says what was found


class Run:
    """The directory of one training."""

    def __init__(self, directory: Path):
        self.directory = directory

    @classmethod
    def start(cls, directory: Path, recipe: Recipe) -> "Run":
        """A new run. Raises RecipeError if the directory already holds one."""
        cls.require_new(directory)
        run = cls(directory)
        for folder in ("checkpoints", "samples", "exports"):
            (directory / folder).mkdir(parents=True, exist_ok=True)
        run.write_recipe(recipe)
        return run

    @staticmethod
    def require_new(directory: Path) -> None:
        """Raises RecipeError if the directory already holds a run."""
        if (directory / "recipe.json").exists():
            raise RecipeError(f"{directory} already holds a run; continue it with --resume or choose another --out")

    @classmethod
    def resume(cls, directory: Path, recipe: Recipe) -> "Run":
        """An existing run of the same recipe but for what may be changed.

        Raises RecipeError if there is none, or its recipe differs in more.
        """
        before, now = (_flat(json.loads(r.model_dump_json())) for r in (cls.own_recipe(directory), recipe))
        allowed = changeable(recipe)
        different = [key for key in before | now if before.get(key) != now.get(key)]
        if refused := [key for key in different if not any(fnmatch(key, pattern) for pattern in allowed)]:
            listed = ", ".join(f"{key} ({before.get(key)!r}, now {now.get(key)!r})" for key in refused)
            raise RecipeError(
                f"{directory} was started with another recipe; these differ: {listed}. What may differ is "
                f"{', '.join(allowed)}"
            )
        return cls(directory)

    @staticmethod
    def own_recipe(directory: Path, changes: tuple[str, ...] = ()) -> Recipe:
        """What the run in ``directory`` is made by, with ``changes`` such as "loop.lr=1e-5" made to it.

        Keys that the pack has learned since have their defaults. Raises RecipeError if there is no run.
        """
        path = directory / "recipe.json"
        if not path.exists():
            raise RecipeError(f"{directory} holds no run to resume; leave --resume out to start one")
        return validated(path, read_recipe(directory), changes)

    @classmethod
    def with_found(cls, directory: Path, recipe: Recipe) -> Recipe:
        """The recipe with what the run in ``directory`` found in the place of each "auto". Raises RecipeError."""
        own = cls.own_recipe(directory).loop
        found = {key: getattr(own, key) for key in FOUND if getattr(recipe.loop, key) == "auto"}
        return recipe.model_copy(update={"loop": recipe.loop.model_copy(update=found)})

    def write_recipe(self, recipe: Recipe) -> None:
        """Put down what the run is now made by."""
        write_whole(self.directory / "recipe.json", recipe.model_dump_json(indent=2))

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append one line of JSON to log.jsonl; what is no number, like the norm of an overflow, is null there."""
        entry = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
        with open(self.directory / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def checkpoints(self) -> list[Path]:
        """Checkpoint files, oldest first."""
        return sorted((self.directory / "checkpoints").glob("step-*.pt"))

    def reached(self) -> int | None:
        """The step of the newest checkpoint, None where there is none."""
        checkpoints = self.checkpoints()
        return int(checkpoints[-1].stem.removeprefix("step-")) if checkpoints else None

    def save_checkpoint(self, step: int, state: Mapping[str, Any], keep: int) -> None:
        """Write a checkpoint and drop all but the newest ``keep``."""
        path = self.directory / "checkpoints" / f"step-{step:08d}.pt"
        partial = path.with_suffix(".partial")
        try:
            with open(partial, "wb") as file:
                torch.save(dict(state), file)
                file.flush()
                os.fsync(file.fileno())  # a power cut must not leave a name without its content
            os.replace(partial, path)
        except (OSError, RuntimeError) as error:  # torch's archive turns the former into the latter
            partial.unlink(missing_ok=True)
            free = shutil.disk_usage(self.directory).free / 2**30
            raise OSError(
                f"{path} cannot be written: {error.__context__ or error}; {free:.3g} GiB are free there. Make room, "
                "and go on from the checkpoint before with --resume"
            ) from error
        for old in self.checkpoints()[:-keep]:
            old.unlink()

    def load_checkpoint(self, truncate_log: bool = True) -> dict[str, Any] | None:
        """The newest checkpoint, or None; what was logged after it is cut off the log, unless another process does.

        What was being written when the run died goes, too.
        """
        checkpoints = self.checkpoints()
        state = torch.load(checkpoints[-1], map_location="cpu", weights_only=True) if checkpoints else None
        log = self.directory / "log.jsonl"
        for cut_off in self.directory.glob("*/*.partial") if truncate_log else ():
            cut_off.unlink()
        if truncate_log and log.exists():
            # A line that was being written when the process died ends in no line break.
            lines = [line for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
            reached = state["step"] if state else 0
            write_whole(log, "".join(line for line in lines if json.loads(line)["step"] <= reached))
        return state


def read_recipe(directory: Path) -> dict[str, Any]:
    """What recipe.json of a run says, not validated. Raises RecipeError if it is not JSON."""
    path = directory / "recipe.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecipeError(f"{path} cannot be read: {error}; the run needs the file that it was started with") from error


def changeable(recipe: Recipe) -> tuple[str, ...]:
    """Keys, or patterns of them, in which a run's recipe may become this one."""
    method = method_classes().get(recipe.method)
    more = recipe.loop.decay == "constant" and method is not None and method.open_ended
    return (*CHANGEABLE, "loop.steps") if more else CHANGEABLE


def _flat(recipe: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"loop": {"lr": 1}} -> {"loop.lr": 1}"""
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {above + key: value}
    return flat


def publish(path: Path, directory: Path) -> Path:
    """Copy an export to ``directory``, whole or not at all; returns the new path."""
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / (path.name + ".partial")
    shutil.copyfile(path, partial)
    os.replace(partial, directory / path.name)
    return directory / path.name
