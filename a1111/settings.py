"""Our page of the host's settings."""

from __future__ import annotations

from . import words
from .oracle import DEVICE_SETTING

LABEL, DEVICE, INFO = words.DEVICE
CPU = "CPU"


def add() -> None:
    import gradio as gr
    from modules import shared

    info = shared.OptionInfo(
        DEVICE,
        LABEL,
        gr.Radio,
        {"choices": [DEVICE, CPU]},
        section=("understudy", "Understudy"),
    )
    shared.opts.add_option(DEVICE_SETTING, info.info(INFO))
