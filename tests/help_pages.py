"""What a node's help page says: an entry for each of its sockets, with what its schema says of it in brackets."""

import re
from pathlib import Path
from types import SimpleNamespace

FOLDER = Path(__file__).parents[1] / "web" / "docs"
# Combos whose choices are a host's files and samplers, or too many for an entry.
OPEN = {
    *("calibration", "calibration_a", "calibration_b", "encoder", "family", "oracle_name", "predictor_name", "preset"),
    *("sampler_name", "scheduler", "settings_from"),
}
ENGLISH = SimpleNamespace(
    headings=("Inputs", "Outputs"),
    entry=r"^- \*\*(.+?)\*\* \((.+?)\): ",
    separator=", ",
    after_choices="; ",
    last=" or ",
    **dict(combo="combo", default="default {}", optional="optional", range="{} to {}", list="{} list"),
    **dict(on="on", off="off"),
)
# In other languages a widget is called what they call it, and then by its English name, which messages use.
CHINESE = SimpleNamespace(
    headings=("输入", "输出"),
    entry=r"^- \*\*(.+?)\*\* `(.+?)`（(.+?)）：",
    separator="，",
    after_choices="；",
    last=" 或 ",
    **dict(combo="下拉框", default="默认 {}", optional="可选", range="{} 至 {}", list="{} 列表"),
    **dict(on="开", off="关"),
)
LANGUAGES = {"en": ENGLISH, "zh": CHINESE}


def text(node, language="en"):
    """A node's help page; FileNotFoundError if it has none."""
    path = FOLDER / (f"{node}.md" if language == "en" else f"{node}/{language}.md")
    return path.read_text(encoding="utf-8")


def entries(page, heading, words=ENGLISH):
    """What stands in front of each description, a name to brackets, in the list under a heading of a page."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    return re.findall(words.entry, section[1], flags=re.MULTILINE) if section else []


def of_input(socket, words=ENGLISH):
    """What the brackets of an input's entry have to say: its type or choices, its default, its range."""
    offers = socket.type == "COMBO" and socket.id not in OPEN
    kinds = socket.options if offers else _kind(socket).replace("COMBO", words.combo).split(",")
    facts = [words.last.join(filter(None, [", ".join(kinds[:-1]), kinds[-1]]))]
    if socket.default not in (None, ""):
        facts.append(words.default.format(_value(socket.default, words)))
    elif socket.optional:
        facts.append(words.optional)
    if socket.min is not None:
        facts.append(words.range.format(_value(socket.min, words), _value(socket.max, words)))
    return (words.after_choices if offers else words.separator).join(facts)


def of_output(socket, words=ENGLISH):
    """What the brackets of an output's entry have to say."""
    return words.list.format(_kind(socket)) if socket.is_output_list else _kind(socket)


def _kind(socket):
    """Without the pack's name, for which a narrow panel has no room."""
    return socket.type.removeprefix("UNDERSTUDY_")


def _value(value, words):
    if isinstance(value, bool):
        return words.on if value else words.off
    if value == 2**64 - 1:
        return "2^64 - 1"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
