"""Does SFERD help progressive distillation? Fashion-MNIST, PD's students without it, with one half of it, with both.

    python bench/sferd.py                     # goes on if it is cut off
    python bench/sferd.py --seeds 1 --steps 60 --beside 20 --n 500 --out look.json

Four arms from one teacher, 8 to 4 to 2 to 1 DDIM steps by ``pd``: none; attention, where the teacher is guided by its
own attention (w = 0.3); predictor, a gradient predictor and its prior trained beside the finished student of "none";
and both. Teacher, data, measuring classifier and figures are those of bench/distill.py, but for the pixels' places:
latents are its network's patches, 16 x 8 x 8. Arms are paired: seed for seed they have the same draws in training and
the same noise in the measurement, so what counts is the difference from "none". Intervals are 95 %, over seeds; of a
single one over groups of pictures, as if arms were not paired, and so rather too wide. The teacher's attention is over
4 x 4 places: expect little.
Rows are kept in the work folder; writes bench/results/sferd.json.
"""

import argparse
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from distill import CHAIN, GROUPS, PLANS, ROOT, TEACHER_STEPS, Stage, ddim, remembered
from distill_models import PATCH, PixelTeacher
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from understudy.distill_train.config import AttentionSettings, Recipe
from understudy.distill_train.demo.scenes import LatentSet
from understudy.distill_train.demo.source import SceneSource
from understudy.distill_train.methods import make_method
from understudy.distill_train.run.loop import train
from understudy.files import write_whole

ATTENTION = AttentionSettings(weight=0.3)
ARMS = {"none": (None, False), "attention": (ATTENTION, False), "predictor": (None, True), "both": (ATTENTION, True)}
FIGURES = ("frechet", "accuracy")


class PatchTeacher(PixelTeacher):
    """The same network, its latents [B, 16 C, 8, 8] being what it sees, so that they have its features' places."""

    factor = PATCH

    def __init__(self, network, words):
        super().__init__(network, words)
        self.latent_channels *= PATCH**2

    def encode(self, pixels, generator=None):
        return F.pixel_unshuffle(super().encode(pixels), PATCH)

    def decode(self, latents, clamp=True):
        return super().decode(F.pixel_shuffle(latents, PATCH), clamp)

    def call(self, unet, noisy, t, embeddings):
        return F.pixel_unshuffle(super().call(unet, F.pixel_shuffle(noisy, PATCH), t, embeddings), PATCH)


class Arms(Stage):
    """The Fashion-MNIST of bench/distill.py; a method is the name of an arm."""

    def __init__(self, *given):
        super().__init__(*given)
        self.teacher = PatchTeacher(self.teacher.unet, self.teacher.words)
        self.data = LatentSet(F.pixel_unshuffle(self.data.latents, PATCH), self.data.tokens)

    def recipe(self, method: str, seed: int, steps: int) -> Recipe:
        return super().recipe("pd", seed, steps).model_copy(update={"attention": ARMS[method][0]})

    def make(self, method: str, recipe: Recipe, device: torch.device):
        return make_method(recipe, device, teacher=self.teacher, source=SceneSource(self.data, recipe.seed))

    def beside(self, arm: str, name: str, seed: int, steps: int, student: Path, intervals: int, **files) -> tuple:
        """A stage of SFERD beside a finished student: the method, and the file that it leaves."""
        folder = student.parents[1] / f"{name}-{steps}-beside-{intervals}"
        settings = {"statistics": 2048}
        if name == "sferd-predictor":
            settings = {"cfg": 1.0, "rule": "closed-form", "intervals": intervals}
        base = self.recipe(arm, seed, steps)
        recipe = base.model_copy(
            update={
                "method": name,
                "student": base.student.model_copy(
                    update={"train": name.removeprefix("sferd-"), "file": student, "dtype": "fp32", **files}
                ),
                "settings": settings,
                "attention": base.attention if name == "sferd-predictor" else None,  # a prior asks no teacher
            }
        )
        file = folder / "exports" / recipe.export
        make = partial(self.make, arm)
        if not file.exists():
            train(recipe, folder, resume=(folder / "recipe.json").exists(), device="cpu", make=make)
        return make(recipe, torch.device("cpu")), file

    def drawing(self, arm: str, seed: int, steps: int, beside: int) -> dict[int, Callable]:
        """``(noise, given) -> latents`` of the arm's student of each number of steps."""
        trained_as = "none" if ARMS[arm][0] is None else "attention"
        made, files = self.students(trained_as, seed, steps)
        draws = {}
        for count, file in files.items():
            if ARMS[arm][1]:
                _, predictor = self.beside(arm, "sferd-predictor", seed, beside, file, count)
                prior, whole = self.beside(arm, "sferd-prior", seed, beside, file, count, predictor=predictor)
                prior.student.predictor.load_state_dict(load_file(whole))
                draws[count] = partial(moved, prior, count)
            else:
                weights = load_file(file)
                draws[count] = partial(plain, made, weights, count)
        return draws


def plain(method, weights, steps: int, noise, given):
    method.network.load_state_dict(weights)
    return ddim(method, method.network, steps)(noise, given)


def moved(prior, steps: int, noise, given):
    return prior.sample(prior.network, noise, given, steps)


def measured(stage: Arms, options) -> list[dict]:
    """A row for each arm, seed and number of steps, the seeds one after the other."""
    rows = []
    for seed in range(options.seeds):
        for arm in ARMS:
            for count, draw in stage.drawing(arm, seed, options.steps, options.beside).items():
                path = stage.work / f"sferd-{arm}-{options.steps}-{options.beside}-{seed}-{count}-of-{options.n}.json"
                found = remembered(path, partial(stage.figures, draw, seed, options.n))
                rows.append({"arm": arm, "seed": seed, "steps": count, **{f: found[f] for f in FIGURES}})
                report(rows, options)
    return rows


def report(rows: list[dict], options) -> list[dict]:
    """Means, and differences from "none" with their intervals, of the seeds that an arm has; written at once."""
    table = []
    for arm in ARMS:
        for count in CHAIN:
            mine = {r["seed"]: r for r in rows if r["arm"] == arm and r["steps"] == count}
            if not mine:
                continue
            plainly = {r["seed"]: r for r in rows if r["arm"] == "none" and r["steps"] == count}
            made = {"arm": arm, "steps": count, "seeds": len(mine)}
            for figure in FIGURES:
                made[figure] = sum(r[figure][0] for r in mine.values()) / len(mine)
                if arm != "none":
                    made[f"{figure}_difference"] = difference([(mine[s][figure], plainly[s][figure]) for s in mine])
            table.append(made)
    settings = {"steps": options.steps, "beside": options.beside, "n": options.n, "teacher_steps": TEACHER_STEPS}
    write_whole(options.out, json.dumps({"settings": settings, "arms": table, "rows": rows}, indent=1) + "\n")
    return table


def difference(pairs: list[tuple]) -> list[float]:
    """The mean of one less the other, and its 95 % interval; of (value, standard error over pictures) for each seed."""
    from scipy.stats import t

    values = [one[0] - other[0] for one, other in pairs]
    mean, count = sum(values) / len(values), len(values)
    if count > 1:
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1) / count)
    else:
        (one, other), count = pairs[0], GROUPS
        spread = math.hypot(one[1], other[1])
    half = spread * float(t.ppf(0.975, count - 1))
    return [mean, mean - half, mean + half]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400, help="optimizer steps of each run of three stages")
    parser.add_argument("--beside", type=int, default=200, help="of a predictor, and of its prior")
    parser.add_argument("--n", type=int, default=2000, help="pictures behind each figure")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "distill", help="trained networks are kept here")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "sferd.json")
    options = parser.parse_args()
    rows = measured(Arms("fashion", options.work, PLANS["fashion"].teacher_steps), options)
    shown = Table("arm", "steps", "seeds", "Fréchet distance", "less none", "accuracy", "less none")
    for made in report(rows, options):
        cells = [made["arm"], str(made["steps"]), str(made["seeds"])]
        for figure in FIGURES:
            cells += [f"{made[figure]:.3g}", written(made.get(f"{figure}_difference"))]
        shown.add_row(*cells)
    Console().print(shown)


def written(difference) -> str:
    return "" if difference is None else "{:+.3g} ({:+.3g} to {:+.3g})".format(*difference)


if __name__ == "__main__":
    main()
