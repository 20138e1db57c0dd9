"""Load the embedded demo models."""

from __future__ import annotations

from comfy_api.latest import io

from .schema import schema
from .types import OracleSocket


class UnderstudyLoadDemo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyLoadDemo",
            display_name="Load demo pair",
            description=(
                "The small models that come with Understudy: pictures of 64x64 pixels of one or two things, such as "
                '"a small red star left of a large blue circle on a gray background". No download, no GPU.'
            ),
            search_aliases=["demo checkpoint", "example model", "tiny model"],
            inputs=[
                io.Combo.Input(
                    "part",
                    options=["student", "teacher"],
                    default="student",
                    tooltip="The student needs one to four steps; the teacher needs more steps and guidance.",
                )
            ],
            outputs=[
                io.Model.Output(id="model", tooltip="The student's or the teacher's network."),
                io.Clip.Output(id="clip", tooltip="Reads the demo's language; an empty text is no text."),
                io.Vae.Output(id="vae", tooltip="64x64 pixels to 8x8 latents, for both parts."),
                OracleSocket.Output(id="oracle", tooltip="Scores how well a picture shows its prompt."),
                io.ControlNet.Output(
                    id="control_net",
                    tooltip="Makes the teacher's network follow an outline, white lines on black: the student's in "
                    "1 to 4 steps at cfg 1, the teacher's in more steps with guidance.",
                ),
            ],
        )

    @classmethod
    def execute(cls, part: str) -> io.NodeOutput:
        from ..oracles import load_oracle
        from .demo_networks import demo_file, load_control_net, load_model, load_vae
        from .hosted_oracle import HostedOracle

        oracle = HostedOracle(load_oracle(demo_file("oracle.safetensors"), "demo"))
        return io.NodeOutput(*load_model(part), load_vae(), oracle, load_control_net(part))
