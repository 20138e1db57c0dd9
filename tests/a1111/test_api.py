"""Our routes beside the host's: scores of pictures, the list of oracles, and requests by position."""

import base64
import io
import json
import subprocess
import sys
import zlib
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from understudy.a1111 import api
from understudy.a1111.api import ORACLES, SCORE
from understudy.a1111.choices import Choices
from understudy.a1111.scoring import MOST, Request, WrongRequest
from understudy.a1111.settings import DEVICE
from understudy.demo_family import family
from understudy.oracles import load_oracle

from ..host.environment import PACK
from .server import Refused

ORACLE = "demo.safetensors"
PROMPT = "a red star above a blue circle"


def sent(kind="PNG", size=(64, 64), shade=0, **said) -> str:
    """A picture as base64."""
    held = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").point(lambda v: (v + shade) % 256).save(held, kind, **said)
    return base64.b64encode(held.getvalue()).decode()


def body(**changes) -> dict:
    given = {"images": [sent()], "prompts": PROMPT, "oracle": ORACLE, **changes}
    return {key: value for key, value in given.items() if value is not ...}


def header_of(width: int, height: int) -> str:
    """A PNG that says so and holds nothing more: decoded it would be an error, or gigabytes."""
    whole = base64.b64decode(sent())
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + whole[24:29]
    return base64.b64encode(whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:]).decode()


WRONG = [
    ([], "the body is a list"),
    (body(image="x"), "the body has 'image', which is not known"),
    (body(oracle=...), "oracle is missing"),
    (body(oracle=["demo"]), "oracle is a list"),
    (body(images=...), "images is missing"),
    (body(images=sent()), "images is a string; expected a list"),
    (body(images=[]), "there are no images; expected 1 to 64"),
    (body(images=[sent()] * (MOST + 1)), "there are 65 images; expected 1 to 64, so send several requests"),
    (body(images=[sent(), 5]), "images[1] is a number; expected a PNG, JPEG or WebP as base64"),
    (body(images=["https://example.org/a.png"]), "images[0] is an address, 'https://example.org/a.png'"),
    (body(images=["file:///etc/passwd"]), "images[0] is an address"),
    (body(images=["not base64!"]), "images[0] is not base64: 'not base64!'"),
    (body(images=[base64.b64encode(b"text").decode()]), "images[0] is no picture that can be read"),
    (body(images=[""]), "images[0] is no picture that can be read: it is empty"),
    (body(images=[sent("GIF")]), "images[0] is a GIF"),
    (body(images=[header_of(5000, 5000)]), "images[0] has 5000 x 5000 pixels; expected at most 16 megapixels"),
    (body(images=[header_of(60000, 60000)]), "images[0] "),
    (body(prompts=7), "prompts is a number"),
    (body(prompts=[PROMPT, None]), "prompts is a list that does not hold texts alone"),
    (body(prompts=[PROMPT, PROMPT]), "there are 2 prompts for 1 images"),
]


@pytest.mark.parametrize(("given", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_wrong_body_is_refused_in_one_sentence_before_anything_is_decoded(given, words):
    with pytest.raises(WrongRequest) as error:
        Request.of(given)
    assert str(error.value).startswith(words) and "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_come_in_three_formats_with_or_without_their_kind(kind):
    data = base64.b64decode(sent(kind))
    folded = base64.encodebytes(data).decode()
    assert Request.of(body(images=[sent(kind), f"data:image/{kind.lower()};base64,{folded}"])).images == [data] * 2
    assert Request.of(body(images=[sent("PNG", (4096, 4096))])).prompts == [PROMPT]


def test_scores_are_those_of_the_oracle_for_each_picture_and_its_prompt(a1111):
    pictures, prompts = [sent(), sent(shade=99), sent("WEBP", (96, 48), lossless=True)], [PROMPT, "a cat", PROMPT]
    prompts[1] = "a small green square left of a large yellow triangle"
    answer = a1111.post(SCORE, body(images=pictures, prompts=prompts))
    oracle, expected = load_oracle(family.FOLDER / "oracle.safetensors"), []
    for picture, prompt in zip(pictures, prompts, strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(picture)))
        pixels = torch.tensor(list(image.convert("RGB").tobytes())).reshape(image.height, image.width, 3)
        expected.append(oracle(pixels.movedim(2, 0)[None] / 255, [prompt]).item())
    assert answer["scores"] == pytest.approx(expected, abs=1e-3) and len({round(score) for score in expected}) > 1
    assert (answer["oracle"], answer["family"]) == (ORACLE, "demo") and answer["unit"]
    one = a1111.post(SCORE, body(images=pictures[:2], prompts=f"{PROMPT} <lora:x:1>"))
    assert one["scores"][0] == pytest.approx(expected[0], abs=1e-3)


def test_refusals_are_of_the_400s_and_nothing_is_written(a1111):
    before = {path for path in a1111.base.rglob("*") if path.is_file()}
    cut = base64.b64encode(base64.b64decode(sent())[:100]).decode()
    for given, words in (
        (body(images=["https://example.org/a.png"]), "images[0] is an address"),
        (body(oracle="../oracles/demo.safetensors"), "models/oracles has no '../oracles/demo.safetensors'"),
        (body(images=[sent(), cut]), "images[1] is damaged"),
        (body(prompts=...), "demo.safetensors reads prompts"),
        (body(prompts="a submarine"), "submarine"),
        ([1], "the body is a list"),
    ):
        with pytest.raises(Refused) as error:
            a1111.post(SCORE, given)
        assert str(error.value).startswith("422") and words in str(error.value)
    a1111.post(SCORE, body(images=[sent()] * MOST))
    assert {path for path in a1111.base.rglob("*") if path.is_file()} == before


def test_the_list_says_what_is_known_of_each_file(a1111):
    folder = a1111.base / "models" / "oracles"
    (folder / "page.safetensors").write_text("<!DOCTYPE html>")
    try:
        found = {entry["name"]: entry for entry in a1111.get(ORACLES)}
    finally:
        (folder / "page.safetensors").unlink()
    demo, page = found[ORACLE], found["page.safetensors"]
    assert (demo["family"], demo["problem"]) == ("demo", None) and demo["size"].endswith(" MiB") and demo["unit"]
    assert page["family"] is None and "page.safetensors" in page["problem"] and str(folder) not in page["problem"]


def test_a_request_by_position_may_say_less_than_all(a1111):
    made = a1111.make(True, ORACLE, "below score", 0, 0, "none", 1000.0, batch_size=1)
    assert made.said("decision") != ["kept"] and made.said("teacher steps") == ["20"]
    scripts = a1111.get("/sdapi/v1/script-info")
    (info,) = (script for script in scripts if script["name"] == "understudy" and not script["is_img2img"])
    assert [arg["label"] for arg in info["args"]][:3] == ["Understudy", "Oracle", "Redo"]
    assert [arg["value"] for arg in info["args"]][:4] == [False, "none", "worst share of the job", 30.0]


def test_a_request_by_name_is_that_by_position(a1111):
    named = {"enabled": True, "oracle": ORACLE, "rule": "below score", "score": 1000.0, "steps": 3, "modules": []}
    named["keep_better"] = False
    plain, made = a1111.make(batch_size=1), a1111.make(named, batch_size=1)
    by_place = a1111.make(*astuple(Choices(**named)), batch_size=1)
    assert made.texts == by_place.texts and made.pixels == by_place.pixels != plain.pixels
    unknown = a1111.make({**named, "stepz": 3}, batch_size=1)
    assert "there is no 'stepz'; expected names of enabled, oracle" in unknown.texts[0]
    assert unknown.pixels == plain.pixels


def test_where_the_oracle_scores_is_a_setting_of_the_hosts(a1111):
    key, kept = "understudy_oracle_device", lambda: json.loads((a1111.base / "config.json").read_text())
    a1111.post("/sdapi/v1/options", {key: "CPU"})
    try:
        assert kept()[key] == "CPU"
        assert a1111.make(True, ORACLE, "below score", 0, 0, "none", -1000.0).said("decision") == ["kept"] * 4
    finally:
        a1111.post("/sdapi/v1/options", {key: DEVICE})
    assert kept()[key] == DEVICE


@pytest.mark.parametrize("has_main_thread", [False, True])
def test_pictures_are_scored_in_the_hosts_queue_and_on_its_own_thread_where_it_has_one(monkeypatch, has_main_thread):
    held, done = set(), []

    @contextmanager
    def hold(name):
        held.add(name)
        yield
        held.remove(name)

    def on_main_thread(work, *given):
        with hold("thread"):
            return work(*given)

    of_host = {
        "modules": SimpleNamespace(sd_models=SimpleNamespace(model_data=SimpleNamespace(lock=hold("loading")))),
        "modules.call_queue": SimpleNamespace(queue_lock=hold("queue")),
        "modules_forge": SimpleNamespace(),
        "modules_forge.main_thread": SimpleNamespace(run_and_wait_result=on_main_thread) if has_main_thread else None,
    }
    for name, module in of_host.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert api._alone(lambda: done.append(set(held)) or "scores") == "scores"
    assert done == [{"queue", "loading"} | ({"thread"} if has_main_thread else set())] and not held


def test_the_routes_are_behind_the_hosts_guard_and_nowhere_without_its_api(a1111):
    """In the host's own libraries, without a second server."""
    script = Path(__file__).parent / "inside_api.py"
    for arguments in ((), ("--api-auth", "me:secret")):
        command = [a1111.python, script, PACK, *arguments]
        ran = subprocess.run([str(part) for part in command], cwd=a1111.checkout, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
