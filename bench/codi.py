"""What does CoDi's one stage give, and what do its parts? Outlines to scenes, and super-resolution, arm by arm.

    python bench/codi.py                                           # goes on if it is cut off; bench/results/codi.json
    python bench/codi.py --steps 2 --n 8 --work look --out look.json

All arms learn from the demo teacher and the same 50,000 pictures, by as many steps of 64 pairs with the same draws at
one learning rate; CoDi trains all weights of the network under its ControlNet, PE-CoDi none. An arm of two stages has
half of the steps for each. Teachers are ControlNets by plain denoising, alone ("teacher", of the outlines the family's
own, of 400 steps) or with all weights under it ("tuned teacher").

Scenes are of the calibration split, which no network was trained on, and scene i starts from the same noise in all.
Whether a picture shows its scene has an exact answer; how like it is to the condition is for outlines the F1 of
bench/control.py, and for low resolution the PSNR of the picture, made as coarse, in dB. Intervals are 95 %, over the
scenes: with one training of each arm they say nothing about other seeds. An evaluation is one pass of a network for one
image, its ControlNet's with it; a guided step is two.

Arms come in the order of their worth; the report is written after each, with all differences that are there by then.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from adaptive import Bootstrap
from control import outline_f1
from outcomes import Outcome, less, summary
from safetensors.torch import load_file
from torch import Tensor
from understudy.demo_family import checker, family
from understudy.demo_family.render import DRAWS, outlined, painted
from understudy.demo_family.scenes import scenes_of
from understudy.distill_train.config import Recipe, load_recipe
from understudy.distill_train.data.conditions import coarser
from understudy.distill_train.data.randomness import generator
from understudy.distill_train.demo.scenes import LOW_RESOLUTION, tokens_for
from understudy.distill_train.methods import make_method
from understudy.distill_train.run.command import RECIPES
from understudy.distill_train.run.loop import train
from understudy.files import write_whole

RESULTS, BATCH, CPU = Path(__file__).parent / "results" / "codi.json", 250, torch.device("cpu")
FEW, MANY = (1, 2, 4), (4, 8, 20)
CFG = 3  # of the teachers; students are not guided
FIGURES = ("exact", "likeness")
CODI = ("method=codi", "student.base=full")
PLAIN = ("method=controlnet", "settings={}")
SHIPPED = family.FOLDER / "control.safetensors"
# Changes to recipes/demo-control-student.toml, an arm's stages one after the other; "{}" is the file of the one before.
# The last stage of "fine-tune then distil" is consistency distillation of the first one's result, and nothing else.
ALONE = ("settings.ode=teacher", "settings.consistency=x0", "settings.reconstruction_weight=0")
DISTIL = (*CODI, "student.control={}", *ALONE)
ARMS = {
    "teacher": [PLAIN],
    "tuned teacher": [(*PLAIN, "student.base=full")],
    "codi": [CODI],
    "pe-codi": [()],
    "no consistency": [(*CODI, "settings.consistency_weight=0")],
    "teacher ode": [(*CODI, "settings.ode=teacher")],
    "fine-tune then distil": [PLAIN, DISTIL],
}
PLAN = (  # (condition, arm)
    ("outline", "pictures"),  # the scenes' own, through the autoencoder: no arm can be better
    ("outline", "teacher"),
    ("outline", "codi"),
    ("outline", "pe-codi"),
    ("low_resolution", "pictures"),
    ("low_resolution", "teacher"),
    ("low_resolution", "codi"),
    ("outline", "no consistency"),
    ("outline", "teacher ode"),
    ("outline", "fine-tune then distil"),
    ("outline", "tuned teacher"),
    ("low_resolution", "pe-codi"),
    ("low_resolution", "tuned teacher"),
)


@dataclass(frozen=True)
class Seen(Outcome):
    """And how like each picture is to its condition."""

    likeness: np.ndarray


class Task:
    """Scenes and one kind of condition: what arms learn it by, and what their pictures come to."""

    def __init__(self, kind: str, steps: int, count: int, work: Path):
        self.kind, self.steps, self.work = kind, steps, work
        scenes, g = scenes_of("calibration"), generator("outlines")
        at = torch.randperm(len(scenes), generator=g)[:count].tolist()
        self.scenes, draws = [scenes[i] for i in at], torch.rand(count, DRAWS, generator=g)
        self.pictures = painted(self.scenes, draws)
        if kind == "outline":
            self.condition = outlined(self.scenes, draws).repeat(1, 3, 1, 1)
        else:
            self.condition = coarser(self.pictures, LOW_RESOLUTION)
        self.tokens, shape = tokens_for(self.scenes), (family.LATENT_CHANNELS, *[family.LATENT_SIDE] * 2)
        self.noise = torch.stack([torch.randn(shape, generator=generator("codi", "noise", i)) for i in range(count)])

    def rows(self, arm: str) -> Iterator[tuple[str, Seen]]:
        """The arm at each number of steps; of what was measured before, nothing is made again."""
        teaches = arm.endswith("teacher")
        for steps in MANY if teaches else (0,) if arm == "pictures" else FEW:
            evaluations = 2 * steps if teaches else steps
            path = self.work / f"{self.kind}-{arm}-{self.steps}-{steps}-of-{len(self.scenes)}.json".replace(" ", "-")
            if not path.exists():
                write_whole(path, json.dumps(self._measured(self._sampler(arm), steps)))
            found = {name: np.array(values) for name, values in json.loads(path.read_text(encoding="utf-8")).items()}
            yield f"{arm} at {steps}", Seen(**found, evaluations=np.full(len(self.scenes), evaluations))

    @torch.no_grad()
    def _measured(self, draw: Callable, steps: int) -> dict[str, list[float]]:
        parts = [slice(start, start + BATCH) for start in range(0, len(self.scenes), BATCH)]
        images = torch.cat([family.decode(self._vae, draw(at, steps)) for at in parts])
        return {"exact": [float(one) for one in checker.exact(images, self.scenes)], "likeness": self._likeness(images)}

    @cached_property
    def _vae(self) -> torch.nn.Module:
        return family.load_autoencoder(family.FOLDER / "vae.safetensors").eval()

    def _likeness(self, images: Tensor) -> list[float]:
        if self.kind == "outline":
            return outline_f1(images, self.condition[:, :1]).tolist()
        error = (coarser(images, LOW_RESOLUTION) - self.condition).square().mean((1, 2, 3))
        return (-10 * error.clamp(min=1e-6).log10()).tolist()

    def _sampler(self, arm: str) -> Callable:
        """``(slice of the scenes, steps) -> latents``, by the trainer's own samplers."""
        if arm == "pictures":
            return lambda at, steps: family.encode(self._vae, self.pictures[at])
        if (self.kind, arm) == ("outline", "teacher"):
            recipe, file = self._recipe(PLAIN, self.steps), SHIPPED
        else:
            recipe, file = self._trained(arm, ARMS[arm])
        method, weights = make_method(recipe, CPU), load_file(file)
        network = method.network.eval()
        base = {key.removeprefix("base."): value for key, value in weights.items() if key.startswith("base.")}
        network.control.load_state_dict({k: value for k, value in weights.items() if not k.startswith("base.")})
        if recipe.student.base == "full":
            network.base.load_state_dict(base)

        def draw(at: slice, steps: int) -> Tensor:
            given = {"tokens": self.tokens[at], "condition": self.condition[at]}
            return method.sample(network, self.noise[at], given, steps)

        return draw

    def _trained(self, arm: str, stages: list[tuple[str, ...]]) -> tuple[Recipe, Path]:
        """The recipe of the arm's last stage and its export. A run that was cut off goes on."""
        file = None
        for place, changes in enumerate(stages):
            folder = self.work / f"{self.kind}-{arm}-{self.steps}-{place}".replace(" ", "-")
            changes = tuple(change.replace("{}", str(file)) if file else change for change in changes)
            recipe = self._recipe(changes, self.steps // len(stages))
            file = folder / "exports" / recipe.export
            if not file.exists():
                train(recipe, folder, resume=(folder / "recipe.json").exists(), device="cpu")
        return recipe, file

    def _recipe(self, changes: tuple[str, ...], steps: int) -> Recipe:
        loop = f"loop.steps={steps}", f"loop.sample_every={steps}", "loop.checkpoint_every=50", "loop.tracker=none"
        common = f"data.condition={self.kind}", f"samples.teacher_cfg={CFG}", *loop
        return load_recipe(RECIPES / "demo-control-student.toml", (*common, *changes))


def report(rows: dict[str, dict[str, Seen]], bootstrap: Bootstrap) -> dict:
    """Means of all rows; and each student less every other at as many steps, or less a teacher at any."""
    found = {}
    for kind, seen in rows.items():
        pairs = [
            (one, other)
            for one in seen
            for other in seen
            if one != other
            and "teacher at" not in one
            and ("teacher at" in other or one.split(" at ")[1] == other.split(" at ")[1])
        ]
        found[kind] = {
            "rows": {name: summary(outcome, FIGURES, bootstrap) for name, outcome in seen.items()},
            "differences": {f"{a} less {b}": less(seen[a], seen[b], FIGURES, bootstrap) for a, b in pairs},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="of each arm")
    parser.add_argument("--n", type=int, default=500, help="scenes")
    parser.add_argument("--work", type=Path, default=Path("codi-work"), help="networks and rows are kept here")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    tasks = {kind: Task(kind, options.steps, options.n, options.work) for kind in ("outline", "low_resolution")}
    bootstrap, rows = Bootstrap(options.n), {kind: {} for kind in tasks}
    settings = {"steps": options.steps, "n": options.n}
    for kind, arm in PLAN:
        for name, outcome in tasks[kind].rows(arm):
            rows[kind][name] = outcome
            row = summary(outcome, FIGURES, bootstrap)
            print(f"{kind:15} {name:32}{json.dumps(row)}", flush=True)
        write_whole(options.out, json.dumps({"settings": settings, **report(rows, bootstrap)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
