"""What a picture's text says of us comes back: as the host reads texts, and in a real A1111 by a request's infotext."""

import json
import re
import shutil
from dataclasses import asdict

import pytest
from understudy.a1111 import infotext
from understudy.a1111.choices import RULES, USES, Choices
from understudy.samplers import decisions

from .server import value_of
from .test_txt2img import ORACLE, asked

STEPS = "Steps: 2, Sampler: Euler, CFG scale: 1.5, Seed: 1, Size: 64x64"
ODD = [
    "<lora:*lcm*>, <lora:hyper:*>",
    'quoted "so", and so on',
    '"all of it"',
    "key: value",
    "two\nlines",
    "评分模型，水彩：一只猫",
    "back\\slash",
    "",
    "512x512",
    "none",
]


def as_the_host(values: dict[str, str]) -> dict[str, str]:
    """Its quotation, and its reading, of a last line."""
    quoted = {k: json.dumps(v, ensure_ascii=False) if re.search(r"[,:\n]", v) else v for k, v in values.items()}
    line = ", ".join(f"{key}: {value}" for key, value in quoted.items())
    found = {}
    for key, value in re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', line):
        if value[0] == '"' and value[-1] == '"':
            value = json.loads(value)
        size = re.fullmatch(r"(\d+)x(\d+)", value)
        found |= {f"{key}-1": size[1], f"{key}-2": size[2]} if size else {key: value}
    return found


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("odd", ODD)
def test_every_choice_comes_back(rule, odd):
    choices = Choices(
        enabled=True,
        oracle=odd or "a",
        rule=rule,
        calibration=odd or "a",
        teacher=odd or "a",
        remove=odd,
        share=12.5,
        score=-0.1,
        cfg=1.5,
        keep_better=False,
        save_student=True,
        modules=["a, b.safetensors", odd],
        control=False,
        receipt=True,
    )
    parameters = as_the_host(infotext.of_choices(choices))
    found = {name: infotext.reader(name)(parameters) for name in infotext.FIELDS}
    unused = set().union(*USES.values()) - USES[rule]
    assert {name for name, value in found.items() if value is None} == unused
    asked_for = asdict(choices)
    assert {name: value for name, value in found.items() if value is not None} == {
        name: asked_for[name] for name in infotext.FIELDS if name not in unused
    }
    defaults = asdict(Choices())
    assert all(type(value) is type(defaults[name]) for name, value in found.items() if name not in {*unused, "modules"})


def test_texts_that_say_nothing_of_us_turn_the_panel_off_and_leave_the_rest():
    for parameters in (as_the_host({"Steps": "2"}), {"Understudy": "off: no oracle is chosen"}):
        found = {name: infotext.reader(name)(parameters) for name in infotext.FIELDS}
        assert found.pop("enabled") is False and set(found.values()) == {None}


def test_what_somebody_wrote_by_hand_and_is_no_value_leaves_the_widget_as_it_is():
    for name, text in (("steps", "many"), ("noise", "a lot"), ("modules", "vae"), ("modules", "3")):
        assert infotext.reader(name)({infotext.FIELDS[name]: text}) is None


def test_a_score_is_a_plain_number_and_keys_are_replaced_in_the_last_line_alone():
    text = f"a cat, Understudy score: 9\nNegative prompt: Understudy decision: none\n{STEPS}"
    once = infotext.with_values(text, {infotext.SCORE: infotext.number(0.83), infotext.DECISION: "not redone: a, b"})
    assert once == f'{text}, Understudy score: 0.83, Understudy decision: "not redone: a, b"'
    twice = infotext.with_values(once, {infotext.SCORE: "1", infotext.DECISION: decisions.KEPT})
    assert twice == f"{text}, Understudy score: 1, Understudy decision: kept"
    assert infotext.with_values("", {infotext.SCORE: "1"}) == "Understudy score: 1"
    assert infotext.with_values("Understudy score: 1, Version: v1", {infotext.SCORE: "2"}).startswith("Version: v1")


@pytest.fixture(scope="module")
def reading(webui):
    """A host that reads a request's text."""
    webui.able("text of a picture in a request", infotext=STEPS)
    return webui


@pytest.fixture
def odd_oracle(webui):
    """One with a name that has all of the host's separators."""
    name = '评分, "v1"： a b.safetensors'
    folder = webui.base / "models" / "oracles"
    shutil.copyfile(folder / ORACLE, folder / name)
    yield name
    (folder / name).unlink()


def test_a_pictures_text_alone_makes_the_same_job_again(reading, webui, odd_oracle):
    odd = asked(oracle=odd_oracle, remove='<lora:*lcm*>, a "quoted": 词\nline', noise=0.45, share=25.0)
    made = webui.make(*odd, negative_prompt='blur, "quoted": one\n水彩')
    assert made.said("decision").count("redone") == 1
    again = webui.make(infotext=made.texts[0])
    assert again.texts == made.texts and again.pixels == made.pixels


def test_by_name_through_the_requests_infotext(reading, webui):
    mine = f"Understudy: True, Understudy oracle: {ORACLE}, Understudy rule: below score, Understudy below: 1000"
    mine += ", Understudy keeps the better: False, Understudy teacher steps: 3, Understudy teacher sampler: Euler"
    made = webui.make(infotext=f"{STEPS}, {mine}")
    assert made.said("decision") == ["redone"] * 4 and made.said("teacher steps") == ["3"] * 4
    off = webui.make(infotext=STEPS)
    assert off.said("decision") == [None] * 4 and value_of(off.texts[0], "Understudy") is None
