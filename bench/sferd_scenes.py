"""Does SFERD help on the scenes? Attention guidance for `cd`, and a predictor for the demo family's own student.

    python bench/sferd_scenes.py             # goes on if it is cut off; writes bench/results/sferd_scenes.json
    python bench/sferd_scenes.py --steps 20 --n 50 --work look --out look.json

Four students of the demo teacher: `cd` without and with its teacher's attention as guidance (w = 0.3), 400 steps of 64
scenes each, and the demo family's own without and with a gradient predictor (200 steps, and 200 of its prior, of which
z comes as at inference). All are sampled by the trainer's own sampler of consistency students; scene i starts from the
same noise for all. The scenes are of the calibration split, which no network was trained on. Intervals are 95 %, over
the scenes: with one training of each they say nothing about other seeds. The teacher's attention is over 4 x 4 places:
expect little.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from demo_student import BATCH, CFG, RESULTS, SEED, interval
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from understudy.demo_family import checker, family
from understudy.distill_train.config import load_recipe
from understudy.distill_train.data.randomness import generator
from understudy.distill_train.demo.scenes import draw_scenes, tokens_for
from understudy.distill_train.methods import make_method
from understudy.distill_train.run.command import RECIPES
from understudy.distill_train.run.directory import Run
from understudy.distill_train.run.loop import train
from understudy.files import write_whole

STEPS = (1, 2, 4)
STUDENT = family.FOLDER / "student.safetensors"
CHANGES = (
    *("teacher.path=demo", "data.kind=scenes", "student.dtype=fp32", "seed=3"),
    *("loop.batch_size=64", "loop.accumulate=1", "loop.lr=3e-4", "loop.warmup=50", "loop.decay=wsd", "loop.ema=0.99"),
    *("loop.betas=[0.9, 0.99]", "loop.optimizer=adamw", "loop.precision=fp32", "loop.checkpointing=false"),
    "loop.checkpoint_every=50",
)
PAIRS = {"attention": "cd", "predictor": "own"}  # an arm, and what it is compared with


class Arms:
    """What each arm samples by; networks are trained in ``work`` or read from there."""

    def __init__(self, work: Path, steps: int, beside: int):
        self.work, self.steps, self.beside = work, steps, beside

    def trained(self, name: str, recipe: str, steps: int, *changes: str) -> tuple:
        """A method and the file that its training leaves."""
        directory = self.work / f"sferd-{name}-{steps}"
        length = f"loop.steps={steps}", f"loop.sample_every={steps}"
        recipe = load_recipe(RECIPES / f"{recipe}.toml", (*CHANGES, *length, *changes))
        file = directory / "exports" / recipe.export
        if not file.exists():
            train(recipe, directory, resume=Run(directory).reached() is not None, device="cpu")
        return recipe, file

    def draw(self, arm: str) -> Callable:
        """``(noise, given, steps) -> latents``."""
        if arm in ("cd", "attention"):
            more = ("attention.weight=0.3",) if arm == "attention" else ()
            recipe, file = self.trained(arm, "cd", self.steps, f"settings.cfg={CFG}", *more)
            method = make_method(recipe, torch.device("cpu"))
            method.network.load_state_dict(load_file(file))
            return partial(method.sample, method.network.eval())
        student = f"student.file={STUDENT}"
        _, predictor = self.trained("predictor", "sferd-predictor", self.beside, student, f"settings.cfg={CFG}")
        recipe, whole = self.trained("prior", "sferd-prior", self.beside, student, f"student.predictor={predictor}")
        method = make_method(recipe, torch.device("cpu"))
        method.student.predictor.load_state_dict(load_file(whole))
        if arm == "predictor":
            return partial(method.sample, method.network)

        def plain(noise, given, steps):
            grid = method.intervals, method.spacing
            return method.preview.consistency(method.base, noise, given, steps, *grid, method.own_cfg)

        return plain


@torch.no_grad()
def exact(draw: Callable, scenes: list, steps: int) -> list[float]:
    """Whether the checker finds the picture of each scene exact."""
    vae = family.load_autoencoder(family.FOLDER / "vae.safetensors").eval()
    found, shape = [], (family.LATENT_CHANNELS, *[family.LATENT_SIDE] * 2)
    for start in range(0, len(scenes), BATCH):
        part = scenes[start : start + BATCH]
        places = range(start, start + len(part))
        noise = torch.stack([torch.randn(shape, generator=generator(SEED, "noise", place)) for place in places])
        found += checker.exact(family.decode(vae, draw(noise, {"tokens": tokens_for(part)}, steps)), part)
    return [float(one) for one in found]


def remembered(path: Path, measure: Callable[[], list[float]]) -> list[float]:
    if not path.exists():
        write_whole(path, json.dumps(measure()))
    return json.loads(path.read_text(encoding="utf-8"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="of each run of cd")
    parser.add_argument("--beside", type=int, default=200, help="of a predictor, and of its prior")
    parser.add_argument("--n", type=int, default=2000, help="scenes")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="networks are kept here")
    parser.add_argument("--out", type=Path, default=RESULTS / "sferd_scenes.json")
    options = parser.parse_args()
    arms = Arms(options.work, options.steps, options.beside)
    scenes = draw_scenes(options.n, generator(SEED, "scenes"), split="calibration")
    seen, rows = {}, []
    shown = Table("arm", "steps", "exact", "less the plain one")
    for arm in ("own", "predictor", "cd", "attention"):
        draw = arms.draw(arm)
        for steps in STEPS:
            path = options.work / f"sferd-exact-{arm}-{options.steps}-{options.beside}-{steps}-of-{options.n}.json"
            found = torch.tensor(remembered(path, partial(exact, draw, scenes, steps)), dtype=torch.float64)
            seen[arm, steps] = found
            rows.append({"arm": arm, "steps": steps, "exact": interval(found)})
            cells = [arm, str(steps), "{:.1%} ({:.1%} to {:.1%})".format(*interval(found)), ""]
            if arm in PAIRS:
                rows[-1]["difference"] = interval(found - seen[PAIRS[arm], steps])
                cells[-1] = "{:+.1%} ({:+.1%} to {:+.1%})".format(*rows[-1]["difference"])
            shown.add_row(*cells)
            settings = {"steps": options.steps, "beside": options.beside, "n": options.n, "cfg": CFG}
            write_whole(options.out, json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n")
    Console().print(shown)


if __name__ == "__main__":
    main()
