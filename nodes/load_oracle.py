"""Load an oracle."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..oracles import load_oracle
from ..oracles.families import FAMILIES, NEEDS, TITLES, UNITS
from ..oracles.published import PUBLISHED, family_of
from .folders import NO_ORACLE, NONE, ORACLES, encoder_files, not_there, oracle_files, oracle_path
from .hosted_oracle import HostedOracle
from .schema import schema
from .types import OracleSocket


class UnderstudyLoadOracle(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyLoadOracle",
            display_name="Load oracle",
            description=(f"Loads a model that scores images: {TITLES}. Files go into models/oracles."),
            search_aliases=[
                "clip score",
                "reward model",
                "image scorer",
                "aesthetic score",
                "preference model",
                "human preference",
                *FAMILIES,
            ],
            inputs=[
                io.Combo.Input(
                    "oracle_name",
                    options=oracle_files() or [NO_ORACLE],
                    tooltip=(
                        "A file in models/oracles, as published or made by 'understudy oracle convert'; whole CLIPs in "
                        "models/clip_vision are CLIPScore oracles."
                    ),
                ),
                io.Combo.Input(
                    "family",
                    options=["auto", *FAMILIES],
                    default="auto",
                    tooltip=(
                        "How the file scores. auto tells it from the tensors, and where families share a layout, from "
                        f"the file's metadata, hash or published name. Scores are {UNITS}."
                    ),
                ),
                io.Combo.Input(
                    "encoder",
                    options=[NONE, *encoder_files()],
                    default=NONE,
                    optional=True,
                    tooltip=(f"The image encoder, where the file is only the head of an aesthetic predictor: {NEEDS}."),
                ),
            ],
            outputs=[
                OracleSocket.Output(
                    id="oracle", tooltip="For Score images by oracle, Keep better image and Combine oracles."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, oracle_name=None):
        """A file that is not there is refused before anything runs, with the ones that are."""
        known = oracle_files()
        if oracle_name is None or oracle_name in known:  # None: linked, or absent
            return True
        names = ", ".join(entry.name for entry in PUBLISHED if family_of(entry))
        what = f"a file of {TITLES} (or a whole CLIP into models/clip_vision)"
        fetch = f"'understudy oracle download NAME' fetches a published one: {names}"
        return not_there(oracle_name, known, ORACLES, what, fetch)

    @classmethod
    def execute(cls, oracle_name: str, family: str, encoder: str = NONE) -> io.NodeOutput:
        path = oracle_path(oracle_name)
        second = None if encoder == NONE else oracle_path(encoder)
        return io.NodeOutput(HostedOracle(load_oracle(path, family, dtype=oracle_dtype(), encoder=second)))


def oracle_dtype() -> torch.dtype:
    """The dtype of an oracle on the host's device: half precision where the host finds it fast there.

    Not the host's ``text_encoder_dtype``: that is float16 even on a CPU, and float8 where the user asks for it, because
    the host's own layers cast their weights in use. Those of transformers compute in the dtype that they have.
    """
    import comfy.model_management as management

    device = management.get_torch_device()
    if management.should_use_fp16(device):
        return torch.float16
    return torch.bfloat16 if management.should_use_bf16(device) else torch.float32
