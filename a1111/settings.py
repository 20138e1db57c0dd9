"""Our page of the host's settings."""

from __future__ import annotations

from .oracle import DEVICE_SETTING

DEVICE, CPU = "the host's device, while it scores", "CPU"


def add() -> None:
    import gradio as gr
    from modules import shared

    info = shared.OptionInfo(
        DEVICE,
        "Where the oracle scores",
        gr.Radio,
        {"choices": [DEVICE, CPU]},
        section=("understudy", "Understudy"),
    )
    shared.opts.add_option(DEVICE_SETTING, info.info("on the CPU it takes no video memory, and longer"))
