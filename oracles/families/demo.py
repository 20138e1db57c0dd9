"""The demo oracle: does a 64x64 picture show the scene that a text describes?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...files import fill
from ..base import Oracle
from ..family import Family
from ..preprocess import without_alpha
from ..tensors import TensorFile

if TYPE_CHECKING:
    from torch import Tensor, nn

MARK = "demo-oracle"
SIDE = 64  # of its pictures, in pixels


class DemoOracle(Oracle):
    """Scores are log-odds: 0 where the network holds "shows the scene" and "does not" for equally likely.

    Prompts are free text in the demo's language; other words raise ``PromptError``. Pictures of another size than
    64x64 are resized.
    """

    cpu_numbers = 256 * 3 * SIDE**2  # its layers are small

    def __init__(self, network: nn.Module, fingerprint: str):
        self.network, self.fingerprint = network, fingerprint

    def prepare(self, images: Tensor) -> Tensor:
        from ..pil_resize import resize_floats

        images = without_alpha(images)
        if images.shape[-2:] != (SIDE, SIDE):
            images = resize_floats(images, SIDE, SIDE).clamp(0, 1)
        return images

    def score_prepared(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        import torch

        from ...demo_family.language import parse, token_ids

        weight = self.network.words.weight
        tokens = torch.tensor([token_ids(parse(prompt)) for prompt in prompts], device=weight.device)
        return self.network(pixels.to(weight.dtype), tokens)


def fits(file: TensorFile) -> bool:
    """Whether a file is a demo oracle; its metadata says so."""
    return file.metadata.get("understudy") == MARK


def load(file: TensorFile, fingerprint: str, dtype, encoder: None) -> DemoOracle:
    from ...demo_family.oracle_network import SceneOracleNetwork

    return DemoOracle(fill(file.path, SceneOracleNetwork(), file, dtype), fingerprint)


FAMILY = Family(
    name="demo",
    title="the demo's own",
    unit="logit that the picture shows the scene",
    takes="the demo family's, which ships with the pack",
    fits=fits,
    load=load,
    licence="Apache-2.0",
    source="Understudy's demo-oracle recipe",
)
