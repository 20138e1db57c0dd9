"""What the Receipt node saves, shows and hands on."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from PIL import Image
from understudy.oracles.calibration import Calibration
from understudy.oracles.scores import Scores
from understudy.oracles.threshold import Threshold
from understudy.receipts.receipt import Receipt
from understudy.samplers.decisions import KEPT, REFINED

WORKFLOW = {"nodes": [1, 2]}


class Node:
    """The node in folders of its own; each run returns its outputs, and ``ui`` is the last one's."""

    def __init__(self, module, host, folder):
        self.module, self.host, self.folder = module, host, folder
        self.node = module.UnderstudyReceipt
        self.node.hidden = SimpleNamespace(prompt={"1": "node"}, extra_pnginfo={"workflow": WORKFLOW})

    def __call__(self, before, after, values, **widgets):
        count = len(values)
        asked = tuple(KEPT if one.equal(other) else REFINED for one, other in zip(before, after, strict=True))
        given = {
            "images": [torch.stack(after)],
            "images_before": [torch.stack(before)],
            "scores": [Scores(tuple(values), ("",) * count, "oracle", tuple(f"prompt {k}" for k in range(count)))],
            "threshold": [widgets.pop("threshold", Threshold.fixed(0.5))],
            "receipt": [Receipt(asked, tuple(0 if word == KEPT else 12 for word in asked), 1.5)],
        }
        return self.node.execute(**given, **{name: [value] for name, value in widgets.items()})

    def files(self, ending=".png", under="output"):
        return sorted(path.name for path in (self.folder / under).rglob(f"*{ending}"))

    def text(self, name):
        with Image.open(self.folder / "output" / "understudy" / name) as picture:
            return picture.text


@pytest.fixture
def node(without_host, monkeypatch, tmp_path):
    def place(prefix, root, width, height):
        folder = Path(root, prefix).parent
        folder.mkdir(parents=True, exist_ok=True)
        name = Path(prefix).name
        taken = [path.name.removeprefix(f"{name}_").split("_")[0] for path in folder.glob(f"{name}_*")]
        number = 1 + max((int(each) for each in taken if each.isdigit()), default=0)
        return str(folder), name, number, str(Path(prefix).parent), prefix

    host = ModuleType("folder_paths")
    host.get_output_directory, host.get_temp_directory = (
        lambda: str(tmp_path / "output"),
        lambda: str(tmp_path / "temp"),
    )
    host.get_save_image_path = place
    options = ModuleType("comfy.cli_args")
    options.args = SimpleNamespace(disable_metadata=False)
    monkeypatch.setitem(sys.modules, "folder_paths", host)
    monkeypatch.setitem(sys.modules, "comfy.cli_args", options)
    latest = sys.modules["comfy_api.latest"]
    latest.io.NodeOutput = lambda *outputs, ui: SimpleNamespace(outputs=outputs, ui=ui)
    latest.io.FolderType = SimpleNamespace(temp="temp", output="output")
    latest.ui.SavedResult = lambda *parts: parts
    latest.ui.SavedImages = lambda files: SimpleNamespace(as_dict=lambda: {"images": files})
    from understudy.nodes import receipt

    return Node(receipt, options.args, tmp_path)


def pictures(count, seed=0):
    return list(torch.rand(count, 8, 8, 3, generator=torch.Generator().manual_seed(seed)))


def test_kept_images_are_written_once_however_often_they_come(node):
    before = pictures(4)
    for run in range(3):
        made = pictures(1, seed=run + 1)
        output = node(before, [made[0], *before[1:]], [0.1, 0.6, 0.7, 0.8], threshold=Threshold.fixed(0.5 + run / 100))
    images = [name for name in node.files() if "receipt" not in name]
    assert len(images) == 3 + 3
    assert len(node.files(".json")) == len(node.files(".csv")) == 3
    assert output.ui["text"][0].endswith("saved: 1 images, and 3 that are there already")
    # Each report says which files are its images, new or not.
    read = [json.loads((node.folder / "output/understudy" / name).read_text()) for name in node.files(".json")]
    named = [[image["file"] for image in record["images"]] for record in read]
    assert named[0][1:] == named[1][1:] == named[2][1:] and len({each[0] for each in named}) == 3
    assert {name for each in named for name in each} == set(images)
    assert [record["images"][0]["threshold"] for record in read] == [0.5, 0.51, 0.52]
    assert len(output.ui["saved"]) == 4 and len(output.ui["images"]) == 1


@pytest.mark.parametrize("what", ["pixels", "score", "gone", "cut off", "painted over", "no metadata", "prefix"])
def test_what_is_not_the_same_is_written(node, what):
    before, values, widgets = pictures(1), [0.6], {}
    node(before, before, values)
    node(before, before, values)
    (first,) = (name for name in node.files() if "receipt" not in name)
    path = node.folder / "output" / "understudy" / first
    if what == "pixels":
        before[0][0, 0, 0] = 1 - before[0][0, 0, 0]
    if what == "score":
        values = [0.7]
    if what == "gone":
        path.unlink()
    if what == "cut off":
        path.write_bytes(path.read_bytes()[:-200])
    if what == "painted over":
        Image.new("RGB", (8, 8)).save(path)
    if what == "no metadata":
        node.host.disable_metadata = True
    if what == "prefix":
        widgets["filename_prefix"] = "understudy/other"
    output = node(before, before, values, **widgets)
    assert output.ui["text"][0].endswith("saved: 1 images, and 0 that are there already")
    images = [name for name in node.files() if "receipt" not in name]
    assert len(images) == (1 if what == "gone" else 2)


@pytest.mark.parametrize(
    ("save", "images", "reports"), [("all", 3, 1), ("redone", 1, 1), ("report only", 0, 1), ("preview only", 0, 0)]
)
def test_what_is_saved(node, save, images, reports):
    before = pictures(3)
    after = [before[0], *pictures(1, seed=1), before[2]]
    output = node(before, after, [0.6, 0.1, 0.7], save=save)
    names = node.files()
    assert [len(node.files(ending)) for ending in (".json", ".csv")] == [reports] * 2
    assert sum("receipt" in name for name in names) == reports and len(names) == images + reports
    assert node.files(under="temp") == ([] if reports else ["image_receipt_00001_.png"])
    (shown,) = output.ui["images"]
    assert shown[2] == ("output" if reports else "temp") and shown[1] == "understudy"
    if save == "redone":
        (name,) = (name for name in names if "receipt" not in name)
        assert json.loads(node.text(name)["understudy"])["decision"] == "refined"


def test_of_the_redone_what_was_put_back_is_not_saved(node):
    before, made = pictures(2), pictures(1, seed=1)
    images, final = [torch.stack(before)], [torch.stack([before[0], made[0]])]
    scores, receipt = [Scores((0.1, 0.2), ("",) * 2, None, ("",) * 2)], [Receipt((REFINED,) * 2, (12,) * 2, 1.0)]
    output = node.node.execute(final, images, scores, [Threshold.fixed(0.5)], receipt, save=["redone"])
    assert len(output.ui["saved"]) == 1 and len([name for name in node.files() if "receipt" not in name]) == 1


def test_the_threshold_s_calibration_is_drawn(node, monkeypatch):
    asked, real = [], node.module.report_picture
    monkeypatch.setattr(
        node.module, "report_picture", lambda *given, **more: asked.append(given[2]) or real(*given, **more)
    )
    rule = Threshold.percentile(Calibration("mine", {str(k): k / 100 for k in range(100)}, {}, "f" * 64, ""), 30)
    before = pictures(1)
    node(before, before, [0.6], threshold=rule, save="preview only")
    assert asked == [rule.distribution] and rule.distribution


def test_the_picture_has_the_headline_and_what_to_know_of_and_the_files_have_every_line(node, monkeypatch):
    drawn, real = [], node.module.report_picture
    monkeypatch.setattr(
        node.module, "report_picture", lambda *given, **more: drawn.append(given[1]) or real(*given, **more)
    )
    before = pictures(2)
    after = [*pictures(1, seed=1), before[1]]
    for threshold in (0.5, 0.05):
        node(before, after, [0.1, 0.6], threshold=Threshold.fixed(threshold))
        lines = json.loads(node.text(node.files()[-1])["understudy"])["report"]
        assert {*drawn[-1]} < {*lines} and drawn[-1][0] == lines[0]
        assert any("for all of them it would have been 24" in line for line in lines)
    headline = "teacher ran on 1 of 2; 50 % of its work saved; 1.5 s"
    other = "Teacher chose other images than this threshold does: it had another threshold or other scores"
    assert drawn == [[headline], [headline, other]]


def test_each_image_has_the_workflow_and_its_own_facts_unless_the_host_was_told_not_to(node):
    before = pictures(2)
    after = [*pictures(1, seed=1), before[1]]
    node(before, after, [0.1, 0.6])
    for name, decision, score in zip(node.files()[:2], ("refined", "kept"), (0.1, 0.6), strict=True):
        text = node.text(name)
        assert json.loads(text["workflow"]) == WORKFLOW and json.loads(text["prompt"]) == {"1": "node"}
        facts = json.loads(text["understudy"])
        assert (facts["decision"], facts["score"], facts["threshold"]) == (decision, score, 0.5)
        assert facts["prompt"].startswith("prompt") and facts["oracle"] == "oracle"
    report = json.loads(node.text("image_receipt_00001_.png")["understudy"])
    assert report["report"][0] == "teacher ran on 1 of 2; 50 % of its work saved; 1.5 s"
    node.host.disable_metadata = True
    node(before, after, [0.1, 0.6], filename_prefix="understudy/bare")
    assert all(node.text(name) == {} for name in node.files() if name.startswith("bare"))


def test_images_are_handed_on_and_the_report_with_them(node):
    before = pictures(2)
    after = [*pictures(1, seed=1), before[1]]
    looks = {}
    for look in ("dark", "light"):
        images, report = node(before, after, [0.1, 0.6], save="preview only", look=look).outputs
        assert torch.equal(images[0], torch.stack(after))
        assert report.shape[0] == 1 and report.shape[3] == 3 and 0 <= report.min() < report.max() <= 1
        looks[look] = report
    assert looks["dark"].mean() < 0.5 < looks["light"].mean() and looks["dark"].shape == looks["light"].shape


def test_the_teacher_s_images_are_shown_where_they_were_put_back(node):
    before = pictures(2)
    images, rule = [torch.stack(before)], [Threshold.fixed(0.5)]
    scores, receipt = [Scores((0.1, 0.6), ("",) * 2, None, ("",) * 2)], [Receipt((REFINED, KEPT), (12, 0), 1.0)]
    reports, asked = [], []
    for teacher in (None, [torch.stack([*pictures(1, seed=1), before[1]])]):
        output = node.node.execute(images, images, scores, rule, receipt, images_teacher=teacher, save=["preview only"])
        reports.append(output.outputs[1])
        asked.append("connect images_teacher" in output.ui["text"][0])
    assert asked == [True, False] and not (reports[0].shape == reports[1].shape and torch.equal(*reports))
    with pytest.raises(ValueError, match="1 images_teacher for 2 images_before"):
        node.node.execute(images, images, scores, rule, receipt, images_teacher=[torch.stack(before[:1])])


@pytest.mark.parametrize("prefix", ["", "  ", "understudy/"])
def test_a_prefix_without_a_name_is_refused_before_anything_is_written(node, prefix):
    before = pictures(1)
    with pytest.raises(ValueError, match="filename_prefix is .*expected a name"):
        node(before, before, [0.6], filename_prefix=prefix)
    assert node.files() == node.files(".json") == []


def test_an_infinite_score_leaves_the_metadata_json(node):
    before = pictures(2)
    node(before, before, [float("-inf"), 1.0], threshold=Threshold.worst_fraction(0.0))
    facts = [json.loads(node.text(name)["understudy"]) for name in node.files()]
    assert [each["score"] for each in facts[:2]] == [None, 1.0]
    assert [each["score"] for each in json.loads(node.text("image_receipt_00001_.png")["understudy"])["images"]] == [
        None,
        1.0,
    ]
