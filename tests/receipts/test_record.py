"""The receipt for programs says what the picture says."""

import csv
import json
import math
from dataclasses import replace

import torch
from understudy.oracles.calibration import Calibration
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


def test_each_image_has_its_own_facts_in_both_and_the_record_its_calibration(tmp_path):
    table = Calibration("mine", {str(k): k / 100 for k in range(100)}, {}, "f" * 64, "")
    made = replace(row("refined", 0.1, 0.7, "a cat"), evaluations=7, tries=3)
    record = record_of(
        [made, row("kept", 0.9, None, "a dog")], ["one"], Threshold.percentile(table, 30), "ab", ["a", "b"]
    )
    write_record(tmp_path / "x.png", record)
    assert record["threshold"]["calibration"] == "mine"
    assert [(each["evaluations"], each["tries"]) for each in record["images"]] == [(7, 3), (12, None)]
    with open(tmp_path / "x.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    told = [{name: "" if value is None else str(value) for name, value in each.items()} for each in record["images"]]
    assert table == told
