"""The panel in a browser, as a user has it."""

import json
import shutil
import time
from urllib.parse import unquote

import pytest
from understudy.a1111 import words
from understudy.a1111.choices import BUDGET, PERCENTILE, RULES, SCORE, USES, WORST

from ..chromium import Page, chromium
from ..host.environment import PACK
from .server import value_of
from .test_panel import student_file
from .test_txt2img import ORACLE

PROMPT = "a red star above a blue circle"
TEXT = (
    f"{PROMPT}\nNegative prompt: blur\n"
    "Steps: 2, Sampler: Euler, Schedule type: Automatic, CFG scale: 1.5, Seed: 1, Size: 64x64, Batch size: 4, "
    f"Understudy: True, Understudy oracle: {ORACLE}, Understudy rule: worst share of the job, Understudy share: 50, "
    'Understudy takes off: "<lora:*lcm*>, 水彩: \\"x\\"", Understudy teacher steps: 3, Understudy teacher CFG: 3, '
    "Understudy teacher sampler: Euler, Understudy noise: 0.55, Understudy keeps the better: False, "
    "Understudy saves student pictures: True, Understudy receipt: True"
)
NUMBERS, SWITCHES = ("share", "steps", "noise"), ("keep_better", "save_student", "receipt")
RULE_WIDGETS = sorted(set().union(*USES.values()))


class Panel(Page):
    """The txt2img tab. Names are those of the panel's widgets."""

    def open(self, url: str):
        self.driver.get(url)
        self.until("the panel", "document.getElementById('txt2img_understudy_panel-visible-checkbox') !== null")

    def click(self, selector: str):
        self.js("document.querySelector(arguments[0]).click()", selector)

    def write(self, selector: str, text: str):
        """Into one of the host's text fields, with the event that it listens to."""
        code = "const e = document.querySelector(arguments[0]); e.value = arguments[1]; updateInput(e)"
        self.js(code, selector, text)

    def paste(self, text: str):
        self.write("#txt2img_prompt textarea", text)
        self.click("#paste")

    def value(self, name: str, tab: str = "txt2img"):
        code = "const of = `#${arguments[1]}_understudy_${arguments[0]}`; "
        code += "const e = document.querySelector(`${of} input, ${of} textarea`); "
        return self.js(f"{code}return e.type === 'checkbox' ? e.checked : e.value", name, tab)

    def seen(self) -> set[str]:
        """Those of the rules' widgets that are shown."""
        code = "return arguments[0].filter(n => document.querySelector(`#txt2img_understudy_${n}`)?.offsetParent)"
        return set(self.js(code, RULE_WIDGETS))

    def choose(self, rule: str):
        code = "[...document.querySelectorAll('#txt2img_understudy_rule label')]"
        self.js(f"{code}.find(label => label.innerText.trim() === arguments[0]).click()", rule)

    def pick(self, name: str, option: str):
        """An entry of a list, by its text: its place in the list changes with what is written, so until it is there."""
        end = time.monotonic() + self.seconds
        while self.value(name) != option:
            assert time.monotonic() < end, f"{option} cannot be picked in {name}"
            self.js("document.activeElement.blur()")  # Forge's lists open when they get the focus
            self.driver.find_element("css selector", f"#txt2img_understudy_{name} input").click()
            time.sleep(0.3)
            entry = f"#txt2img_understudy_{name} li[aria-label='{option}']"
            for found in self.driver.find_elements("css selector", entry):
                found.click()
            time.sleep(0.3)

    def look_at(self, place: int) -> str:
        """The text of one of the gallery's pictures, which are of seeds from 1 on behind their grid."""
        self.js("document.querySelectorAll('#txt2img_gallery .thumbnail-item')[arguments[0]].click()", place)
        return self.settled(f"picture {place}", "#html_info_txt2img", f"Seed: {place},")

    def text(self, selector: str) -> str:
        return self.js("return document.querySelector(arguments[0])?.innerText.trim() ?? ''", selector)

    def settled(self, what: str, selector: str, words: str) -> str:
        self.until(what, "document.querySelector(arguments[0])?.innerText.includes(arguments[1])", selector, words)
        return self.text(selector)


@pytest.fixture(scope="module")
def driver():
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def page(driver, webui):
    page = Panel(driver)
    page.open(f"http://127.0.0.1:{webui.port}/")
    return page


def test_the_panel_opens_and_every_widget_says_what_it_does(page):
    assert page.value("panel-checkbox") is False and not page.seen()
    page.shot("closed")
    page.click("#txt2img_understudy_panel .label-wrap")
    page.until("the open panel", "document.querySelector('#txt2img_understudy_oracle').offsetParent")
    assert page.value("panel-checkbox") is True
    titles = "arguments[0].map(n => document.querySelector(`#txt2img_understudy_${n}`)?.title)"
    assert page.js(f"return {titles}", list(words.WIDGETS)) == [tooltip for _, tooltip in words.WIDGETS.values()]
    assert page.text("#txt2img_understudy_last_job") == ""
    page.shot("open")
    page.shot("narrow", 520, 1400)


def test_a_rule_shows_its_own_widgets_and_no_others(page):
    assert page.seen() == USES[WORST]
    for rule in (SCORE, PERCENTILE, BUDGET, WORST):
        page.choose(rule)
        page.until(rule, "document.querySelectorAll('#txt2img_understudy_rule input:checked').length === 1")
        end = time.monotonic() + 10
        while page.seen() != USES[rule] and time.monotonic() < end:
            time.sleep(0.1)
        assert page.seen() == USES[rule]
        page.shot(f"rule {rule}")


def test_a_pasted_text_fills_the_panel_and_generate_gives_pictures_that_say_what_was_done(page, webui):
    page.paste(TEXT)
    page.until(
        "the pasted oracle", "document.querySelector('#txt2img_understudy_oracle input').value === arguments[0]", ORACLE
    )
    found = {name: page.value(name) for name in (*NUMBERS, "sampler", *SWITCHES)}
    assert found == {
        "share": "50",
        "steps": "3",
        "sampler": "Euler",
        "noise": "0.55",
        "keep_better": False,
        "save_student": True,
        "receipt": True,
    }
    assert page.value("remove") == '<lora:*lcm*>, 水彩: "x"'
    prompt = page.js("return document.querySelector('#txt2img_prompt textarea').value")
    assert prompt == PROMPT or webui.lacks
    page.write("#txt2img_prompt textarea", PROMPT)  # Forge Neo leaves it as it was, without us as well
    page.click("#txt2img_generate")
    page.settled("the last job", "#txt2img_understudy_last_job", "redone")
    assert page.text("#txt2img_understudy_last_job") == "Last job: 4 scored, 2 redone"
    shares = "let e = document.querySelector('#txt2img_understudy_last_job span'), seen = 1; "
    shares += "for (; e; e = e.parentElement) seen *= getComputedStyle(e).opacity; return seen"
    assert page.js(shares) == 1
    thumbnails = "[...document.querySelectorAll('#txt2img_gallery .thumbnail-item img')].map(image => image.src)"
    shown = page.js(f"return {thumbnails}")
    assert len(set(shown)) == 6, "a grid, its four pictures and their receipt"
    folder = str(webui.base / "output")
    assert all(f"file={folder}" in unquote(address) for address in shown[1:5]), "the files that were saved, once each"
    text = page.text("#html_info_txt2img")
    assert "Understudy share: 50" in text and f"Understudy oracle: {ORACLE}" in text
    page.shot("made", 1366, 1400)
    decisions = [value_of(page.look_at(place), "Understudy decision") for place in range(1, 5)]
    assert sorted(decisions) == ["kept", "kept", "redone", "redone"]
    assert "Understudy score after: " in page.look_at(1 + decisions.index("redone"))
    page.shot("redone", 1366, 1400)
    page.js("[...document.querySelectorAll('#txt2img_gallery .thumbnail-item')].at(-1).click()")
    page.shot("receipt", 1366, 1400)


@pytest.mark.parametrize(("to", "share"), [("img2img", "43"), ("inpaint", "41")])
def test_a_picture_is_sent_on_with_the_panels_values(page, to, share):
    names = ["panel-checkbox", "oracle", "remove", "sampler", *NUMBERS, *SWITCHES]
    page.write("#txt2img_understudy_share input", share)
    here = {name: page.value(name) for name in names}
    assert here["share"] == share and here != {name: page.value(name, "img2img") for name in names}
    page.click(f"#txt2img_send_to_{to}")
    end = time.monotonic() + page.seconds
    while (there := {name: page.value(name, "img2img") for name in names}) != here and time.monotonic() < end:
        time.sleep(0.1)
    assert there == here
    page.until("the other tab", "document.querySelector('#img2img_understudy_oracle').offsetParent")
    page.shot(f"sent to {to}", 1366, 1400)
    page.click("#tabs > .tab-nav button")
    page.until("the first tab", "document.querySelector('#txt2img_understudy_oracle').offsetParent")


def test_a_text_that_says_nothing_of_us_turns_the_panel_off(page):
    page.paste("a cat\nSteps: 2, Sampler: Euler, CFG scale: 1.5, Seed: 1, Size: 64x64")
    page.until("the closed panel", "!document.querySelector('#txt2img_understudy_oracle')?.offsetParent")
    assert page.value("panel-checkbox") is False


def test_a_students_own_settings_are_filled_in(page, webui):
    lora = webui.base / "models" / "Lora" / "mine.safetensors"
    student_file(lora, teacher_file="student.safetensors")
    webui.post("/sdapi/v1/refresh-loras", {})
    page.paste(TEXT)
    page.until("the open panel", "document.querySelector('#txt2img_understudy_settings').offsetParent")
    page.write("#txt2img_prompt textarea", "a cat <lora:mine:1>")
    page.click("#txt2img_understudy_settings")
    said = page.settled("what was filled in", "#txt2img_understudy_settings_said", "mine.safetensors")
    assert "LCM, SGM Uniform, 4 steps, CFG 1" in said and "But" not in said
    values = "arguments[0].map(n => document.querySelector(`#txt2img_${n} input`).value)"
    assert page.js(f"return {values}", ["steps", "cfg_scale", "sampling", "scheduler"]) == [
        "4",
        "1",
        "LCM",
        "SGM Uniform",
    ]
    assert page.value("remove").endswith(",<lora:mine:*>") and page.value("teacher") == "same checkpoint"
    page.shot("settings", 1366, 1400)
    lora.unlink()


def test_a_new_file_is_listed_after_a_refresh_and_a_failed_download_says_why(page, webui):
    new = webui.base / "models" / "oracles" / "another.safetensors"
    shutil.copyfile(new.with_name(ORACLE), new)
    try:
        page.click("#txt2img_understudy_refresh")
        page.pick("oracle", new.name)
    finally:
        new.unlink()
    page.click("#txt2img_understudy_open_download")
    page.until("the list of published ones", "document.querySelector('#txt2img_understudy_download').offsetParent")
    page.click("#txt2img_understudy_download")
    page.settled("the advice", "#txt2img_understudy_download_said", "Choose which oracle to fetch first.")
    page.pick("published", "pickscore")
    page.click("#txt2img_understudy_download")
    page.settled("the reason", "#txt2img_understudy_download_said", "PickScore_v1.safetensors was not fetched: ")
    page.shot("download", 1366, 1400)


def test_the_languages_reach_labels_tooltips_and_rules(page):
    texts = json.loads((PACK / "localizations" / "zh_CN.json").read_text(encoding="utf-8"))
    outside = page.js(
        "return gradio_config.components.filter(c => !(c.props.elem_id ?? '').includes('understudy')).flatMap("
        "c => [c.props.label, c.props.webui_tooltip, ...(c.type === 'button' ? [c.props.value] : [])])"
    )
    assert not texts.keys() & {*filter(None, outside)}, "a label of the host would be translated by us"
    page.js("window.localization = arguments[0]; localizeWholePage()", texts)
    label, tooltip = words.WIDGETS["noise"]
    assert texts[label] in page.text("#txt2img_understudy_noise")
    assert page.js("return document.querySelector('#txt2img_understudy_noise').title") == texts[tooltip]
    assert all(texts[rule] in page.text("#txt2img_understudy_rule") for rule in RULES)
    page.shot("zh_CN", 1366, 1400)
    page.shot("zh_CN narrow", 520, 1600)


def test_the_page_has_each_id_once_and_no_error_of_ours(page):
    ids = page.js("return gradio_config.components.map(c => c.props.elem_id ?? '')")
    ids = [name for name in ids if "understudy" in name]
    assert ids and len(ids) == len(set(ids))
    errors = [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    # The host asks for fonts outside, and finds none here.
    scripts = [entry["message"] for entry in errors if "https://" not in entry["message"]]
    assert not [message for message in scripts if "Failed to load resource" not in message]
