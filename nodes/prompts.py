"""Several prompts for one graph."""

from __future__ import annotations

from comfy_api.latest import io

from .schema import schema


class UnderstudyPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyPrompts",
            display_name="Prompts from lines",
            description="Makes a list of the lines of a text: what it is connected to runs once for each prompt.",
            search_aliases=["prompt list", "several prompts", "batch of prompts", "one prompt per line", "text list"],
            inputs=[
                io.String.Input("text", multiline=True, tooltip="One prompt in each line; empty lines are left out.")
            ],
            outputs=[
                io.String.Output(
                    "prompts",
                    is_output_list=True,
                    tooltip="The prompts as a list, for CLIP Text Encode and for whatever reads a prompt.",
                )
            ],
        )

    @classmethod
    def execute(cls, text: str) -> io.NodeOutput:
        prompts = [line.strip() for line in text.splitlines() if line.strip()]
        if not prompts:
            raise ValueError("text is empty: write one prompt in each line")
        return io.NodeOutput(prompts)
