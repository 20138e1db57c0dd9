"""Is the adaptive sampler worth it where pictures are edited? Exact edits, and what the edit left alone.

    python bench/editing.py                # the committed figures; writes bench/results/editing.json
    python bench/editing.py --n 64 --m 64  # a quick look

An edit is another color for one thing of a rendered scene: the source is the picture, the prompt the new scene. Whether
an image shows the new scene has an exact answer, and so has what should not have changed: structural similarity to the
source in every window without the thing that changes color. Scenes are of the calibration split; the first ``m`` choose
how far refining rolls back and the thresholds, the next ``n`` are measured. Every method sees the same scenes and
seeds, so differences are paired. An evaluation is one pass of a network for one image; a guided step is two.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from adaptive import Bootstrap
from outcomes import Outcome, less, summary
from torch.nn import functional as F
from understudy.demo_family import checker, family
from understudy.demo_family.render import render
from understudy.demo_family.scenes import scenes_of
from understudy.distill_train.data.randomness import generator
from understudy.oracles import load_oracle
from understudy.oracles.likeness import WINDOW, ssim, ssim_map
from understudy.pipelines.demo import ALONE, FOLDER, STUDENT, TEACHERS, DemoModel
from understudy.pipelines.model import StudentPlan, TeacherPlan, draw, redo

RESULTS = Path(__file__).parent / "results"
SIZE, BATCH = (64, 64), 256
STRENGTHS = (0.6, 0.8)  # with the student's four steps: the last of 6 and of 5
ROLLBACKS = (0.3, 0.5, 0.7)
REDONE, VETOED = 30, 10  # percent
FIGURES = ("exact", "kept")


@dataclass(frozen=True)
class Seen(Outcome):
    """And of each scene [N] likeness of what should not change, the oracle's score, SSIM."""

    kept: np.ndarray
    scores: np.ndarray
    alike: np.ndarray


class Stage:
    """The demo family on some edits."""

    def __init__(self, start: int, count: int):
        scenes = scenes_of("calibration")
        order = torch.randperm(len(scenes), generator=generator("editing")).tolist()
        edits = [(scenes[i], checker.changed(scenes[i], "color", generator("editing", i))) for i in order]
        # Two things of one kind are no scene of the language.
        before, self.scenes = zip(
            *[(s, e) for s, e in edits if e.first != e.second][start : start + count], strict=True
        )
        self.sources = _drawn(before)
        # A window counts where the edit itself, the same places in the new color, changes nothing.
        changes = (_drawn(self.scenes) - self.sources).abs().amax(1, keepdim=True) > 0
        self.untouched = F.max_pool2d(changes.float(), WINDOW, stride=1)[:, 0] == 0
        self.prompts, self.seeds = [str(scene) for scene in self.scenes], list(range(len(before)))
        device = torch.device("cpu")
        self.models = {part: DemoModel(family.load(part, device), device) for part in ("student", "teacher")}
        self.oracle = load_oracle(FOLDER / "oracle.safetensors", "demo")

    def student(self, strength: float) -> tuple[torch.Tensor, Seen]:
        plan = StudentPlan(STUDENT.steps, strength=strength)
        return self._all(lambda at, *asked: draw(self.models["student"], *asked, SIZE, plan, _quiet, self.sources[at]))

    def refined(self, images: torch.Tensor, rollback: float) -> Seen:
        plan = _teacher(rollback=rollback)
        return self._all(lambda at, *asked: redo(self.models["teacher"], images[at], *asked, SIZE, plan, _quiet))[1]

    def edited(self, steps: int, strength: float) -> Seen:
        """The teacher from the source."""
        plan, model = _teacher(strategy="regenerate", strength=strength, steps=steps), self.models["teacher"]
        return self._all(lambda at, *asked: redo(model, None, *asked, SIZE, plan, _quiet, self.sources[at]))[1]

    def _all(self, make: Callable) -> tuple[torch.Tensor, Seen]:
        parts = []
        for start in range(0, len(self.prompts), BATCH):
            at = slice(start, start + BATCH)
            parts.append(make(at, self.prompts[at], self.seeds[at]))
        images = torch.cat([part for part, _ in parts])
        exact = np.array(checker.exact(images, self.scenes))
        windows = ssim_map(images, self.sources).mean(1)
        kept = (windows * self.untouched).sum((1, 2)) / self.untouched.sum((1, 2))
        scores, alike = self.oracle(images, self.prompts).numpy(), ssim(images, self.sources).numpy()
        return images, Seen(exact, np.full(len(images), parts[0][1]), kept.numpy(), scores, alike)


def _drawn(scenes: list) -> torch.Tensor:
    """Each scene at places that depend on its number alone."""
    return torch.cat([render([scene], torch.Generator().manual_seed(i)) for i, scene in enumerate(scenes)])


def _teacher(**changes) -> TeacherPlan:
    plan = TEACHERS["refine"]
    settings = {"steps": plan.steps, "rollback": plan.rollback, "rollback_mode": plan.rollback_mode} | changes
    return TeacherPlan(cfg=plan.cfg, sampler=plan.sampler, scheduler=plan.scheduler, **settings)


def _quiet(step: int, steps: int) -> None:
    """No progress within a batch."""


@dataclass(frozen=True)
class Point:
    """What the choosing scenes said at a strength."""

    rollback: float
    threshold: float
    least_alike: float


def choose(stage: Stage, strength: float) -> Point:
    """The rollback with which refining the worst 30 % makes most edits exact; percentiles of the student's own."""
    images, student = stage.student(strength)
    threshold, least = np.percentile(student.scores, REDONE), np.percentile(student.alike, VETOED)

    def exact(rollback: float) -> float:
        return student.where(student.scores < threshold, stage.refined(images, rollback)).exact.mean()

    return Point(max(ROLLBACKS, key=exact), float(threshold), float(least))


def rows_for(stage: Stage, strength: float, point: Point) -> dict[str, Seen]:
    images, student = stage.student(strength)
    refined = stage.refined(images, point.rollback)
    full = stage.edited(int(ALONE * strength), strength)
    rejected = student.scores < point.threshold
    shuffled = rejected[np.random.default_rng(0).permutation(len(rejected))]
    vetoed = rejected | (student.alike < point.least_alike)
    everyone = np.ones(len(rejected), dtype=bool)
    return {
        "student": student,
        "teacher at 4 steps": stage.edited(4, strength),
        "teacher, full": full,
        "always refine": student.where(everyone, refined),
        "random": student.where(shuffled, refined),
        "adaptive": student.where(rejected, refined),
        "adaptive, likeness vetoes": student.where(vetoed, refined),
        "adaptive, from the source": student.where(rejected, stage.edited(6, strength)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500, help="edits measured")
    parser.add_argument("--m", type=int, default=128, help="edits to choose by")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    choosing, stage = Stage(0, arguments.m), Stage(arguments.m, arguments.n)
    bootstrap = Bootstrap(arguments.n)
    result = {"settings": {"n": arguments.n, "m": arguments.m, "redone": REDONE, "vetoed": VETOED}, "strengths": []}
    print(f"{'strength':>8}  {'method':28}{'evals':>7}{'exact':>8}  95 %{'':14}kept    95 %")
    for strength in STRENGTHS:
        point = choose(choosing, strength)
        rows = rows_for(stage, strength, point)
        entry = {"strength": strength, "point": vars(point)}
        entry["rows"] = {name: summary(outcome, FIGURES, bootstrap) for name, outcome in rows.items()}
        entry["adaptive less"] = {
            name: less(rows["adaptive"], other, FIGURES, bootstrap)
            for name, other in rows.items()
            if name != "adaptive"
        }
        result["strengths"].append(entry)
        for name, row in entry["rows"].items():
            exact, kept = row["exact"], row["kept"]
            shares = " to ".join(f"{100 * bound:.1f}" for bound in exact["ci"])
            print(
                f"{strength:>8}  {name:28}{row['evaluations']:>7.2f}{100 * exact['mean']:>7.1f}%  {shares:16}"
                f"{kept['mean']:>7.3f}   {' to '.join(f'{bound:.3f}' for bound in kept['ci'])}"
            )
        for name, row in entry["adaptive less"].items():
            print(f"{strength:>8}  adaptive less {name}: {json.dumps(row)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "editing.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
