"""What every schema of the pack shares: the category, and fields that only newer hosts know."""

from __future__ import annotations

import dataclasses

from comfy_api.latest import io

CATEGORY = "understudy"


def schema(*, search_aliases: list[str], **fields) -> io.Schema:
    """An ``io.Schema`` in the pack's category, its outputs shown under their names, or else ids, instead of types.

    ``search_aliases`` are left out where the host's Schema has no such field (ComfyUI 0.8.0).
    """
    known = {field.name for field in dataclasses.fields(io.Schema)}
    if "search_aliases" in known:
        fields["search_aliases"] = search_aliases
    for output in fields.get("outputs", ()):
        output.display_name = output.display_name or output.id
    return io.Schema(category=CATEGORY, **fields)
