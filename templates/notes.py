"""What templates' notes have in common: links, and where files go."""

from __future__ import annotations

from collections.abc import Sequence

from .graph import Model

OF_AN_APP = "An older front end shows this graph instead of the app."


def link(text: str, url: str) -> str:
    """A link to click on."""
    return f"[{text}]({url})"


def files(models: Sequence[Model]) -> str:
    """Where to get the files, folder by folder, with their sizes, and a tree that shows where each goes."""
    folders = {}
    for model in models:
        folders.setdefault(model.directory, []).append(model)
    lines = ["## Files", ""]
    for folder, of_it in folders.items():
        lines += [f"**{folder}**", ""]
        lines += [f"- {link(each.name, each.url)}{f' ({each.size})' if each.size else ''}" for each in of_it] + [""]
    return "\n".join([*lines, "## Where they go", "", "```", "ComfyUI/", "└── models/", *_tree(folders), "```"])


def _tree(folders: dict[str, list[Model]]) -> list[str]:
    lines = []
    for folder, of_it in folders.items():
        last = folder == [*folders][-1]
        lines.append(f"    {'└' if last else '├'}── {folder}/")
        bar = " " if last else "│"
        lines += [f"    {bar}   {'└' if each is of_it[-1] else '├'}── {each.name}" for each in of_it]
    return lines
