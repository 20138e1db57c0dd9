"""What happens in the panel: widgets that a rule needs, new files, a download, a student's own settings."""

from __future__ import annotations

import html
from collections.abc import Iterator

from ..files import CheckpointError
from ..oracles.published import by_name
from . import fetch, host, student
from .choices import NONE, SAME, USES
from .oracle import FOLDER, oracle_files
from .rule import calibration_files
from .words import CHOOSE_FIRST

OF_RULES = ("share", "percentile", "budget", "score", "calibration")


def of_panel(panel) -> None:
    """Events among the panel's own widgets."""
    widgets = panel.widgets
    shown = [widgets[name] for name in OF_RULES]
    widgets["rule"].change(seen, inputs=[widgets["rule"]], outputs=shown, show_progress=False)
    lists = [widgets[name] for name in ("oracle", "teacher", "calibration", "modules")]
    panel.refresh.click(listed, inputs=[], outputs=lists, show_progress=False)
    panel.open_download.click(opened, inputs=[], outputs=[panel.downloads], show_progress=False)
    panel.download.click(
        downloaded, inputs=[panel.published], outputs=[panel.download_said, widgets["oracle"]], show_progress=False
    )


def with_host(panel) -> None:
    """Events that need the host's widgets, once all of those are there."""
    log = panel.host[f"html_log_{panel.tab}"]
    log.change(panel.last_job, inputs=[], outputs=[panel.summary], show_progress=False)
    places = {name: panel.host[end] for name, end in student.WIDGETS.items() if end in panel.host}
    places |= {name: panel.widgets[name] for name in ("teacher", "remove")}
    panel.settings.click(
        lambda prompt, remove: filled(prompt, remove, list(places)),
        inputs=[panel.host["prompt"], panel.widgets["remove"]],
        outputs=[panel.settings_said, *places.values()],
        show_progress=False,
    )


def seen(rule: str) -> list:
    """The rule's own widgets, and no other's."""
    import gradio as gr

    return [gr.update(visible=name in USES[rule]) for name in OF_RULES]


def listed() -> list:
    import gradio as gr
    from modules import sd_models

    sd_models.list_models()
    lists = [[NONE, *oracle_files()], [SAME, *host.checkpoints()], [NONE, *calibration_files()], host.modules()]
    return [gr.update(choices=choices) for choices in lists]


def opened():
    import gradio as gr

    return gr.update(visible=True)


def downloaded(name: str | None) -> Iterator[list]:
    """How far it is, then the file in the list of oracles and chosen."""
    import gradio as gr

    if not name:
        yield [shown(CHOOSE_FIRST), gr.update()]
        return
    entry = by_name(name)
    for said, there in fetch.fetched(entry, host.models_folder(FOLDER)):
        update = gr.update(choices=[NONE, *oracle_files()], value=entry.file) if there else gr.update()
        yield [shown(said), update]


def filled(prompt: str, remove: str, names: list[str]) -> list:
    import gradio as gr

    try:
        found = student.fill(prompt, remove)
    except (CheckpointError, OSError) as error:
        found = student.Filled(said=f"Nothing is filled in: {error}")
    updates = [gr.update(value=found.values[name]) if name in found.values else gr.update() for name in names]
    return [shown(html.escape(found.said)), *updates]


def shown(said: str) -> str:
    """As the panel shows HTML: an address is broken where it is wider than the panel."""
    return f'<div style="overflow-wrap: anywhere">{said}</div>'
