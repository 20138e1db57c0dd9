"""Is the adaptive sampler worth it? Exact accuracy against counted network evaluations on held-out scenes.

    python bench/adaptive.py                 # the committed figures; writes bench/results/adaptive.json and .png
    python bench/adaptive.py --n 256 --m 128 # a quick look

Operating points are chosen on the calibration split, the rows are measured on the test split; neither was ever trained
on. Every method sees the same scenes and the same seeds, so differences are paired. An evaluation is one pass of a
network for one image; a guided step is two.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from understudy.demo_family import checker, family
from understudy.demo_family.scenes import scenes_of
from understudy.distill_train.data.randomness import generator
from understudy.distill_train.demo.oracle import area_under_roc
from understudy.oracles import load_oracle
from understudy.pipelines.demo import FOLDER, DemoModel
from understudy.pipelines.model import StudentPlan, TeacherPlan, draw, redo

RESULTS = Path(__file__).parent / "results"
SIZE, BATCH = (64, 64), 256
STUDENT_STEPS = (1, 2, 4)
TEACHER_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 25)
REFINE = [{"rollback": f, "steps": n} for f, n in product((0.3, 0.5, 0.7), (3, 6))]
REGENERATE = [{"steps": n} for n in (4, 6, 8, 12)]
PERCENTILES = (10, 20, 30, 40, 50, 60)
CFG = 3.0
RESAMPLES = 2000


@dataclass(frozen=True)
class Outcome:
    """What a method made of each scene: exact or not [N], the oracle's score [N], evaluations [N]."""

    exact: np.ndarray
    scores: np.ndarray
    evaluations: np.ndarray

    def where(self, mask: np.ndarray, other: "Outcome") -> "Outcome":
        """``other`` where the mask holds, with its evaluations on top of these; this outcome elsewhere."""
        return Outcome(
            np.where(mask, other.exact, self.exact),
            np.where(mask, other.scores, self.scores),
            self.evaluations + mask * other.evaluations,
        )


class Stage:
    """The demo family on the scenes of one split; everything that is drawn twice is drawn once."""

    def __init__(self, split: str, count: int, device: str):
        scenes = scenes_of(split)
        order = torch.randperm(len(scenes), generator=generator("bench", split))[:count]
        self.scenes = [scenes[i] for i in order]
        self.prompts = [str(scene) for scene in self.scenes]
        self.seeds = list(range(len(self.scenes)))
        self.models = {p: DemoModel(family.load(p, device), torch.device(device)) for p in ("student", "teacher")}
        self.oracle = load_oracle(FOLDER / "oracle.safetensors", "demo", device=device)
        self.cache: dict[tuple, Outcome] = {}
        self.pictures: dict[int, torch.Tensor] = {}

    def student(self, steps: int) -> Outcome:
        if steps not in self.pictures:
            plan = StudentPlan(steps=steps)
            parts = [draw(self.models["student"], *part, SIZE, plan, _quiet) for part in self.batches()]
            self.pictures[steps] = torch.cat([images for images, _ in parts])
            self.cache["student", steps] = self._judged(self.pictures[steps], parts[0][1])
        return self.cache["student", steps]

    def redone(self, student_steps: int | None, plan: TeacherPlan) -> Outcome:
        """The teacher on every scene: from the student's images to refine, else from noise."""
        key = (student_steps if plan.strategy == "refine" else None, plan)
        if key not in self.cache:
            start = None
            if plan.strategy == "refine":
                self.student(student_steps)
                start = self.pictures[student_steps]
            parts = []
            for at, part in enumerate(self.batches()):
                images = None if start is None else start[at * BATCH : (at + 1) * BATCH]
                parts.append(redo(self.models["teacher"], images, *part, SIZE, plan, _quiet))
            self.cache[key] = self._judged(torch.cat([images for images, _ in parts]), parts[0][1])
        return self.cache[key]

    def teacher(self, steps: int) -> Outcome:
        return self.redone(None, teacher_plan(strategy="regenerate", steps=steps))

    @cached_property
    def full_steps(self) -> int:
        """The cheapest teacher within half a point of the best."""
        accuracy = {steps: self.teacher(steps).exact.mean() for steps in TEACHER_STEPS}
        return min(steps for steps, value in accuracy.items() if value >= max(accuracy.values()) - 0.005)

    def batches(self):
        for start in range(0, len(self.prompts), BATCH):
            yield self.prompts[start : start + BATCH], self.seeds[start : start + BATCH]

    def _judged(self, images: torch.Tensor, evaluations: int) -> Outcome:
        starts = range(0, len(images), BATCH)
        scores = torch.cat([self.oracle(images[i : i + BATCH], self.prompts[i : i + BATCH]) for i in starts])
        exact = np.array(checker.exact(images, self.scenes))
        return Outcome(exact, scores.numpy(), np.full(len(images), evaluations))


def teacher_plan(**settings) -> TeacherPlan:
    return TeacherPlan(cfg=CFG, scheduler="trailing", **{"rollback_mode": "schedule"} | settings)


def _quiet(step: int, steps: int) -> None:
    """No progress within a batch."""


@dataclass(frozen=True)
class Point:
    """An operating point: everything that was chosen on the calibration split."""

    student_steps: int
    plan: TeacherPlan
    percentile: int
    threshold: float


def choose(stage: Stage, budget: float) -> list[Point]:
    """For each strategy and percentile, the most exact settings whose calibration cost is within ``budget``."""
    points = []
    for strategy, plans in (("refine", REFINE), ("regenerate", REGENERATE)):
        for percentile in PERCENTILES:
            best = None
            for steps, settings in product(STUDENT_STEPS, plans):
                plan = teacher_plan(strategy=strategy, **settings)
                student, redone = stage.student(steps), stage.redone(steps, plan)
                threshold = float(np.percentile(student.scores, percentile))
                outcome = student.where(student.scores < threshold, redone)
                cost = outcome.evaluations.mean()
                rank = (outcome.exact.mean(), -cost)
                if cost <= budget and (best is None or rank > best[0]):
                    best = rank, Point(steps, plan, percentile, threshold)
            if best:
                points.append(best[1])
    return points


def rows_for(stage: Stage, points: list[Point]) -> list[tuple[dict, Outcome]]:
    """Every method on the test split, as (description, outcome)."""
    rows = [({"method": "student", "steps": n}, stage.student(n)) for n in STUDENT_STEPS]
    rows += [({"method": "teacher", "steps": n}, stage.teacher(n)) for n in TEACHER_STEPS]
    everyone = np.ones(len(stage.scenes), dtype=bool)
    for student_steps, plan in dict.fromkeys((p.student_steps, p.plan) for p in points if p.plan.strategy == "refine"):
        outcome = stage.student(student_steps).where(everyone, stage.redone(student_steps, plan))
        rows.append(({"method": "always-refine", **_described(student_steps, plan)}, outcome))
    for point in points:
        student = stage.student(point.student_steps)
        redone = stage.redone(point.student_steps, point.plan)
        rejected = student.scores < point.threshold
        shared = _described(point.student_steps, point.plan) | {"percentile": point.percentile}
        adaptive = student.where(rejected, redone)
        shuffled = rejected[np.random.default_rng(point.percentile).permutation(len(rejected))]
        better = replace(redone, **_kept_if_worse(student, redone))
        rows.append(({"method": "random", **shared}, student.where(shuffled, redone)))
        rows.append(({"method": "adaptive", **shared}, adaptive))
        rows.append(({"method": "adaptive-keep-better", **shared}, student.where(rejected, better)))
    return rows


def _kept_if_worse(student: Outcome, redone: Outcome) -> dict:
    keep = redone.scores <= student.scores  # as Keep Better decides
    return {
        "exact": np.where(keep, student.exact, redone.exact),
        "scores": np.where(keep, student.scores, redone.scores),
    }


def _described(student_steps: int, plan: TeacherPlan) -> dict:
    rollback = {"rollback": plan.rollback} if plan.strategy == "refine" else {}
    return {"strategy": plan.strategy, "student_steps": student_steps, "steps": plan.steps, **rollback}


class Bootstrap:
    """Resamples of the scenes, the same for every method, so that differences are paired."""

    def __init__(self, count: int):
        self.draws = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))

    def interval(self, values: np.ndarray) -> list[float]:
        """The 95 % interval of the mean."""
        means = values[self.draws].mean(axis=1)
        return [round(float(bound), 4) for bound in np.percentile(means, [2.5, 97.5])]


def comparisons(stage: Stage, rows: list[tuple[dict, Outcome]], full_steps: int, bootstrap: Bootstrap) -> list[dict]:
    """Each adaptive row against the full teacher, random routing, always-refine, and the teacher at its own cost."""
    full = stage.teacher(full_steps)
    named = {json.dumps(row, sort_keys=True): outcome for row, outcome in rows}
    found = []
    for row, outcome in rows:
        if not row["method"].startswith("adaptive"):
            continue
        against = {"teacher at full steps": full, "teacher at equal evaluations": _teacher_at(stage, outcome)}
        against["random"] = named[json.dumps(row | {"method": "random"}, sort_keys=True)]
        if row["strategy"] == "refine":
            always = {key: value for key, value in row.items() if key != "percentile"} | {"method": "always-refine"}
            against["always-refine"] = named[json.dumps(always, sort_keys=True)]
        entry = {key: row[key] for key in ("method", "strategy", "percentile")}
        entry["share of full evaluations"] = round(float(outcome.evaluations.mean() / full.evaluations.mean()), 3)
        for name, other in against.items():
            difference = outcome.exact.astype(float) - other.exact
            entry[name] = {"difference": round(float(difference.mean()), 4), "ci": bootstrap.interval(difference)}
        found.append(entry)
    return found


def _teacher_at(stage: Stage, outcome: Outcome) -> Outcome:
    """The teacher at the same mean evaluations: the two nearest step counts, mixed in proportion."""
    cost = outcome.evaluations.mean()
    costs = {n: stage.teacher(n).evaluations.mean() for n in TEACHER_STEPS}
    below = max((n for n in costs if costs[n] <= cost), default=min(costs))
    above = min((n for n in costs if costs[n] >= cost), default=max(costs))
    share = 0.0 if above == below else (cost - costs[below]) / (costs[above] - costs[below])
    low, high = stage.teacher(below), stage.teacher(above)
    return Outcome((1 - share) * low.exact + share * high.exact, low.scores, low.evaluations)


def roc(student: Outcome, points: int = 101) -> dict:
    """The oracle's ROC on student images: the share of wrong and of right images below each score percentile."""
    cuts = np.percentile(student.scores, np.linspace(0, 100, points))
    rejected = student.scores[None] <= cuts[:, None]
    auc = area_under_roc(torch.from_numpy(student.scores), torch.from_numpy(student.exact))
    return {
        "auc": round(auc, 4),
        "wrong_rejected": [round(float(v), 4) for v in rejected[:, ~student.exact].mean(axis=1)],
        "right_rejected": [round(float(v), 4) for v in rejected[:, student.exact].mean(axis=1)],
    }


def seconds_per_image(stage: Stage, repeats: int = 5) -> dict[str, float]:
    """What a picture costs the oracle, and the student with decoding: the median of batches that take turns."""
    prompts, seeds = next(stage.batches())
    images = stage.pictures[STUDENT_STEPS[0]][: len(prompts)]
    tasks = {"oracle": lambda: stage.oracle(images, prompts)}
    for steps in STUDENT_STEPS:
        plan = StudentPlan(steps=steps)
        tasks[f"student, {steps} steps"] = partial(draw, stage.models["student"], prompts, seeds, SIZE, plan, _quiet)
    taken = {name: [] for name in tasks}
    for _, (name, task) in product(range(repeats), tasks.items()):
        started = time.perf_counter()
        task()
        taken[name].append((time.perf_counter() - started) / len(prompts))
    return {name: round(statistics.median(values), 6) for name, values in taken.items()}


def plot(rows: list[dict], full_steps: int, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), dpi=120)
    styles = {
        ("teacher", None): ("#444444", "o-", "teacher alone"),
        ("student", None): ("#d08000", "s", "student alone"),
        ("random", "refine"): ("#88aaff", "x", "random routing, refine"),
        ("random", "regenerate"): ("#88cc99", "x", "random routing, regenerate"),
        ("adaptive", "refine"): ("#2050d0", "D-", "adaptive, refine"),
        ("adaptive", "regenerate"): ("#208040", "D-", "adaptive, regenerate"),
        ("always-refine", "refine"): ("#c03080", "^", "always refine"),
    }
    for (method, strategy), (color, style, label) in styles.items():
        chosen = [r for r in rows if r["method"] == method and r.get("strategy") == strategy]
        chosen.sort(key=lambda r: r["evaluations"])
        x, y = [r["evaluations"] for r in chosen], [100 * r["accuracy"] for r in chosen]
        spread = np.abs(100 * np.array([r["ci"] for r in chosen]).T.reshape(2, -1) - np.array(y))
        axes.errorbar(x, y, yerr=spread, fmt=style, color=color, label=label, capsize=2, markersize=5, linewidth=1.2)
    full = next(r for r in rows if r["method"] == "teacher" and r["steps"] == full_steps)
    axes.axhline(100 * full["accuracy"], color="#444444", linewidth=0.8, linestyle=":")
    axes.annotate(f"full teacher, {full_steps} steps", (full["evaluations"], 100 * full["accuracy"]),
                  textcoords="offset points", xytext=(0, 8), ha="center", fontsize=8)  # fmt: skip
    axes.set(xlabel="network evaluations per image (a guided step is two)", ylabel="exact scenes, %", xscale="log")
    ticks = [1, 2, 4, 8, 16, 32]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path)


def table(rows: list[dict]) -> str:
    lines = [
        f"{'method':22}{'strategy':12}{'student':>8}{'steps':>6}{'rollback':>9}{'k':>4}{'evals':>8}{'exact':>8}  95 %"
    ]
    for r in rows:
        low, high = r["ci"]
        lines.append(
            f"{r['method']:22}{r.get('strategy') or '-':12}{r.get('student_steps') or '-':>8}{r['steps']:>6}"
            f"{r.get('rollback') or '-':>9}{r.get('percentile') or '-':>4}{r['evaluations']:>8.2f}"
            f"{100 * r['accuracy']:>7.2f}%  {100 * low:.2f} to {100 * high:.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2048, help="scenes of the test split")
    parser.add_argument("--m", type=int, default=1024, help="scenes of the calibration split")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    calibration = Stage("calibration", arguments.m, arguments.device)
    full_steps = calibration.full_steps
    budget = 0.5 * calibration.teacher(full_steps).evaluations.mean()
    points = choose(calibration, budget)
    stage = Stage("test", arguments.n, arguments.device)
    measured = rows_for(stage, points)
    bootstrap = Bootstrap(len(stage.scenes))
    rows = []
    for row, outcome in measured:
        figures = {
            "evaluations": round(float(outcome.evaluations.mean()), 4),
            "accuracy": round(float(outcome.exact.mean()), 4),
            "ci": bootstrap.interval(outcome.exact.astype(float)),
            "n": len(stage.scenes),
        }
        rows.append({"strategy": None, "percentile": None, **row, **figures})
    compared = comparisons(stage, measured, full_steps, bootstrap)
    result = {
        "rows": rows,
        "full_steps": full_steps,
        "comparisons": compared,
        "roc": {str(n): roc(stage.student(n)) for n in STUDENT_STEPS},
        "seconds_per_image": seconds_per_image(stage),
        "points": [asdict(point) for point in points],
        "settings": {"n": arguments.n, "m": arguments.m, "device": arguments.device, "cfg": CFG},
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "adaptive.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot(rows, full_steps, arguments.out / "adaptive.png")
    print(table(rows))
    print(f"\nfull steps, by the calibration split: {full_steps}")
    for entry in compared:
        print(json.dumps(entry))
    print("oracle AUC on student images:", {n: r["auc"] for n, r in result["roc"].items()})
    print("seconds an image:", result["seconds_per_image"])


if __name__ == "__main__":
    main()
