"""Two ways of doing the same work, measured in turns: what the benches in real hosts share.

Both ways take their turns in one server, so that what else the machine does meets them alike. A report is written row
by row, and a bench goes on with an earlier one's: with rows that it lacks, and pairs that a row lacks.
"""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"
RESAMPLES = 10_000


class Turns(NamedTuple):
    """seconds: of each way, in the order in which they were measured. ratio: the first way's to the second's."""

    seconds: dict[str, list[float]]
    ratio: float
    interval: list[float]


def in_turns(
    found: dict[str, list[float]], count: int, seconds_of: Callable[[str], float], progress: Callable
) -> Turns:
    """Pairs of two ways until there are ``count``, each in the other order than the one before.

    found: the ways, each with the seconds that are known already. A first pair, to warm up, is not counted.
    """
    ways, known = list(found), min(map(len, found.values()))
    seconds = {way: list(found[way]) for way in ways}
    for pair in range(known - 1, count):
        for way in ways[:: 1 if pair % 2 else -1]:
            progress(f"to warm up: {way}" if pair < known else f"pair {pair + 1}: {way}")
            took = seconds_of(way)
            if pair >= known:
                seconds[way].append(round(took, 3))
    return Turns(seconds, *median_with_interval([a / b for a, b in zip(*seconds.values(), strict=True)]))


def median_with_interval(ratios: Sequence[float]) -> tuple[float, list[float]]:
    """The median and its 95 % interval by bootstrap over the pairs."""
    draws = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return statistics.median(ratios), [float(low), float(high)]


def options_of(said: str, name: str) -> argparse.Namespace:
    """The command's. said: the bench's docstring; name: of its results' file."""
    parser = argparse.ArgumentParser(description=said.splitlines()[0])
    parser.add_argument(
        "--pairs", type=int, default=10, help="measured pairs for each comparison, earlier ones counted"
    )
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--out", type=Path, default=RESULTS / name)
    parser.add_argument("--resume", action="store_true", help="keep the pairs that the file has")
    return parser.parse_args()


def begun(host: str, options: argparse.Namespace, settings: dict) -> dict:
    """A report, without rows or with those of an earlier run; SystemExit where that was made otherwise."""
    report = {
        "host": host,
        "machine": {"system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count()},
        "settings": {"side": options.side, **settings},
        "rows": [],
    }
    if options.resume and options.out.exists():
        before = json.loads(options.out.read_text())
        if other := [key for key in report if key != "rows" and before.get(key) != report[key]]:
            raise SystemExit(
                f"{options.out} was measured with other {', '.join(other)}: repeat its options, name another --out, or "
                "leave --resume out to replace it"
            )
        report["rows"] = before["rows"]
    return report


def measure(comparisons: Sequence, report: dict, options: argparse.Namespace, ways: Sequence[str], row_of: Callable):
    """Adds the rows that the report lacks, and puts others in the place of those with fewer pairs; each is written when
    it is measured.

    comparisons: NamedTuples whose fields their rows have. row_of(comparison, found): the rest of the row; found: as
    :func:`in_turns` takes it.
    """
    for comparison in comparisons:
        key = comparison._asdict()
        row = next((row for row in report["rows"] if key.items() <= row.items()), None)
        found = row["seconds"] if row else {way: [] for way in ways}
        if len(found[ways[0]]) >= options.pairs:
            continue
        if row is None:
            report["rows"].append(row := {})
        new = {**key, **row_of(comparison, found)}
        row.update(new)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")


def shown(row: dict, ways: Sequence[str]) -> list[str]:
    """A row's cells: the median seconds of each way, and the ratio."""
    medians = [f"{statistics.median(row['seconds'][way]):.2f}" for way in ways]
    return [*medians, f"{row['ratio']:.3f} ({row['interval'][0]:.3f} to {row['interval'][1]:.3f})"]
