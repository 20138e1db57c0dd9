"""Two oracles as one."""

from __future__ import annotations

from comfy_api.latest import io

from ..oracles.combine import CombinedOracle, Part
from .calibrations import content_hash, find_calibration, known_calibrations
from .folders import NONE
from .schema import schema
from .types import OracleSocket


class UnderstudyCombineOracles(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyCombineOracles",
            display_name="Combine oracles",
            description=(
                "Scores with two oracles at once: the weighted mean of their percentiles, 0 to 100. An image that one "
                "of them vetoes scores below every other. Combine the result again for a third."
            ),
            search_aliases=["ensemble", "mix oracles", "weighted score", "veto"],
            inputs=[*_inputs("a"), *_inputs("b")],
            outputs=[
                OracleSocket.Output(
                    id="oracle", tooltip="For Score images by oracle and Keep better image; its scores are percentiles."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, calibration_a=None, calibration_b=None):
        """No check against the combo's list, which does not have the calibrations of this very run yet."""
        return True

    @classmethod
    def fingerprint_inputs(cls, calibration_a=None, calibration_b=None, **inputs):
        return f"{content_hash(calibration_a)}/{content_hash(calibration_b)}"

    @classmethod
    def execute(
        cls, oracle_a, calibration_a, weight_a, veto_a, oracle_b, calibration_b, weight_b, veto_b
    ) -> io.NodeOutput:
        first = Part(oracle_a, _calibration(calibration_a), weight_a, veto_a)
        second = Part(oracle_b, _calibration(calibration_b), weight_b, veto_b)
        return io.NodeOutput(CombinedOracle([first, second]))


def _inputs(letter: str) -> list:
    return [
        OracleSocket.Input(f"oracle_{letter}", tooltip="From Load oracle, Load demo pair, or another Combine oracles."),
        io.Combo.Input(
            f"calibration_{letter}",
            options=known_calibrations(),
            default=NONE,
            tooltip="The student's own scores by this oracle, which Calibrate collects; none after Combine oracles.",
        ),
        io.Float.Input(f"weight_{letter}", default=1.0, min=0.0, max=100.0, step=0.1, tooltip="Its share in the mean."),
        io.Float.Input(
            f"veto_{letter}",
            default=0.0,
            min=0.0,
            max=100.0,
            step=1.0,
            tooltip="Reject images below this percentile on this oracle, whatever the other says; 0 vetoes none.",
        ),
    ]


def _calibration(name: str):
    return None if name == NONE else find_calibration(name)
