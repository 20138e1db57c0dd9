"""Our page of the host's settings."""

from __future__ import annotations

SECTION = ("understudy", "Understudy")
ORACLE_DEVICE, SAVE_RECEIPT = "understudy_oracle_device", "understudy_save_receipt"
DEVICE, CPU = "the host's device, while it scores", "CPU"


def add() -> None:
    import gradio as gr
    from modules import shared

    def option(key, default, label, component, **arguments):
        info = shared.OptionInfo(default, label, component, arguments, section=SECTION)
        shared.opts.add_option(key, info)
        return info

    option(ORACLE_DEVICE, DEVICE, "Where the oracle scores", gr.Radio, choices=[DEVICE, CPU]).info(
        "on the CPU it needs no video memory and takes longer"
    )
    option(SAVE_RECEIPT, True, "Save the receipt beside the pictures", gr.Checkbox).info(
        "where the panel asks for one, and the host saves the pictures"
    )


def oracle_on_cpu() -> bool:
    from modules.shared import opts

    return opts.data.get(ORACLE_DEVICE, DEVICE) == CPU


def saves_receipt() -> bool:
    from modules.shared import opts

    return bool(opts.data.get(SAVE_RECEIPT, True))
