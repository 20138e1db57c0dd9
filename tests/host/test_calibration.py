"""Calibrations on disk: an image counts once, other settings are refused, too few scores are an error."""

import io
import json
from dataclasses import replace

from PIL import Image
from understudy.oracles.calibration import Calibration

from .checkpoints import CLIP
from .graphs import THRESHOLD, Graph


class Calibrating(Graph):
    """Random images are scored, counted into the calibration, and judged by its percentile, or as other widgets say."""

    def __init__(self, name, *, seed, count, width=64, percentile=None, **other):
        super().__init__()
        images = self.add("TestNoiseImages", seed=seed, first=0, count=count, width=width, height=64, channels=3)
        oracle = self.add("UnderstudyLoadOracle", oracle_name=CLIP, family="auto")
        scores = self.add("UnderstudyScoreImages", oracle=oracle[0], images=images[0], prompt="noise")
        self.calibrate = self.add("UnderstudyCalibrate", scores=scores[0], name=name)
        self.asked = self.calibrate
        if percentile is not None or other:
            chosen = other or {"mode": "percentile", "percentile": percentile}
            widgets = {**THRESHOLD, "calibration": name, **chosen}
            self.asked = self.add("UnderstudyThreshold", **widgets, scores=self.calibrate[0])
            self.add("TestAsk", anything=self.asked[0])


def folder(host):
    return host.base / "user" / "understudy" / "calibrations"


def said(host, graph):
    """The text under the last node."""
    return " ".join(host.run(graph).outputs[graph.asked]["text"])


def test_scores_add_up_and_an_image_counts_once(host):
    name = "counting"
    assert "12 new, 12 in all" in said(host, Calibrating(name, seed=1, count=12))
    host.forget()
    assert "0 new, 12 in all" in said(host, Calibrating(name, seed=1, count=12))
    assert "12 new, 24 in all" in said(host, Calibrating(name, seed=2, count=12))


def test_a_percentile_of_too_few_scores_is_an_error(host):
    run = host.attempt(Calibrating("too few", seed=3, count=8, percentile=50.0))
    assert run.error_node and "8 scores" in run.error and "worst_fraction" in run.error


def test_a_percentile_rejects_about_its_share(host):
    text = said(host, Calibrating("a share", seed=4, count=40, percentile=25.0))
    assert "25 %" in text
    assert "of these 40 images: 10" in text


def test_a_budget_rejects_what_it_pays_for_and_the_worst_n_so_many(host):
    budget = {"mode": "budget", "student_evaluations": 4.0, "teacher_evaluations": 40.0}
    for evaluations, percentile, sent in ((14.0, 25, 10), (6.0, 5, 2)):
        text = said(host, Calibrating("a budget", seed=4, count=40, budget=evaluations, **budget))
        assert f"(percentile {percentile}); budget {evaluations:g}: 4 for each student, 40 for each redone" in text
        assert f"of these 40 images: {sent}, {evaluations:g} evaluations an image" in text
    timed = said(host, Calibrating("a budget", seed=4, count=40, seconds_per_evaluation=0.5, budget=6.0, **budget))
    assert "about 3 s, an image" in timed and f"of these 40 images: {sent}," in timed
    run = host.attempt(Calibrating("a budget", seed=4, count=40, budget=2.0, **budget))
    assert "budget is 2 evaluations an image, and the student alone takes 4" in run.error
    text = said(host, Calibrating("a budget", seed=4, count=40, mode="worst_n", worst_n=3))
    assert "sends the worst 3" in text and "of these 40 images: 3" in text


def test_thresholds_of_one_mode_each_send_as_many(host):
    graph = Calibrating("one mode", seed=14, count=40)
    asked = {}
    for node, sent, widgets in (
        ("Percentile", 10, {"percentile": 25.0, "calibration": "one mode"}),
        (
            "Budget",
            10,
            {"budget": 14.0, "student_evaluations": 4.0, "teacher_evaluations": 40.0, "calibration": "one mode"},
        ),
        ("Fixed", 40, {"value": 10000.0}),
        ("Worst", 3, {"worst_n": 3}),
    ):
        own = graph.add(f"UnderstudyThreshold{node}", **widgets, scores=graph.calibrate[0])
        graph.add("TestAsk", anything=own[0])
        asked[own] = sent
    run = host.run(graph)
    for own, sent in asked.items():
        assert f"of these 40 images: {sent}" in run.outputs[own]["text"][0]


def test_other_settings_are_refused_and_the_difference_is_spelled_out(host):
    name = "settings"
    said(host, Calibrating(name, seed=5, count=8))
    run = host.attempt(Calibrating(name, seed=6, count=8, width=96))
    assert "width" in run.error and "64" in run.error and "96" in run.error


def test_a_linked_calibration_that_grew_is_read_again(host):
    name = "linked"
    said(host, Calibrating(name, seed=8, count=24))
    graph = Graph()
    link = graph.add("TestAnything", text=name)
    widgets = {**THRESHOLD, "mode": "percentile", "percentile": 50.0, "calibration": link[0]}
    threshold = graph.add("UnderstudyThreshold", **widgets)
    oracle = graph.add("UnderstudyLoadOracle", oracle_name=CLIP, family="auto")
    parts = {f"{key}_{part}": value for part in "ab" for key, value in
             {"oracle": oracle[0], "calibration": link[0], "weight": 1.0, "veto": 0.0}.items()}  # fmt: skip
    combined = graph.add("UnderstudyCombineOracles", **parts)
    for node in (threshold, combined):
        graph.add("TestAsk", anything=node[0])
    before = host.run(graph).outputs[threshold]["text"]
    assert not {threshold, combined} & set(host.run(graph).executed)
    path = host.base / "user" / "understudy" / "calibrations" / f"{name}.json"
    table = Calibration.load(path)
    more = {f"more {k}": 100.0 for k in range(24)}
    replace(table, scores_by_image=table.scores_by_image | more).save(path)
    run = host.run(graph)
    assert {threshold, combined} <= set(run.executed)
    assert run.outputs[threshold]["text"] != before


def test_an_unknown_calibration_is_named(host):
    graph = Calibrating("known", seed=7, count=8)
    widgets = {**THRESHOLD, "mode": "percentile", "calibration": "nobody made this"}
    graph.add("TestAsk", anything=graph.add("UnderstudyThreshold", **widgets)[0])
    run = host.attempt(graph)
    assert "nobody made this" in run.error


def test_a_calibration_that_was_deleted_is_begun_again_by_the_same_graph(host):
    name = "begun again"
    graph = Calibrating(name, seed=8, count=24, percentile=50.0)
    for _ in range(2):  # at once, and after a run that counted nothing new
        for _ in range(2):
            host.run(graph)
        (folder(host) / f"{name}.json").unlink()
        assert "24 new, 24 in all" in " ".join(host.run(graph).outputs[graph.calibrate]["text"])
        (folder(host) / f"{name}.json").unlink()


def test_scores_are_counted_into_a_calibration_that_another_graph_began(host):
    name = "another"
    host.run(graph := Calibrating(name, seed=9, count=24))
    host.run(graph)
    (folder(host) / f"{name}.json").unlink()
    other = Calibrating("elsewhere", seed=10, count=24)
    host.run(other)
    (folder(host) / "elsewhere.json").rename(folder(host) / f"{name}.json")
    assert "24 new, 48 in all" in said(host, graph)


def test_a_linked_name_notices_the_deletion_too(host):
    graph = Calibrating("", seed=11, count=4)
    graph.set(graph.calibrate, name=graph.add("PrimitiveString", value="by a link")[0])
    for _ in range(2):
        assert "4 new, 4 in all" in said(host, graph)
        (folder(host) / "by a link.json").unlink()


def test_names_are_of_any_script_and_others_are_refused_before_anything_runs(host):
    for name in ("мой ученик", "学生 4", "e\u0301te\u0301"):
        assert "2 new, 2 in all" in said(host, Calibrating(name, seed=12, count=2))
    names = {path.stem for path in folder(host).glob("*.json")}
    assert {"мой ученик", "学生 4", "\xe9t\xe9"} <= names
    for name in ("../x", "aux", "a:b", ""):
        run = host.attempt(Calibrating(name, seed=13, count=2))
        assert not run.executed and f"calibration name {name!r}" in run.error


class Judged(Graph):
    """Random images, 96 pixels wide, judged by a calibration that they are not counted into; a receipt of it."""

    def __init__(self, name, seed, **widgets):
        super().__init__()
        images = self.add("TestNoiseImages", seed=seed, first=0, count=4, width=96, height=64, channels=3)
        oracle = self.add("UnderstudyLoadOracle", oracle_name=CLIP, family="auto")
        scores = self.add("UnderstudyScoreImages", oracle=oracle[0], images=images[0], prompt="noise")
        chosen = {**THRESHOLD, "mode": "percentile", "percentile": 50.0, "calibration": name, **widgets}
        self.threshold = self.add("UnderstudyThreshold", **chosen, scores=scores[0])
        self.shown = self.add("UnderstudyShowCalibration", calibration=name, scores=scores[0])
        given = {"images": images[0], "scores": scores[0], "threshold": self.threshold[0]}
        self.receipt = self.add("UnderstudyReceipt", images_before=images[0], **given)


def test_a_threshold_of_other_settings_lists_them_and_is_accepted_where_told_and_the_receipt_says_so(host):
    said(host, Calibrating("narrower", seed=20, count=60))
    line = "TestNoiseImages.width: calibration has 64, this student has 96"
    run = host.attempt(Judged("narrower", seed=21))
    assert run.error_type == "ValueError" and f"\n- {line}\n" in run.error and "accept_other_settings" in run.error
    graph = Judged("narrower", seed=21, accept_other_settings=True)
    run = host.run(graph)
    for node in (graph.threshold, graph.receipt):
        (told,) = (each for each in " ".join(run.outputs[node]["text"]).splitlines() if "accepted" in each)
        assert told.startswith("calibration 'narrower' was made with other settings, which was accepted: ")
        assert line in told
    assert f"\n- {line}" in run.outputs[graph.shown]["text"][0].partition("these scores were made otherwise:")[2]


def test_a_calibration_is_shown_after_the_scores_of_this_run(host):
    graph = Calibrating("shown", seed=22, count=60)
    show = graph.add("UnderstudyShowCalibration", calibration="shown", scores=graph.calibrate[0])
    graph.add("PreviewImage", images=show[0])
    texts, pictures = [], []
    for seed in (22, 23):
        graph.set("1", seed=seed)
        run = host.run(graph)
        texts.append(run.outputs[show]["text"][0])
        (entry,) = run.outputs[show]["images"]
        pictures.append(Image.open(io.BytesIO(host.image(entry))))
    assert texts[0].startswith("shown: 60 scores, ") and texts[1].startswith("shown: 120 scores, ")
    assert "percentile 30 is " in texts[0] and "(95 %: " in texts[0] and "these scores were made alike" in texts[0]
    assert pictures[0].size == pictures[1].size and pictures[0].tobytes() != pictures[1].tobytes()
    host.run(graph)  # for which the calibration has changed once more
    assert show in host.run(graph).cached


def test_calibrations_are_renamed_exported_imported_and_reset(host):
    said(host, Calibrating("to be managed", seed=24, count=24))

    def manage(action, calibration, name=""):
        graph = Graph()
        node = graph.add("UnderstudyManageCalibration", action=action, calibration=calibration, name=name)
        run = host.attempt(graph)
        return run.error or run.outputs[node]["text"][0]

    assert "to be managed is now managed" in manage("rename", "to be managed", "managed")
    assert "managed is in " in manage("export", "managed")
    exported = host.base / "output" / "understudy" / "managed.json"
    assert Calibration.load(exported).n == 24
    assert "type exactly that name to confirm; got 'yes'" in manage("reset", "managed", "yes")
    assert (folder(host) / "managed.json").is_file()
    assert "managed begins anew" in manage("reset", "managed", "managed")
    assert not (folder(host) / "managed.json").exists() and (folder(host) / "managed.json.bak").is_file()
    content = json.loads(exported.read_text(encoding="utf-8"))
    (host.base / "input" / "brought.json").write_text(json.dumps(content | {"name": "brought"}), encoding="utf-8")
    assert "brought: 24 scores" in manage("import", "none", "brought.json")
    assert Calibration.load(folder(host) / "brought.json").scores_by_image == content["scores_by_image"]
    (host.base / "input" / "workflow.json").write_text("{}", encoding="utf-8")
    assert "workflow.json is not a calibration" in manage("import", "none", "workflow.json")
    assert not (folder(host) / "workflow.json").exists()
    choices = host.object_info()["UnderstudyManageCalibration"]["input"]["required"]["calibration"]
    assert "brought" in str(choices) and "'managed'" not in str(choices)
