"""docs/a1111.md against the code: the table of choices, and what pictures' texts say."""

import re
from dataclasses import fields

from understudy.a1111 import infotext, words
from understudy.a1111.choices import RANGES, RULES, Choices

from ..host.environment import PACK

PAGE = (PACK / "docs" / "a1111.md").read_text(encoding="utf-8")
# position, label, field, values, key
ROWS = re.findall(r"^\| (\d+) \| (.+?) \| `(\w+)` \| (.+?) \| (?:`(.+?)`)? ?\|$", PAGE, flags=re.MULTILINE)


def test_the_table_has_all_choices_in_the_order_of_a_request():
    names = [field.name for field in fields(Choices)]
    assert [(int(position), name) for position, _, name, _, _ in ROWS] == list(enumerate(names))


def test_each_choice_is_called_as_the_panel_calls_it():
    labels = {name: label for name, (label, _) in words.WIDGETS.items()} | {"enabled": "Understudy"}
    assert {name: label for _, label, name, _, _ in ROWS} == labels


def test_each_choice_stands_in_a_pictures_text_under_its_key():
    assert {name: key for _, _, name, _, key in ROWS if key} == infotext.FIELDS


def test_ranges_and_rules_are_those_that_are_enforced():
    values = {name: said for _, _, name, said, _ in ROWS}
    for name, low, high in RANGES:
        assert f"{low} to {high}" in values[name] or abs(low) == high >= 1e6, name
    assert values["rule"] == ", ".join(RULES)


def test_the_keys_of_each_picture_are_all_there():
    said = set(re.findall(r"`(Understudy [\w ]+)`", PAGE))
    keys = {value for value in vars(infotext).values() if isinstance(value, str) and value.startswith("Understudy ")}
    assert keys - {infotext.PREFIX} <= said


def test_links_lead_somewhere():
    for text in (PAGE, (PACK / "README.md").read_text(encoding="utf-8")):
        headings = {
            re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-")
            for line in re.findall("^#+ (.+)$", text, re.M)
        }
        assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= headings
    assert all((PACK / "docs" / path).exists() for path in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE))
