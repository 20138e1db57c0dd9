"""The receipt for programs says what the picture says."""

import csv
import json
import math

import torch
from understudy.oracles.threshold import Threshold
from understudy.receipts.receipt import Row
from understudy.receipts.record import record_of, write_record

IMAGE = torch.zeros(2, 2, 3)


def row(decision, score, after, prompt):
    return Row(IMAGE, IMAGE, decision, score, after, 12, prompt, threshold=0.5)


def test_json_and_table_have_a_line_for_each_image(tmp_path):
    prompts = ['a "cat", 猫', "قطة\nred"]
    rows = [row("refined", 0.1, 0.7, prompts[0]), row("kept", -math.inf, None, prompts[1])]
    record = record_of(rows, ["one of two", "more"], Threshold.fixed(0.5), "ab12", ["a.png", None])
    write_record(tmp_path / "x_receipt_00001_.png", record)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x_receipt_00001_.csv", "x_receipt_00001_.json"]
    read = json.loads((tmp_path / "x_receipt_00001_.json").read_text(encoding="utf-8"))
    assert read["report"] == ["one of two", "more"] and read["threshold"]["rule"] == "scores below 0.500"
    assert read["images"][0] == {
        "image": 1,
        "file": "a.png",
        "decision": "refined",
        "score": 0.1,
        "score_after": 0.7,
        "threshold": 0.5,
        "evaluations": 12,
        "tries": None,
        "prompt": prompts[0],
        "oracle": "ab12",
    }
    with open(tmp_path / "x_receipt_00001_.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [each["prompt"] for each in table] == prompts and [each["image"] for each in table] == ["1", "2"]
    assert (table[1]["score"], table[1]["score_after"], table[1]["file"]) == ("", "", "")
