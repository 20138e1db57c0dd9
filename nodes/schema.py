"""What every schema of the pack shares: the category, and fields that only newer hosts know."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from comfy_api.latest import io

CATEGORY = "understudy"


def schema(*, search_aliases: list[str], advanced: Sequence[str] = (), **fields) -> io.Schema:
    """An ``io.Schema`` in the pack's category, its outputs shown under their names, or else ids, instead of types.

    ``search_aliases`` are left out where the host's Schema has no such field (ComfyUI 0.8.0).
    ``advanced``: the widgets that the node, as it is made, does not use; a front end may hide them until they are asked
    for. Hosts whose inputs cannot be that (ComfyUI 0.8.0) show them.
    """
    known = {field.name for field in dataclasses.fields(io.Schema)}
    if "search_aliases" in known:
        fields["search_aliases"] = search_aliases
    for each in fields.get("inputs", ()):
        if each.id in advanced and hasattr(each, "advanced"):
            each.advanced = True
    for output in fields.get("outputs", ()):
        output.display_name = output.display_name or output.id
    return io.Schema(category=CATEGORY, **fields)


def require_ranges(inputs: Iterable[io.Input], given: Mapping[str, Sequence]) -> None:
    """Raise ValueError for a number out of its widget's range: the host lets one that comes by a link pass.

    given: by the inputs' names their values, several of them where the node takes lists.
    """
    for each in inputs:
        if getattr(each, "min", None) is None:
            continue
        for value in given.get(each.id, ()):
            if not each.min <= value <= each.max:  # NaN, too
                raise ValueError(f"{each.id} is {value:g}; expected {each.min:g} to {each.max:g}")
