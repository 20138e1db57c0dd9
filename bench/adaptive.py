"""Is the adaptive sampler worth it? Exact accuracy against counted network evaluations on held-out scenes.

    python bench/adaptive.py                 # the committed figures; writes bench/results/adaptive.json and .png
    python bench/adaptive.py --n 256 --m 128 # a quick look

What is made of a scene is kept in --work, so that a run that was stopped goes on, and a larger one begins with it.
Operating points are chosen on the calibration split, the rows are measured on the test split; neither was ever trained
on. Every method sees the same scenes and the same seeds, so differences are paired. An evaluation is one pass of a
network for one image; a guided step is two.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import adaptive_tries as tries
import numpy as np
import torch
from adaptive_stage import CFG, SIZE, TEACHER_STEPS, Outcome, Stage, quiet, teacher_plan
from understudy.distill_train.demo.oracle import area_under_roc
from understudy.pipelines.model import StudentPlan, TeacherPlan, draw

RESULTS = Path(__file__).parent / "results"
STUDENT_STEPS = (1, 2, 4)
REFINE = [{"rollback": f, "steps": n} for f, n in product((0.3, 0.5, 0.7), (3, 6))]
REGENERATE = [{"steps": n} for n in (4, 6, 8, 12)]
PERCENTILES = (10, 20, 30, 40, 50, 60)
RESAMPLES = 2000
NOT_OF_A_SINGLE_TRY = ("tries", "tries-adaptive", "tries-checker", "budget", "by-score")


@dataclass(frozen=True)
class Point:
    """An operating point: everything that was chosen on the calibration split."""

    student_steps: int
    plan: TeacherPlan
    percentile: int
    threshold: float


def chosen(stage: Stage) -> list[Point]:
    """For each strategy and percentile the most exact settings within half the cost of the full teacher."""
    budget, points = 0.5 * stage.teacher(stage.full_steps).evaluations.mean(), []
    for strategy, plans in (("refine", REFINE), ("regenerate", REGENERATE)):
        for percentile in PERCENTILES:
            best = None
            for steps, settings in product(STUDENT_STEPS, plans):
                plan = teacher_plan(strategy=strategy, **settings)
                student = stage.student(steps)
                threshold = float(np.percentile(student.scores, percentile))
                rejected = student.scores < threshold
                outcome = student.where(rejected, stage.redone(steps, plan, wanted=rejected))
                cost = outcome.evaluations.mean()
                rank = (outcome.exact.mean(), -cost)
                if cost <= budget and (best is None or rank > best[0]):
                    best = rank, Point(steps, plan, percentile, threshold)
            if best:
                points.append(best[1])
    return points


def chosen_before(content: dict) -> list[Point]:
    """The points of an earlier result."""
    return [Point(**point | {"plan": TeacherPlan(**point["plan"])}) for point in content["points"]]


def gated(stage: Stage, point: Point) -> Outcome:
    """A single try, and the teacher for what scores below the point's threshold."""
    student = stage.student(point.student_steps)
    rejected = student.scores < point.threshold
    return student.where(rejected, stage.redone(point.student_steps, point.plan, wanted=rejected))


def rows_for(stage: Stage, points: list[Point]) -> list[tuple[dict, Outcome]]:
    """Every method on the test split, as (description, outcome)."""
    rows = [({"method": "student", "steps": n}, stage.student(n)) for n in STUDENT_STEPS]
    rows += [({"method": "teacher", "steps": n}, stage.teacher(n)) for n in TEACHER_STEPS]
    for student_steps, plan in dict.fromkeys((p.student_steps, p.plan) for p in points if p.plan.strategy == "refine"):
        outcome = stage.student(student_steps).where(stage.everyone, stage.redone(student_steps, plan))
        rows.append(({"method": "always-refine", **_described(student_steps, plan)}, outcome))
    for point in points:
        student = stage.student(point.student_steps)
        rejected = student.scores < point.threshold
        shared = _described(point.student_steps, point.plan) | {"percentile": point.percentile}
        shuffled = rejected[np.random.default_rng(point.percentile).permutation(len(rejected))]
        redone = stage.redone(point.student_steps, point.plan, wanted=rejected | shuffled)
        rows.append(({"method": "random", **shared}, student.where(shuffled, redone)))
        rows.append(({"method": "adaptive", **shared}, gated(stage, point)))
        rows.append(({"method": "adaptive-keep-better", **shared}, student.better(rejected, redone)))
    return rows


def tries_rows(stage: Stage, calibration: Stage) -> list[tuple[dict, Outcome]]:
    """More than one try before the gate, budgets, and rollbacks by score, on the test split: (description, outcome)."""
    rows, behind = [], [tries.Tries(4, 1, -np.inf)]
    for n in tries.TRIES:
        for cost, point in tries.points(calibration, n).items():
            shared = {"tries": n, "cost": cost, "stop": point.tries.stop}
            row = {"method": "tries", "strategy": None, "student_steps": point.tries.steps, **shared}
            rows.append((row, point.tries.on(stage)))
            shared |= _described(point.tries.steps, point.plan) | {"gate": point.gate, "keep_better": point.keep_better}
            shared |= {"again": point.again.steps, "again_gate": point.again_gate} if point.again else {}
            rows.append(({"method": "tries-adaptive", **shared, **point.wrong(stage)}, point.on(stage)))
            if cost == tries.AIM:
                behind += [point.tries] if n == tries.BUDGETED else []
                rows.append(({"method": "tries-checker", **shared}, point.without_the_oracles_errors(stage)))
    for each in tries.budgets(calibration, behind, teacher_plan(steps=6, rollback=0.7)):
        shared = {"tries": each.tries.n, "budget": each.threshold.budget_of.evaluations, "percentile": each.threshold.k}
        rows.append(({"method": "budget", **_described(each.tries.steps, each.plan), **shared}, each.on(stage)))
    for each in tries.spans(calibration):
        shared = {"student_steps": each.steps, "percentile": each.percentile, "rollback": each.span}
        row = {"method": "by-score", "strategy": "refine", "steps": tries.REFINE_STEPS, **shared}
        rows.append((row, each.on(stage)))
    return rows


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
        found.append(entry | _differences(outcome, against, bootstrap))
    return found


def tries_comparisons(
    stage: Stage, rows: list[tuple[dict, Outcome]], points: list[Point], best_steps: int, bootstrap: Bootstrap
) -> list[dict]:
    """Each row with more than one try, a budget or a rollback by score: against the most exact teacher, and against a
    single try before the gate: the point at 30 %, for a rollback by score that of its percentile.
    """
    single = {point.percentile: gated(stage, point) for point in points if point.plan.strategy == "refine"}
    found = []
    for row, outcome in rows:
        if row["method"] not in ("tries-adaptive", "budget", "by-score"):
            continue
        same = row["percentile"] if row["method"] == "by-score" else 30
        against = {
            f"teacher, {best_steps} steps": stage.teacher(best_steps),
            f"adaptive, {same} % refined": single[same],
        }
        entry = {key: row[key] for key in ("method", "tries", "cost", "budget", "percentile") if key in row}
        found.append(entry | _differences(outcome, against, bootstrap))
    return found


def _differences(outcome: Outcome, against: dict[str, Outcome], bootstrap: Bootstrap) -> dict:
    differences = {name: outcome.exact.astype(float) - other.exact for name, other in against.items()}
    return {
        name: {"difference": round(float(each.mean()), 4), "ci": bootstrap.interval(each)}
        for name, each in differences.items()
    }


def _teacher_at(stage: Stage, outcome: Outcome) -> Outcome:
    """The teacher at the same mean evaluations: the two nearest step counts, mixed in proportion."""
    cost = outcome.evaluations.mean()
    costs = {n: 2 * n for n in TEACHER_STEPS}  # a guided step is two
    below = max((n for n in costs if costs[n] <= cost), default=min(costs))
    above = min((n for n in costs if costs[n] >= cost), default=max(costs))
    share = 0.0 if above == below else (cost - costs[below]) / (costs[above] - costs[below])
    low, high = stage.teacher(below), stage.teacher(above)
    return replace(low, exact=(1 - share) * low.exact + share * high.exact)


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
    images, prompts, seeds = stage.first_batch(STUDENT_STEPS[0])
    tasks = {"oracle": lambda: stage.oracle(images, prompts)}
    for steps in STUDENT_STEPS:
        plan = StudentPlan(steps=steps)
        tasks[f"student, {steps} steps"] = partial(draw, stage.models["student"], prompts, seeds, SIZE, plan, quiet)
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

    figure, axes = plt.subplots(figsize=(9, 6.5), dpi=120)
    styles = {
        ("teacher", None): ("#444444", "o-", "teacher alone"),
        ("student", None): ("#d08000", "s", "student alone"),
        ("random", "refine"): ("#88aaff", "x", "random routing, refine"),
        ("random", "regenerate"): ("#88cc99", "x", "random routing, regenerate"),
        ("adaptive", "refine"): ("#2050d0", "D-", "adaptive, refine"),
        ("adaptive", "regenerate"): ("#208040", "D-", "adaptive, regenerate"),
        ("always-refine", "refine"): ("#c03080", "^", "always refine"),
    }
    kinds = [(look, [r for r in rows if (r["method"], r["strategy"]) == key]) for key, look in styles.items()]
    for n, color in zip(tries.TRIES, ("#e08080", "#c04040", "#701010"), strict=True):
        mine = [r for r in rows if r.get("tries") == n]
        kinds.append(((color, "v:", f"best of {n}"), [r for r in mine if r["method"] == "tries"]))
        with_teacher = [r for r in mine if r["method"] == "tries-adaptive"]
        kinds.append(((color, "P-", f"best of {n}, then the teacher"), with_teacher))
    for (color, style, label), chosen in kinds:
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


COLUMNS = {"method": 20, "strategy": 12, "student_steps": 14, "tries": 6, "steps": 6, "rollback": 11, "percentile": 11}


def figures(measured: list[tuple[dict, Outcome]], bootstrap: Bootstrap) -> list[dict]:
    """What the result says of each method."""
    return [
        {
            "strategy": None,
            "percentile": None,
            **row,
            "evaluations": round(float(outcome.evaluations.mean()), 4),
            "evaluations_ci": bootstrap.interval(outcome.evaluations),
            "accuracy": round(float(outcome.exact.mean()), 4),
            "ci": bootstrap.interval(outcome.exact.astype(float)),
            "n": len(outcome.exact),
        }
        for row, outcome in measured
    ]


def table(rows: list[dict]) -> str:
    lines = ["".join(f"{name:>{width}}" for name, width in COLUMNS.items()) + "   evals   exact  95 %"]
    for r in rows:
        low, high = r["ci"]
        described = "".join(f"{_short(r.get(name)):>{width}}" for name, width in COLUMNS.items())
        figures = f"{r['evaluations']:>8.2f}{100 * r['accuracy']:>7.2f}%  {100 * low:.2f} to {100 * high:.2f}"
        lines.append(described + figures)
    return "\n".join(lines)


def _short(value) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2048, help="scenes of the test split")
    parser.add_argument("--m", type=int, default=1024, help="scenes of the calibration split")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--earlier", type=Path, help="an earlier result, which stays for a single try: only what is new is measured"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/adaptive"), help="what is made is kept here")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    calibration = Stage("calibration", arguments.m, arguments.device, arguments.work)
    stage = Stage("test", arguments.n, arguments.device, arguments.work)
    bootstrap = Bootstrap(len(stage.scenes))
    tried = tries_rows(stage, calibration)
    if arguments.earlier:
        result = json.loads(arguments.earlier.read_text(encoding="utf-8"))
        for name in ("rows", "comparisons"):
            result[name] = [each for each in result[name] if each["method"] not in NOT_OF_A_SINGLE_TRY]
        points = chosen_before(result)
    else:
        points = chosen(calibration)
        measured = rows_for(stage, points)
        result = {
            "rows": figures(measured, bootstrap),
            "full_steps": calibration.full_steps,
            "comparisons": comparisons(stage, measured, calibration.full_steps, bootstrap),
            "roc": {str(n): roc(stage.student(n)) for n in STUDENT_STEPS},
            "seconds_per_image": seconds_per_image(stage),
            "points": [asdict(point) for point in points],
            "settings": {"n": arguments.n, "m": arguments.m, "device": arguments.device, "cfg": CFG},
        }
    rows, full_steps = result["rows"], result["full_steps"]
    best_steps = max((row for row in rows if row["method"] == "teacher"), key=lambda row: row["accuracy"])["steps"]
    rows += figures(tried, bootstrap)
    compared = result["comparisons"]
    compared += tries_comparisons(stage, tried, points, best_steps, bootstrap)
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
