"""Thresholds of one mode each: the widgets of that mode alone, and what Score threshold makes of them."""

from types import SimpleNamespace

import pytest
from understudy.nodes import CLASSES
from understudy.oracles.calibration import Calibration
from understudy.oracles.scores import Scores

OF = {
    "UnderstudyThresholdPercentile": ("percentile", ["percentile", "calibration", "accept_other_settings"]),
    "UnderstudyThresholdBudget": (
        "budget",
        [
            *["calibration", "budget", "student_evaluations", "teacher_evaluations", "seconds_per_evaluation"],
            "accept_other_settings",
        ],
    ),
    "UnderstudyThresholdFixed": ("fixed", ["value"]),
    "UnderstudyThresholdWorst": ("worst_n", ["worst_n"]),
}


def test_each_has_its_mode_s_widgets_as_score_threshold_has_them(schema_of):
    assert list(OF) == list(CLASSES["thresholds"])
    whole = {each.id: each for each in schema_of("UnderstudyThreshold").inputs}
    for node, (_, widgets) in OF.items():
        own = schema_of(node).inputs
        assert [each.id for each in own if each.id != "scores"] == widgets
        for each in own:
            assert each.default == whole[each.id].default and not each.advanced
            assert not each.tooltip.startswith("Mode") and each.tooltip.lower() in whole[each.id].tooltip.lower()


@pytest.mark.parametrize("node", OF)
def test_each_makes_what_score_threshold_makes_in_that_mode(without_host, monkeypatch, tmp_path, node):
    from understudy.nodes import folders, thresholds
    from understudy.nodes.threshold import UnderstudyThreshold

    monkeypatch.setattr(folders, "calibrations_folder", lambda: tmp_path)
    Calibration("mine", {str(i): float(i) for i in range(80)}, {"steps": 4}, "f" * 64, "").save(tmp_path / "mine.json")
    mode, names = OF[node]
    values = {
        **{"percentile": 40.0, "calibration": "mine", "accept_other_settings": True, "value": 3.0, "worst_n": 1},
        **{"budget": 8.0, "student_evaluations": 4.0, "teacher_evaluations": 20.0, "seconds_per_evaluation": 0.5},
    }
    given = {name: [values[name]] for name in names}
    scores = [Scores((1.0, 70.0), ("", ""), "f" * 64, ("", ""), {"steps": 8})]
    own = getattr(thresholds, node)
    own.hidden = UnderstudyThreshold.hidden = SimpleNamespace(unique_id="1")
    (threshold,) = own.execute(scores=scores, **given)
    others = {"percentile": [30.0], "value": [0.0], "fraction": [0.25], "calibration": ["none"]}
    (whole,) = UnderstudyThreshold.execute(scores=scores, **{**others, "mode": [mode], **given})
    assert threshold == whole and threshold.mode == mode and threshold.rejected([1.0, 70.0]) == [True, False]
    if "calibration" not in names:
        return
    before = own.fingerprint_inputs(**given)
    table = Calibration.load(tmp_path / "mine.json")
    table.scores_by_image["new"] = 1.0
    Calibration("mine", table.scores_by_image, table.settings, table.oracle, "").save(tmp_path / "mine.json")
    assert own.fingerprint_inputs(**given) != before, "a calibration that grew"
