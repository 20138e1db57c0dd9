"""Students of a demo teacher in flow time, beside the shipped student of timesteps, on 2,000 paired scenes.

    python bench/flow_students.py                    # less than three hours on two cores; goes on if it is cut off
    python bench/flow_students.py --only pd dmd-4    # these students alone, from the same teacher
    python bench/flow_students.py --look --work look --out look.json    # a minute: trainings of a few steps, 50 scenes

The teacher is made by recipes/demo-flow-teacher.toml. From it, one seed each: ``pd`` in 4, 2 and 1 Euler steps; ``cd``,
whose students keep their guidance, so that each step is two passes of the network; ``dmd`` once each for 4, 2 and 1
steps. Scenes, of the calibration split, and starting noise are those of every row; what counts is the checker's word,
at as many passes as the shipped student has, 1, 2 or 4. Intervals are 95 %, over scenes: they do not say how much
another training would differ. A row is written as soon as it is measured, and rows that are not asked for stay; what is
there already is trained and measured no second time.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from demo_student import CFG, RESULTS, SEED, interval
from rich.console import Console
from rich.table import Table
from sferd_scenes import exact, remembered
from torch import nn
from understudy.demo_family import family
from understudy.distill_train.config import Recipe, load_recipe
from understudy.distill_train.data.randomness import generator
from understudy.distill_train.demo.scenes import draw_scenes
from understudy.distill_train.methods import make_method
from understudy.distill_train.run.command import RECIPES
from understudy.distill_train.run.directory import Run
from understudy.distill_train.run.loop import train
from understudy.files import write_whole

CPU = torch.device("cpu")
SHIPPED = "shipped student"
COMMON = (
    *("data.kind=scenes", "student.dtype=fp32", "seed=3", f"settings.cfg={CFG}", f"samples.teacher_cfg={CFG}"),
    *("loop.batch_size=64", "loop.accumulate=1", "loop.lr=3e-4", "loop.warmup=50", "loop.decay=wsd"),
    *("loop.betas=[0.9, 0.99]", "loop.weight_decay=0.0", "loop.optimizer=adamw", "loop.precision=fp32"),
    *("loop.grad_clip=1.0", "loop.checkpointing=false", "loop.checkpoint_every=25", "loop.tracker=none"),
)
LOOK = ("loop.steps=12", "loop.batch_size=4", "loop.warmup=0")


@dataclass(frozen=True)
class Plan:
    """A training: its recipe, optimizer steps, what else it is told; and the steps that its students are sampled in."""

    recipe: str
    length: int
    changes: tuple[str, ...]
    sampled: tuple[int, ...]


PLANS = {
    "pd": Plan("pd", 900, ("loop.ema=0.0", "settings.teacher_steps=8"), (4, 2, 1)),
    "cd": Plan("cd", 900, ("loop.ema=0.999", "settings.loss=huber"), (4, 2, 1)),
    **{f"dmd-{n}": Plan("dmd", 200, ("loop.ema=0.99", f"settings.student_steps={n}"), (n,)) for n in (4, 2, 1)},
}


class Students:
    """What each row samples by; networks are trained in ``work`` or read from there."""

    def __init__(self, work: Path, look: bool):
        self.work, self.look = work, look

    def teacher(self) -> Path:
        """The flow teacher's file."""
        changes = (*LOOK, "settings.pictures=64", "settings.measured=8") if self.look else ()
        return self.trained("teacher", load_recipe(RECIPES / "demo-flow-teacher.toml", changes))

    def trained(self, name: str, recipe: Recipe) -> Path:
        """The file that a training leaves; one that was begun goes on."""
        directory = self.work / name
        file = directory / "exports" / recipe.export
        if not file.exists():
            train(recipe, directory, resume=Run(directory).reached() is not None, device="cpu")
        return file

    def of(self, name: str) -> dict[int, Callable]:
        """``(noise, given, steps) -> latents`` of a plan's students, by the steps that they are sampled in."""
        plan = PLANS[name]
        pictures = load_recipe(RECIPES / "demo-flow-teacher.toml").settings["pictures"]  # encoded already
        changes = COMMON + plan.changes + (LOOK if self.look else (f"loop.steps={plan.length}",))
        changes += f"teacher.path={self.teacher()}", f"data.pictures={64 if self.look else pictures}"
        changes += ("loop.sample_every=500",)
        recipe = load_recipe(RECIPES / f"{plan.recipe}.toml", changes)
        last = self.trained(name, recipe)
        method = make_method(recipe, CPU)
        draws = {}
        for steps in plan.sampled:
            stage = last.with_stem(f"{last.stem}-{steps}-step")  # of a student on the way
            draws[steps] = partial(method.sample, network_in(stage if stage.exists() else last))
        return draws

    def shipped(self) -> Callable:
        recipe = load_recipe(RECIPES / "cd.toml", ("teacher.path=demo", "data.kind=scenes", "loop.precision=fp32"))
        student, preview = network_in(family.FOLDER / "student.safetensors"), make_method(recipe, CPU).preview
        return lambda noise, given, steps: preview.consistency(student, noise, given, steps, 50)

    def teaching(self) -> Callable:
        """The flow teacher under guidance, by DPM-Solver++ 2M."""
        changes = f"teacher.path={self.teacher()}", "data.kind=scenes", f"samples.teacher_cfg={CFG}"
        method = make_method(load_recipe(RECIPES / "pd.toml", (*changes, "loop.precision=fp32")), CPU)
        return partial(method.preview.dpmpp, method.teacher.unet)


def network_in(path: Path) -> nn.Module:
    return family.load_network(path).eval().requires_grad_(False)


def passes(name: str, steps: int) -> int:
    """Of the network for one picture; under guidance each step is two."""
    return steps * (2 if name in ("teacher", "cd") else 1)


def written(path: Path, settings: dict, row: dict) -> list[dict]:
    """The report's rows with one more, or in the place of the same of an earlier run. Exits for other settings."""
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"settings": settings, "rows": []}
    if report["settings"] != settings:
        raise SystemExit(f"{path} has rows of other settings, {report['settings']}; name another file with --out")
    same = [at for at, old in enumerate(report["rows"]) if (old["name"], old["steps"]) == (row["name"], row["steps"])]
    report["rows"][slice(same[0], same[0] + 1) if same else slice(len(report["rows"]), None)] = [row]
    write_whole(path, json.dumps(report, indent=1) + "\n")
    return report["rows"]


def table(rows: list[dict]) -> Table:
    shown = Table("", "steps", "passes", "exact", "less the shipped student at as many passes")
    for row in rows:
        cells = [row["name"], str(row["steps"]), str(row["passes"])]
        cells.append("{:.1%} ({:.1%} to {:.1%})".format(*row["exact"]))
        cells.append("{:+.1%} ({:+.1%} to {:+.1%})".format(*row["less_shipped"]) if "less_shipped" in row else "")
        shown.add_row(*cells)
    return shown


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PLANS, default=list(PLANS), help="students to train and measure")
    parser.add_argument("--n", type=int, default=2000, help="scenes")
    parser.add_argument("--look", action="store_true", help="trainings of a few steps, on few scenes")
    parser.add_argument("--work", type=Path, default=Path("runs/flow"), help="networks and answers are kept here")
    parser.add_argument("--out", type=Path, default=RESULTS / "flow_students.json")
    options = parser.parse_args()
    count = 50 if options.look else options.n
    settings = {"n": count, "look": options.look, "cfg": CFG, "steps": {name: p.length for name, p in PLANS.items()}}
    students = Students(options.work, options.look)
    scenes = draw_scenes(count, generator(SEED, "scenes"), split="calibration")
    seen: dict[int, torch.Tensor] = {}  # of the shipped student, by its passes
    rows: list[dict] = []

    def measure(name: str, draw: Callable, steps: int) -> None:
        path = options.work / "exact" / f"{name.replace(' ', '-')}-{steps}-of-{count}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        found = torch.tensor(remembered(path, partial(exact, draw, scenes, steps)), dtype=torch.float64)
        row = {"name": name, "steps": steps, "passes": passes(name, steps), "exact": interval(found)}
        if name == SHIPPED:
            seen[steps] = found
        elif row["passes"] in seen:
            row["less_shipped"] = interval(found - seen[row["passes"]])
        rows[:] = written(options.out, settings, row)

    for steps in (1, 2, 4):
        measure(SHIPPED, students.shipped(), steps)
    for steps in (4, 16):
        measure("teacher", students.teaching(), steps)
    for name in options.only:
        for steps, draw in students.of(name).items():
            measure(name, draw, steps)
    Console().print(table(rows))


if __name__ == "__main__":
    main()
