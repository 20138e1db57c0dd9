"""The report in words."""

import importlib

import torch
from understudy.nodes.report import Row
from understudy.oracles.threshold import Threshold


def test_the_teacher_was_needed_where_it_redid_an_image_whatever_was_counted(without_host):
    totals = importlib.import_module("understudy.nodes.receipt")._totals

    def said(decision, evaluations):
        pixels = torch.zeros(8, 8, 3)
        rows = [Row(pixels, pixels, each, 0.5, None, 0, "") for each in ("kept", "kept")]
        rows.append(Row(pixels, pixels, decision, 0.1, None, evaluations, ""))
        return "\n".join(totals(rows, Threshold.fixed(0.3), 0.3, 1.0))

    assert "not needed" in said("kept", 0)
    for decision in ("refined", "regenerated", "reverted"):
        for evaluations in (0, 12):
            text = said(decision, evaluations)
            assert f"{evaluations} network evaluations" in text and "for 1 of 3 images" in text
            assert f"would have been {3 * evaluations}" in text and "not needed" not in text
