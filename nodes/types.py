"""The pack's own socket types, and what travels through them."""

from __future__ import annotations

from dataclasses import dataclass

from comfy_api.latest import io

OracleSocket = io.Custom("UNDERSTUDY_ORACLE")  # nodes.hosted_oracle.HostedOracle
ScoresSocket = io.Custom("UNDERSTUDY_SCORES")  # oracles.scores.Scores
ThresholdSocket = io.Custom("UNDERSTUDY_THRESHOLD")  # oracles.threshold.Threshold
ReceiptSocket = io.Custom("UNDERSTUDY_RECEIPT")  # Receipt


@dataclass(frozen=True)
class Receipt:
    """What the teacher did to a batch, image by image; those of a list of batches are read one after another.

    decisions: KEPT, REFINED or REGENERATED of ``decisions.py``, one per image.
    evaluations: the teacher's network evaluations, counted, one per image; 0 where the image was kept.
    seconds: the teacher's wall-clock time for the whole batch, encoding and decoding included.
    """

    decisions: tuple[str, ...]
    evaluations: tuple[int, ...]
    seconds: float = 0.0
