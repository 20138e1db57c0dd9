"""Is the adaptive sampler worth it under a condition? Outlines to scenes, with exact answers.

    python bench/control.py                # the committed figures; writes bench/results/control.json
    python bench/control.py --n 64 --m 64  # a quick look

The prompt names the scene, the outline says where its things are. Whether an image shows the scene has an exact answer;
how well it follows the outline is the F1 of its edges and the outline's lines, at most a pixel apart. Scenes are of the
calibration split; the first ``m`` choose how far refining rolls back and the threshold, the next ``n`` are measured.
The student is sampled by Euler at `sgm_uniform`'s times (999, 749.25, ... for 4 steps), as its file said when this was
measured; the preset "codi" of Understudy Student Sampler has its grid instead (999, 749, ...).

Every method sees the same scenes, outlines and seeds, so differences are paired. An evaluation is one pass of a network
for one image, and the pass of its ControlNet counts with it; a guided step is two. What a row needs is kept in ``work``
once made, so that a run that was stopped goes on.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from adaptive import Bootstrap
from outcomes import Outcome, less, summary
from torch.nn import functional as F
from understudy.demo_family import checker, family
from understudy.demo_family.control import load_control
from understudy.demo_family.render import DRAWS, outlined, painted
from understudy.demo_family.scenes import scenes_of
from understudy.distill_train.data.randomness import generator
from understudy.oracles import load_oracle
from understudy.pipelines.demo import FOLDER, TEACHERS, ControlledDemo, DemoModel
from understudy.pipelines.model import StudentPlan, TeacherPlan, draw, redo

RESULTS = Path(__file__).parent / "results"
SIZE, BATCH = (64, 64), 250
STUDENT_STEPS, TEACHER_STEPS = (1, 2, 4), (4, 8, 20)
ROLLBACKS = (0.3, 0.5, 0.7)
REDONE = 30  # percent
EDGE = 0.2  # how far two neighbouring pixels are apart where there is an edge, in the channel that differs most
FIGURES = ("exact", "outline")


@dataclass(frozen=True)
class Seen(Outcome):
    """And of each scene [N] the F1 of its outline and the oracle's score."""

    outline: np.ndarray
    scores: np.ndarray


def edges(images: torch.Tensor) -> torch.Tensor:
    """Where pictures [B, 3, H, W] change from a pixel to the next one, [B, 1, H, W] of 0 and 1."""
    across = (images[..., 1:] - images[..., :-1]).abs().amax(1, keepdim=True) > EDGE
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().amax(1, keepdim=True) > EDGE
    return (F.pad(across.float(), (0, 1)) + F.pad(down.float(), (0, 0, 0, 1))).clamp(max=1)


def outline_f1(images: torch.Tensor, outlines: torch.Tensor) -> torch.Tensor:
    """How well the edges of pictures follow outlines [B, 1, H, W], [B] in [0, 1]: F1 at most a pixel apart."""
    found, lines = edges(images), (outlines > 0.5).float()

    def share(these: torch.Tensor, those: torch.Tensor) -> torch.Tensor:
        near = F.max_pool2d(those, 3, stride=1, padding=1)
        return (these * near).sum((1, 2, 3)) / these.sum((1, 2, 3)).clamp(min=1)

    precision, recall = share(found, lines), share(lines, found)
    return 2 * precision * recall / (precision + recall).clamp(min=1e-9)


def controlled(part: str, control: str) -> ControlledDemo:
    """A demo network under a ControlNet's file."""
    device = torch.device("cpu")
    return ControlledDemo(family.load(part, device), load_control(FOLDER / control), device)


class Stage:
    """The demo family on some scenes with their outlines."""

    def __init__(self, start: int, count: int, work: Path):
        scenes, g = scenes_of("calibration"), generator("outlines")
        order, draws = torch.randperm(len(scenes), generator=g), torch.rand(len(scenes), DRAWS, generator=g)
        at = order[start : start + count]
        self.scenes, self.draws = [scenes[i] for i in at.tolist()], draws[at]
        self.outlines = outlined(self.scenes, self.draws)
        self.hints = self.outlines.repeat(1, 3, 1, 1)
        self.prompts, self.seeds = [str(scene) for scene in self.scenes], list(range(count))
        self.oracle = load_oracle(FOLDER / "oracle.safetensors", "demo")
        self.work = work / f"{start}-{count}"
        self.work.mkdir(parents=True, exist_ok=True)

    def drawn(self) -> Seen:
        """What pictures of the scenes themselves come to, through the autoencoder."""
        vae = family.load("teacher").vae
        images = family.decode(vae, family.encode(vae, painted(self.scenes, self.draws)))
        return self.measured(images, np.zeros(len(images)))

    def student(self, steps: int) -> tuple[torch.Tensor, Seen]:
        """CoDi's: a ControlNet on the teacher's network, a few steps without guidance."""
        plan = StudentPlan(steps, sampler="euler")
        return self._drawn(f"student {steps}", "teacher", "control_student.safetensors", plan)

    def shared(self, steps: int) -> tuple[torch.Tensor, Seen]:
        """The family's student under the teacher's ControlNet."""
        return self._drawn(f"shared {steps}", "student", "control.safetensors", StudentPlan(steps))

    def teacher(self, steps: int) -> Seen:
        model, plan = controlled("teacher", "control.safetensors"), _teacher(strategy="regenerate", steps=steps)
        name = f"teacher {steps}"
        return self._made(name, lambda at: redo(model, None, *self._asked(at, plan), None, self.hints[at]))[1]

    def text_alone(self, steps: int) -> Seen:
        device = torch.device("cpu")
        model, plan = DemoModel(family.load("teacher"), device), _teacher(strategy="regenerate", steps=steps)
        return self._made(f"text alone {steps}", lambda at: redo(model, None, *self._asked(at, plan)))[1]

    def refined(self, name: str, images: torch.Tensor, rollback: float) -> Seen:
        model, plan = controlled("teacher", "control.safetensors"), _teacher(rollback=rollback)
        name = f"{name} refined {rollback}"
        return self._made(name, lambda at: redo(model, images[at], *self._asked(at, plan), None, self.hints[at]))[1]

    def _drawn(self, name: str, part: str, control: str, plan: StudentPlan) -> tuple[torch.Tensor, Seen]:
        model = controlled(part, control)
        return self._made(name, lambda at: draw(model, *self._asked(at, plan), None, self.hints[at]))

    def _asked(self, at: slice, plan: StudentPlan | TeacherPlan) -> tuple:
        return self.prompts[at], self.seeds[at], SIZE, plan, _quiet

    def _made(self, name: str, make: Callable) -> tuple[torch.Tensor, Seen]:
        """``make(slice) -> (images, evaluations)`` of all scenes, once: the file of its name serves later runs."""
        file = self.work / f"{name}.pt"
        if not file.exists():
            parts = [make(slice(start, start + BATCH)) for start in range(0, len(self.prompts), BATCH)]
            images, evaluations = torch.cat([part for part, _ in parts]), parts[0][1]
            partial = file.with_suffix(".partial")
            torch.save((images, evaluations), partial)
            partial.replace(file)
        images, evaluations = torch.load(file)
        return images, self.measured(images, np.full(len(images), evaluations))

    def measured(self, images: torch.Tensor, evaluations: np.ndarray) -> Seen:
        exact = np.array(checker.exact(images, self.scenes))
        scores = self.oracle(images, self.prompts).numpy()
        return Seen(exact, evaluations, outline_f1(images, self.outlines).numpy(), scores)


def _teacher(**changes) -> TeacherPlan:
    return replace(TEACHERS["refine"], **changes)


def _quiet(step: int, steps: int) -> None:
    """No progress within a batch."""


@dataclass(frozen=True)
class Point:
    """What the choosing scenes said of a student."""

    rollback: float
    threshold: float


def choose(stage: Stage, steps: int) -> Point:
    """The rollback with which refining the worst 30 % makes most scenes exact; the percentile of the student's own."""
    images, student = stage.student(steps)
    threshold = np.percentile(student.scores, REDONE)

    def exact(rollback: float) -> float:
        return student.where(
            student.scores < threshold, stage.refined(f"student {steps}", images, rollback)
        ).exact.mean()

    return Point(max(ROLLBACKS, key=exact), float(threshold))


def refining(stage: Stage, steps: int, point: Point) -> dict[str, Seen]:
    images, student = stage.student(steps)
    refined = stage.refined(f"student {steps}", images, point.rollback)
    rejected = student.scores < point.threshold
    shuffled = rejected[np.random.default_rng(0).permutation(len(rejected))]
    return {
        "always refine": student.where(np.ones(len(rejected), dtype=bool), refined),
        "random": student.where(shuffled, refined),
        "adaptive": student.where(rejected, refined),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500, help="scenes measured")
    parser.add_argument("--m", type=int, default=128, help="scenes to choose by")
    parser.add_argument("--work", type=Path, default=Path("control-work"), help="where pictures are kept between runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    choosing, stage = (
        Stage(0, arguments.m, arguments.work),
        Stage(arguments.m, arguments.n, arguments.work),
    )
    bootstrap = Bootstrap(arguments.n)
    single = {"the scenes themselves": stage.drawn()}
    single |= {f"student at {steps} steps": stage.student(steps)[1] for steps in STUDENT_STEPS}
    single |= {f"teacher at {steps} steps": stage.teacher(steps) for steps in TEACHER_STEPS}
    single |= {f"one ControlNet, student at {steps} steps": stage.shared(steps)[1] for steps in STUDENT_STEPS}
    single["teacher at 20 steps, text alone"] = stage.text_alone(20)
    result = {"settings": {"n": arguments.n, "m": arguments.m, "redone": REDONE}}
    result["rows"] = {name: summary(outcome, FIGURES, bootstrap) for name, outcome in single.items()}
    result["student less teacher"] = {
        f"{few} steps less {many}": less(
            single[f"student at {few} steps"], single[f"teacher at {many} steps"], FIGURES, bootstrap
        )
        for few in STUDENT_STEPS
        for many in TEACHER_STEPS
    }
    result["refining"] = []
    for steps in STUDENT_STEPS:
        point = choose(choosing, steps)
        rows = refining(stage, steps, point)
        own = {
            name: single[name]
            for name in (f"student at {steps} steps", *map("teacher at {} steps".format, TEACHER_STEPS))
        }
        others = own | {name: outcome for name, outcome in rows.items() if name != "adaptive"}
        entry = {"student steps": steps, "point": vars(point)}
        entry["rows"] = {name: summary(outcome, FIGURES, bootstrap) for name, outcome in rows.items()}
        entry["adaptive less"] = {
            name: less(rows["adaptive"], other, FIGURES, bootstrap) for name, other in others.items()
        }
        result["refining"].append(entry)
    show(result)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "control.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def show(result: dict) -> None:
    print(f"{'method':40}{'evals':>7}{'exact':>8}  95 %{'':14}outline  95 %")
    rows = dict(result["rows"])
    for entry in result["refining"]:
        rows |= {f"student at {entry['student steps']} steps, {name}": row for name, row in entry["rows"].items()}
    for name, row in rows.items():
        exact, outline = row["exact"], row["outline"]
        shares = " to ".join(f"{100 * bound:.1f}" for bound in exact["ci"])
        print(
            f"{name:40}{row['evaluations']:>7.2f}{100 * exact['mean']:>7.1f}%  {shares:16}"
            f"{outline['mean']:>7.3f}   {' to '.join(f'{bound:.3f}' for bound in outline['ci'])}"
        )
    for name, row in result["student less teacher"].items():
        print(f"student at {name} of the teacher: {json.dumps(row)}")
    for entry in result["refining"]:
        for name, row in entry["adaptive less"].items():
            print(f"student at {entry['student steps']} steps: adaptive less {name}: {json.dumps(row)}")


if __name__ == "__main__":
    main()
