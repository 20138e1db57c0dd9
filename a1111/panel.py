"""The panel of the txt2img and img2img tabs."""

from __future__ import annotations

from dataclasses import fields

from . import host, infotext
from .choices import AUTOMATIC, BUDGET, BY_CALIBRATION, NONE, PERCENTILE, RULES, SAME, SCORE, WORST, Choices
from .oracle import oracle_files
from .rule import calibration_files


def build(tab: str) -> tuple[list, list]:
    """The components in the order of Choices, and the infotext fields that paste back into them."""
    import gradio as gr
    from modules.ui_components import InputAccordion, ToolButton

    default = Choices()
    with InputAccordion(False, label="Understudy", elem_id=f"{tab}_understudy") as enabled:
        with gr.Row():
            oracle = gr.Dropdown(
                [NONE, *oracle_files()],
                value=NONE,
                label="Oracle",
                info="Scores each picture for its prompt: a file in models/oracles.",
            )
            refresh = ToolButton("\U0001f504", tooltip="Look for new files")
        rule = gr.Radio(list(RULES), value=default.rule, label="Redo")
        with gr.Row():
            share = gr.Slider(0, 100, value=default.share, step=1, label="Worst share, %")
            percentile = gr.Slider(0, 100, value=default.percentile, step=1, label="Percentile", visible=False)
            budget = gr.Number(value=default.budget, label="Evaluations an image", visible=False)
            calibration = gr.Dropdown([NONE, *calibration_files()], value=NONE, label="Calibration", visible=False)
            score = gr.Number(value=default.score, label="Score", visible=False)
        with gr.Row():
            teacher = gr.Dropdown([SAME, *host.checkpoints()], value=SAME, label="Teacher")
            remove = gr.Textbox(
                value=default.remove,
                label="Take off the prompt",
                info="What the teacher's prompt leaves out, by commas; * is any text.",
            )
        with gr.Row():
            steps = gr.Slider(1, 150, value=default.steps, step=1, label="Teacher steps")
            cfg = gr.Slider(1, 30, value=default.cfg, step=0.5, label="Teacher CFG")
        with gr.Row():
            sampler = gr.Dropdown(host.samplers(), value=default.sampler, label="Teacher sampler")
            scheduler = gr.Dropdown(host.schedulers(), value=AUTOMATIC, label="Teacher schedule")
            noise = gr.Slider(
                0.05,
                0.99,
                value=default.noise,
                step=0.01,
                label="Way back, as noise",
                info="The noise's share of the variance where the teacher starts.",
            )
        with gr.Row():
            keep_better = gr.Checkbox(default.keep_better, label="Keep the better one")
            save_student = gr.Checkbox(default.save_student, label="Also save the student's pictures")
            receipt = gr.Checkbox(default.receipt, label="Receipt in the gallery")
            control = gr.Checkbox(default.control, label="Teacher under ControlNet")
        with gr.Row():
            best_of = gr.Slider(1, 16, value=default.best_of, step=1, label="Best of")
            modules = gr.Dropdown(host.modules(), value=[], multiselect=True, label="Teacher modules", visible=False)
            record = gr.Textbox(
                value=default.record,
                label="Record scores as",
                info="The calibration that the student's scores are added to; empty: none.",
            )

    def seen(chosen):
        used = (chosen == WORST, chosen == PERCENTILE, chosen == BUDGET, chosen in BY_CALIBRATION, chosen == SCORE)
        return [gr.update(visible=visible) for visible in used]

    def listed():
        return [
            gr.update(choices=[NONE, *oracle_files()]),
            gr.update(choices=[SAME, *host.checkpoints()]),
            gr.update(choices=[NONE, *calibration_files()]),
        ]

    rule.change(seen, inputs=[rule], outputs=[share, percentile, budget, calibration, score], show_progress=False)
    refresh.click(listed, inputs=[], outputs=[oracle, teacher, calibration])
    named = locals()
    components = [named[field.name] for field in fields(Choices)]
    pasted = [(named[name], key) for name, key in infotext.FIELDS.items()]
    return components, pasted
