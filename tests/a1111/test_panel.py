"""The panel's words and what its buttons do, without a browser."""

import json
import re
import sys
import threading
from dataclasses import fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from understudy.a1111 import fetch, infotext, student, summary, words
from understudy.a1111.choices import Choices, RefusedChoice
from understudy.files import save_tensors, sha256
from understudy.files.student_file import StudentFile
from understudy.oracles.family import Published
from understudy.samplers import decisions

LOCALIZATIONS = sorted((Path(__file__).parents[2] / "localizations").glob("*.json"))


@pytest.mark.parametrize("path", LOCALIZATIONS, ids=lambda path: path.stem)
def test_every_text_of_the_panel_is_translated(path):
    texts = json.loads(path.read_text(encoding="utf-8"))
    assert list(texts) == words.every()
    assert all(value.strip() == value != "" for value in texts.values())
    # The host leaves pictographs and numbers as they are.
    assert not [text for text in texts if re.search("[\U0001f300-\U0001faff]", text) or re.fullmatch(r"[.\d]+", text)]


def test_there_are_the_languages_that_were_promised():
    assert {path.stem for path in LOCALIZATIONS} == {"zh_CN", "ja_JP", "ko_KR", "fr_FR", "ru_RU"}


def test_each_choice_has_a_label_and_a_tooltip_and_comes_first_to_last(a1111):
    assert {*words.WIDGETS, "enabled"} == {field.name for field in fields(Choices)}
    scripts = a1111.get("/sdapi/v1/script-info")
    ours = [script for script in scripts if script["name"] == "understudy"]
    labels = ["Understudy", *(words.WIDGETS[field.name][0] for field in fields(Choices)[1:])]
    assert ours and all([arg["label"] for arg in script["args"]] == labels for script in ours)


def test_the_last_job_in_one_line():
    def job(*made):
        entries = [SimpleNamespace(decision=decision, scored=decision != "nan") for decision in made]
        return SimpleNamespace(batches=[[entry] for entry in entries])

    def text(*made):
        return re.sub("<.*?>", "", summary.line(job(*made)))

    assert text(decisions.KEPT, decisions.REDONE, decisions.KEPT) == "Last job: 3 scored, 1 redone"
    assert text(infotext.REVERTED, "not redone: x") == "Last job: 2 scored, 0 redone, 1 student's better, 1 not redone"
    assert text("nan", decisions.KEPT) == "Last job: 1 scored, 0 redone"
    assert summary.line(None) == "" == text()


@pytest.fixture
def site():
    """A web site with one file: (its address, its bytes)."""
    content = bytes(range(256)) * 64

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/oracle.bin", content
    server.shutdown()
    server.server_close()


def published(url: str, content: bytes, digest: str) -> Published:
    return Published("mine", "oracle.bin", url, "MIT", "somebody", digest, len(content))


def test_a_download_shows_its_way_and_ends_with_the_file(site, tmp_path):
    url, content = site
    (tmp_path / "same").write_bytes(content)
    shown = list(fetch.fetched(published(url, content, sha256(tmp_path / "same")), tmp_path / "oracles"))
    assert [there for _, there in shown] == [False] * (len(shown) - 1) + [True]
    assert shown[-1][0] == "oracle.bin is in models/oracles. Licence: MIT."
    assert (tmp_path / "oracles" / "oracle.bin").read_bytes() == content


def test_a_download_that_fails_says_why_in_one_line_and_leaves_nothing(site, tmp_path):
    url, content = site
    *_, (said, there) = fetch.fetched(published(url, content, "0" * 64), tmp_path)
    assert not there and said.startswith("oracle.bin was not fetched: ") and "not the published file" in said
    assert "\n" not in said and "<" not in said and not list(tmp_path.iterdir())
    nowhere = replace(published("http://127.0.0.1:9/x", content, "0" * 64), file="<b>.bin")
    *_, (said, there) = fetch.fetched(nowhere, tmp_path)
    assert not there and "refused" in said and said.startswith("&lt;b&gt;.bin was not")


def test_one_download_at_a_time(tmp_path):
    with fetch._busy:
        assert list(fetch.fetched(published("", b"", ""), tmp_path)) == [
            ("Another oracle is being fetched; wait until it is there.", False)
        ]


def test_only_oracles_that_need_no_second_file_are_offered():
    assert {"imagereward", "pickscore", "hpsv2.1"} <= set(fetch.offered())
    assert not {"laion-aesthetic-v2", "aesthetic-v2.5", "siglip-so400m-patch14-384"} & set(fetch.offered())


@pytest.fixture
def webui(monkeypatch, tmp_path):
    """What a host has of samplers, schedules, checkpoints and LoRAs, with a few of them."""
    base = SimpleNamespace(title="base.safetensors [1]", filename=str(tmp_path / "base.safetensors"), sha256=None)
    loaded = SimpleNamespace(now=base)
    modules = {
        "sd_samplers": {"all_samplers": [SimpleNamespace(name="LCM", aliases=["k_lcm"])]},
        "sd_schedulers": {"schedulers": [SimpleNamespace(name="sgm_uniform", label="SGM Uniform")]},
        "sd_models": {"checkpoints_list": {1: base}, "select_checkpoint": lambda: loaded.now},
    }
    monkeypatch.setitem(sys.modules, "modules", ModuleType("modules"))
    for name, content in modules.items():
        module = ModuleType(f"modules.{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)
        monkeypatch.setattr(sys.modules["modules"], name, module, raising=False)
    networks = SimpleNamespace(available_networks={}, available_network_aliases={})
    monkeypatch.setitem(sys.modules, "networks", networks)
    return SimpleNamespace(loras=networks.available_networks, loaded=loaded, folder=tmp_path)


def student_file(path: Path, **changes) -> Path:
    """A file with the metadata of an export."""
    of = {"method": "lcm-lora", "base": "sd1", "teacher_file": "base.safetensors", "teacher_sha256": "0" * 64}
    of |= {"prediction": "epsilon", "trained": "lora", "steps": 4, "guidance": 1.0, "sampler": "lcm"}
    save_tensors({"x": torch.zeros(1)}, path, StudentFile(**{**of, "scheduler": "sgm_uniform", **changes}).metadata())
    return path


def test_a_lora_of_the_prompt_fills_in_its_sampling_and_comes_off_the_teachers_prompt(webui):
    webui.loras["mine"] = SimpleNamespace(filename=str(student_file(webui.folder / "mine.safetensors")))
    found = student.fill("a cat <lora:other:1> <lora:mine:0.8>", "<lora:*lcm*>")
    assert found.values == {
        "steps": 4,
        "cfg": 1.0,
        "sampler": "LCM",
        "scheduler": "SGM Uniform",
        "teacher": "same checkpoint",
        "remove": "<lora:*lcm*>,<lora:mine:*>",
    }
    assert "LCM, SGM Uniform, 4 steps, CFG 1" in found.said and "But" not in found.said
    assert student.fill("<lora:mine:1>", found.values["remove"]).values["remove"] == found.values["remove"]


def test_a_loaded_checkpoint_fills_in_its_sampling_and_its_teacher(webui):
    path = student_file(webui.folder / "fast.safetensors", trained="full")
    webui.loaded.now = SimpleNamespace(title="fast", filename=str(path), sha256=None)
    found = student.fill("a cat", "")
    assert found.values["teacher"] == "base.safetensors [1]" and "remove" not in found.values


@pytest.mark.parametrize(
    ("changes", "words", "left"),
    [
        ({"sampler": "consistency", "preset": "consistency"}, "no sampler 'consistency'", "sampler"),
        ({"guidance": "embedded"}, "guidance is an input of the network", "cfg"),
        ({"scheduler": "trailing"}, "no schedule 'trailing'", "scheduler"),
        ({"prediction": "v_prediction"}, "it predicts v_prediction", None),
        ({"prediction": "flow", "shift": 3.0}, "a flow of shift 3", None),
        (
            {"prediction": "flow", "sigmas": (1.0, 0.863, 0.5, 0.2, 0.0)},
            "its noise levels are 1, 0.863, 0.5, 0.2, and",
            None,
        ),
        ({"sigmas": (14.6, 2.92, 0.9, 0.3, 0.0)}, "its noise levels are 14.6, 2.92, 0.9, 0.3, and", None),
        ({"companion": "half.safetensors"}, "half.safetensors is the other", None),
        ({"teacher_file": "else.safetensors"}, "distilled from else.safetensors", None),
    ],
)
def test_what_this_host_cannot_honour_is_said_and_left(webui, changes, words, left):
    webui.loras["mine"] = SimpleNamespace(filename=str(student_file(webui.folder / "mine.safetensors", **changes)))
    found = student.fill("<lora:mine:1>", "")
    assert words in found.said and left not in found.values and found.values["steps"] == 4


def test_without_a_student_nothing_is_filled_in(webui):
    save_tensors({"x": torch.zeros(1)}, webui.folder / "base.safetensors", {})
    found = student.fill("a cat <lora:absent:1>", "")
    assert found.values == {} and found.said == student.NOT_OURS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"enabled": "yes"}, "enabled is 'yes'; expected true or false"),
        ({"steps": None}, "steps is None; expected a number"),
        ({"cfg": "much"}, "cfg is 'much'; expected a number"),
        ({"rule": "below score", "score": float("nan")}, "score is nan; expected a number"),
        ({"noise": "x"}, "noise is 'x'; expected a number"),
        ({"modules": "vae"}, "modules is 'vae'; expected a list of names"),
        ({"modules": 5}, "modules is 5; expected a list of names"),
        ({"modules": ""}, "modules is ''; expected a list of names"),
        ({"modules": 0}, "modules is 0; expected a list of names"),
        ({"modules": {}}, "modules is {}; expected a list of names"),
        ({"modules": ["vae", 5]}, "modules is ['vae', 5]; expected a list of names"),
        ({"rule": "budget"}, "'budget' needs a calibration"),
        ({"rule": None}, "the rule is None; expected one of"),
        ({"share": True}, "share is True; expected a number"),
        ({"share": float("inf")}, "share is inf; expected 0 to 100"),
        ({"steps": 2.5}, "steps is 2.5; expected a whole number"),
        ({"best_of": float("inf")}, "best_of is inf; expected a whole number"),
        ({"noise": 1}, "noise is 1.0; expected more than 0 and less than 1"),
        ({"keep_better": "no"}, "keep_better is 'no'; expected true or false"),
        ({"save_student": 1}, "save_student is 1; expected true or false"),
        ({"remove": None}, "remove is None; expected a text"),
        ({"teacher": 5}, "teacher is 5; expected a text"),
        ({"scheduler": ["Karras"]}, "scheduler is ['Karras']; expected a text"),
        ({"oracle": 5}, "oracle is 5; expected a text"),
        ({"oracle": None}, "no oracle is chosen"),
    ],
)
def test_values_of_a_wrong_kind_are_refused_by_name(changes, words):
    with pytest.raises(RefusedChoice, match=re.escape(words)):
        Choices(**{"enabled": True, "oracle": "a", **changes}).checked()


def test_texts_of_numbers_are_numbers_and_what_another_rule_reads_is_not_looked_at():
    found = Choices(True, "a", share="30", steps="7", noise="0.5", score=None, budget="much", modules=None).checked()
    assert (found.share, found.steps, found.noise, found.modules) == (30.0, 7, 0.5, ())
    assert infotext.of_choices(found)["Understudy teacher steps"] == "7"
