"""The receipt for programs: what became of each image, as JSON and as a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from ..files import write_whole
from ..oracles.threshold import Threshold
from .receipt import Row
from .report import finite


def facts_of(row: Row, oracle: str | None) -> dict:
    """What is written into an image's own file. An infinite number is None, as JSON has no word for it."""
    return {
        "decision": row.decision,
        "score": finite(row.score),
        "score_after": finite(row.score_after),
        "threshold": finite(row.threshold),
        "evaluations": row.evaluations,
        "tries": row.tries,
        "prompt": row.prompt,
        "oracle": oracle,
    }


def record_of(
    rows: Sequence[Row], totals: Sequence[str], rule: Threshold, oracle: str | None, files: Sequence[str | None]
) -> dict:
    """A run's receipt. ``files``: the name of each image's file; None where it is not saved."""
    return {
        "report": list(totals),
        "threshold": {"rule": rule.rule, "calibration": rule.calibration},
        "images": [
            {"image": number, "file": file, **facts_of(row, oracle)}
            for number, (row, file) in enumerate(zip(rows, files, strict=True), start=1)
        ],
    }


def write_record(path: Path, record: dict) -> None:
    """Write a record as ``path`` with the ending .json, and its images as a table with the ending .csv."""
    write_whole(path.with_suffix(".json"), json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    text = StringIO()
    writer = csv.DictWriter(text, list(record["images"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(record["images"])
    write_whole(path.with_suffix(".csv"), text.getvalue())
