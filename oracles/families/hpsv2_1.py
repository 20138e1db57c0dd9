"""HPSv2.1: HPSv2 trained on more choices; it scores as that does."""

from __future__ import annotations

from dataclasses import replace

from ..family import Published, on_hub
from .hpsv2 import FAMILY as HPSV2

FAMILY = replace(
    HPSV2,
    name="hpsv2.1",
    title="HPSv2.1",
    takes="`HPS_v2.1_compressed.pt`",
    published=(
        Published(
            name="hpsv2.1",
            file="HPS_v2.1_compressed.pt",
            url=on_hub("xswu/HPSv2", "HPS_v2.1_compressed.pt"),
            licence="Apache-2.0",
            source="Wu et al. 2023, arXiv 2306.09341",
            sha256="c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837",
            size=1_972_490_005,
        ),
    ),
)
