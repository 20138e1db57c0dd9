"""The pack's own socket types."""

from __future__ import annotations

from comfy_api.latest import io

OracleSocket = io.Custom("UNDERSTUDY_ORACLE")  # nodes.hosted_oracle.HostedOracle
ScoresSocket = io.Custom("UNDERSTUDY_SCORES")  # oracles.scores.Scores
ThresholdSocket = io.Custom("UNDERSTUDY_THRESHOLD")  # oracles.threshold.Threshold
ReceiptSocket = io.Custom("UNDERSTUDY_RECEIPT")  # receipts.receipt.Receipt
