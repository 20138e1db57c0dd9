"""Axes of the host's X/Y/Z plot: each sets what its cell's job takes instead of the panel's value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields

from .choices import BUDGET, PERCENTILE, SCORE, WORST, Choices, RefusedChoice
from .words import AXES

# On the host's processing, which each cell has a copy of: {a Choices' field: value}.
CHANGES = "understudy_changes"
RULE_VALUE = "rule value"
VALUE_OF = {WORST: "share", PERCENTILE: "percentile", SCORE: "score", BUDGET: "budget"}
NAMES = tuple(field.name for field in fields(Choices))
TITLE = "understudy"


def add() -> None:
    """Our axes in the host's plot, once, wherever it has one."""
    from modules import scripts

    from .oracle import oracle_files

    for plot in {id(data.module): data.module for data in scripts.scripts_data}.values():
        if not (hasattr(plot, "AxisOption") and hasattr(plot, "axis_options")):
            continue
        there = {option.label for option in plot.axis_options}
        for name, kind, more in (
            (RULE_VALUE, float, {}),
            ("noise", float, {}),
            ("steps", int, {}),
            ("best_of", int, {}),
            ("oracle", str, {"choices": oracle_files, "cost": 0.3}),  # its file is read
        ):
            option = plot.AxisOption(AXES[name], kind, _apply(name), confirm=_confirm(name), **more)
            if option.label not in there:
                plot.axis_options.append(option)


def with_changes(p, values: Sequence) -> Sequence:
    """The panel's values, or a request's, with what the cell's axes say in their place."""
    changes = getattr(p, CHANGES, None)
    if not changes:
        return values
    asked = _by_name(values)
    changed = {_field(name, asked): value for name, value in changes.items()}
    if isinstance(values[0], Mapping):
        return [{**values[0], **changed}, *values[1:]]
    return [{**asked, **changed}[name] for name in NAMES]


def _by_name(values: Sequence) -> dict:
    """A Choices' fields: its defaults where the values, in its order or one mapping, say nothing."""
    said = values[0] if values and isinstance(values[0], Mapping) else zip(NAMES, values, strict=False)
    return {**dict(zip(NAMES, astuple(Choices()), strict=True)), **dict(said)}


def _field(name: str, asked: Mapping) -> str:
    """The field that an axis sets: of the rule's value, that of whatever rule is chosen."""
    return VALUE_OF.get(asked["rule"], "share") if name == RULE_VALUE else name


def _apply(name: str):
    def apply(p, x, xs):
        setattr(p, CHANGES, {**getattr(p, CHANGES, {}), name: x})  # a new one: copies of p share what it holds

    return apply


def _confirm(name: str):
    """Raises RefusedChoice before anything is made, for a value that its job would refuse."""

    def confirm(p, xs):
        from .oracle import oracle_files

        asked = _by_name(_panel_values(p))
        if not asked["enabled"]:
            raise RefusedChoice("Understudy is off, so its axis would change nothing: switch it on in its panel")
        if name == "oracle" and (absent := [x for x in xs if x not in oracle_files()]):
            there = ", ".join(oracle_files()) or "none yet"
            raise RefusedChoice(f"models/oracles has no {absent[0]!r}; there are: {there}")
        for x in xs:
            one = {"enabled": True, "oracle": "any", "calibration": "any", "rule": asked["rule"]}
            Choices(**{**one, _field(name, asked): x}).checked()

    return confirm


def _panel_values(p) -> Sequence:
    for script in p.scripts.alwayson_scripts:
        if script.title().lower() == TITLE:
            return p.script_args[script.args_from : script.args_to]
    return ()
