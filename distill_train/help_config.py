"""``understudy train --help-config``: every key of a recipe, from the classes that validate it."""

from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .config import Loop, Recipe, Samples, StudentSettings, TeacherSettings
from .methods import method_classes


def sections() -> list[tuple[str, str, type[BaseModel]]]:
    """(table, what it is for, the class that reads it) in the order of a recipe."""
    found = [
        ("", "A recipe is a TOML file with these keys and tables.", Recipe),
        ("[loop]", "", Loop),
        ("[teacher]", "for lcm, cd, pd and cfd", TeacherSettings),
        ("[student]", "for lcm, cd, pd and cfd", StudentSettings),
        *data_sections(),
        ("[samples]", "for lcm, cd, pd and cfd", Samples),
    ]
    return found + [(f'[settings] of method = "{name}"', "", m.Settings) for name, m in method_classes().items()]


def data_sections() -> list[tuple[str, str, type[BaseModel]]]:
    """The tables that say where training data comes from."""
    from .data.settings import KINDS
    from .filtering import FilterSettings
    from .scene_source import SceneSettings

    return [
        ('[data] with kind = "scenes"', "for the demo family", SceneSettings),
        *((f'[data] with kind = "{kind}"', "", settings) for kind, settings in KINDS.items()),
        ("[data.filter]", "for data that the teacher makes from prompts", FilterSettings),
    ]


def help_config(method: str = "") -> str:
    """The keys as text: type, default or "required", and what each is. method: only its [settings] among those."""
    lines = []
    for table, purpose, settings in sections():
        if method and table.startswith("[settings]") and table != f'[settings] of method = "{method}"':
            continue
        lines += ["", table + (f"  ({purpose})" if table and purpose else purpose)]
        lines += [f"  {line}" for name, field in settings.model_fields.items() for line in _lines(name, field)]
    return "\n".join(lines[1:])


def _lines(name: str, field: FieldInfo) -> Iterator[str]:
    given = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
    yield f"{name} = {given}" + (f"  # {_kind(field)}" if field.is_required() else "")
    if field.description:
        yield f"    {field.description}"


def _kind(field: FieldInfo) -> str:
    return getattr(field.annotation, "__name__", str(field.annotation))


def _shown(value: object) -> str:
    """A default as it would stand in TOML."""
    if isinstance(value, BaseModel):
        return "a table, see below"
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value) if isinstance(value, int) else f'"{value}"'
