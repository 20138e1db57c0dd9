"""The panel of a tab: its widgets, in the order of Choices and laid out as people read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from . import events, host, infotext, sampling, words
from .choices import NONE, RULES, SAME, USES, Choices
from .fetch import offered
from .oracle import oracle_files
from .rule import calibration_files


class Panel:
    """Of the tab "txt2img" or "img2img". last_job: gives the last job in one line of HTML.

    widgets: by field of Choices. components: the same in order. pasted: with what reads a picture's text back.
    """

    def __init__(self, tab: str, last_job: Callable[[], str]):
        self.tab, self.last_job = tab, last_job
        self.widgets: dict[str, object] = {}
        self.host: dict[str, object] = {}

    @property
    def components(self) -> list:
        return [self.widgets[field.name] for field in fields(Choices)]

    @property
    def pasted(self) -> list:
        return [(self.widgets[name], infotext.reader(name)) for name in infotext.FIELDS]

    def build(self) -> None:
        import gradio as gr
        from modules.ui_components import FormRow, InputAccordion

        with InputAccordion(False, label="Understudy", elem_id=self._id("panel")) as enabled:
            self.widgets["enabled"] = enabled
            with enabled.extra():
                self.summary = gr.HTML(elem_id=self._id("last_job"))
            with FormRow():
                self._dropdown("oracle", [NONE, *oracle_files()])
                self.refresh = self._tool("refresh", "\U0001f504", words.REFRESH)
                self.open_download = self._tool("open_download", "\u2b07\ufe0f", words.OPEN_DOWNLOAD)
            with gr.Column(visible=False) as self.downloads:
                with FormRow():
                    self.published = self._made(gr.Dropdown, "published", words.PUBLISHED, choices=offered())
                    self.download = self._button("download", words.DOWNLOAD)
                self.download_said = gr.HTML(elem_id=self._id("download_said"))
            with FormRow():
                self._made(gr.Radio, "rule", choices=list(RULES))
            with FormRow():
                self._slider("share", 0, 100, 1)
                self._slider("percentile", 0, 100, 1)
                self._made(gr.Number, "budget")
                self._made(gr.Number, "score")
                self._dropdown("calibration", [NONE, *calibration_files()])
            with FormRow():
                self._dropdown("teacher", [SAME, *host.checkpoints()])
                self._made(gr.Textbox, "remove")
            with FormRow():
                self._dropdown("sampler", sampling.samplers())
                self._dropdown("scheduler", sampling.schedulers())
            with FormRow():
                self._slider("steps", 1, 150, 1)
                self._slider("cfg", 1, 30, 0.5)
            with FormRow():
                self._slider("noise", 0.01, 0.99, 0.01)
                self._slider("best_of", 1, 16, 1)
            files = host.modules()
            with FormRow(visible=bool(files)):
                self._made(gr.Dropdown, "modules", choices=files, multiselect=True, value=[])
            with FormRow(elem_classes=["checkboxes-row"], variant="compact"):
                for name in ("keep_better", "save_student", "receipt", "control"):
                    self._made(gr.Checkbox, name)
            with FormRow():
                self._made(gr.Textbox, "record")
            self.settings = self._button("settings", words.SETTINGS)
            self.settings_said = gr.HTML(elem_id=self._id("settings_said"))
        events.of_panel(self)

    def met(self, component) -> None:
        """A widget of the host, as it is made: the last that we need is the line below the gallery."""
        name = (getattr(component, "elem_id", None) or "").removeprefix(f"{self.tab}_")
        self.host[name] = component
        if name == f"html_log_{self.tab}":
            events.with_host(self)

    def _id(self, name: str) -> str:
        return f"{self.tab}_understudy_{name}"

    def _made(self, kind, name: str, said: tuple[str, str] | None = None, **options):
        label, tooltip = said or words.WIDGETS[name]
        if said is None:
            options.setdefault("value", getattr(Choices, name))
            options["visible"] = all(name in USES[Choices.rule] or name not in used for used in USES.values())
        widget = kind(label=label, tooltip=tooltip, elem_id=self._id(name), **options)
        self.widgets[name] = widget
        return widget

    def _dropdown(self, name: str, choices: list[str]) -> None:
        """Takes what is not listed as well: a pasted text's, of which the job then says what is wrong."""
        import gradio as gr

        self._made(gr.Dropdown, name, choices=choices, allow_custom_value=True)

    def _slider(self, name: str, low: float, high: float, step: float) -> None:
        import gradio as gr

        self._made(gr.Slider, name, minimum=low, maximum=high, step=step)

    def _button(self, name: str, said: tuple[str, str]):
        import gradio as gr

        return gr.Button(said[0], tooltip=said[1], elem_id=self._id(name), size="sm")

    def _tool(self, name: str, symbol: str, tooltip: str):
        from modules.ui_components import ToolButton

        return ToolButton(symbol, tooltip=tooltip, elem_id=self._id(name))
