"""``understudy train --help-config``: every key of a recipe, from the classes that validate it."""

from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ..config import AttentionSettings, Loop, Recipe, Samples, StudentSettings, TeacherSettings
from ..methods import distillations, method_classes


def sections() -> list[tuple[str, str, type[BaseModel]]]:
    """(table, what it is for, the class that reads it) in the order of a recipe."""
    names, methods = distillations(), method_classes()
    distilling, guided = _for(names), _for([name for name in methods if name in names and methods[name].asks_teacher])
    found = [
        ("", "A recipe is a TOML file with these keys and tables.", Recipe),
        ("[loop]", "", Loop),
        ("[teacher]", distilling, TeacherSettings),
        ("[attention]", f"{guided}; without this table none", AttentionSettings),
        ("[student]", distilling, StudentSettings),
        *data_sections(),
        ("[samples]", distilling, Samples),
    ]
    return found + [
        (f'[settings] of method = "{name}"', f"{method.summary}; {method.source}", method.Settings)
        for name, method in method_classes().items()
    ]


def _for(methods: Sequence[str]) -> str:
    *first, last = methods
    return f"for {', '.join(first)} and {last}"


def data_sections() -> list[tuple[str, str, type[BaseModel]]]:
    """The tables that say where training data comes from."""
    from ..data.conditions import CONDITIONS
    from ..data.filtering import FilterSettings
    from ..data.settings import KINDS
    from ..demo.source import SceneSettings

    return [
        ('[data] with kind = "scenes"', "for the demo family", SceneSettings),
        *((f'[data] with kind = "{kind}"', "", settings) for kind, settings in KINDS.items()),
        *(
            (f'[data.condition] with kind = "{kind}"', "for pictures, beside their texts", settings)
            for kind, settings in CONDITIONS.items()
        ),
        ("[data.filter]", "for data that the teacher makes from prompts", FilterSettings),
    ]


def help_config(method: str = "") -> str:
    """The keys as text: default or "required", what may stand there, and what each is.

    method: only its [settings] among those.
    """
    lines = []
    for table, purpose, settings in sections():
        if method and table.startswith("[settings]") and table != f'[settings] of method = "{method}"':
            continue
        lines += ["", table + (f"  ({purpose})" if table and purpose else purpose)]
        lines += [f"  {line}" for name, field in settings.model_fields.items() for line in _lines(name, field)]
    return "\n".join(lines[1:])


def _lines(name: str, field: FieldInfo) -> Iterator[str]:
    choices, allowed = _choices(field.annotation), _bounds(field)
    if field.is_required() and len(choices) == 1:
        given = _shown(choices[0])
    elif field.is_required():
        given = "required"
        allowed = [" or ".join(map(_shown, choices)) or _kind(field.annotation), *allowed]
    else:
        given = _shown(field.get_default(call_default_factory=True))
        allowed = [" or ".join([*_others(field.annotation), *map(_shown, choices)]), *allowed] if choices else allowed
    yield f"{name} = {given}" + (f"  # {', '.join(allowed)}" if allowed else "")
    if field.description:
        yield f"    {field.description}"


def _choices(annotation: object) -> tuple:
    """The values of a Literal, also where it may be left out."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for part in get_args(annotation) if part is not NoneType and (found := _choices(part))), ())


def _others(annotation: object) -> list[str]:
    """What may stand there besides the values of a Literal, as in ``bool | Literal["auto"]``."""
    if get_origin(annotation) not in (Union, UnionType):
        return []
    parts = [part for part in get_args(annotation) if part is not NoneType and get_origin(part) is not Literal]
    return [" ".join([_kind(part), *_bounds(FieldInfo.from_annotation(part))]) for part in parts]


def _bounds(field: FieldInfo) -> list[str]:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = [(sign, getattr(bound, name, None)) for bound in field.metadata for name, sign in signs.items()]
    return [f"{sign} {value:g}" for sign, value in found if value is not None]


def _kind(annotation: object) -> str:
    if get_origin(annotation) is Annotated:
        annotation, *_ = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a table"
    return getattr(annotation, "__name__", str(annotation))


def _shown(value: object) -> str:
    """A default as it would stand in TOML."""
    if isinstance(value, (BaseModel, dict)):
        return "a table, see below"
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value) if isinstance(value, int) else f'"{value}"'
