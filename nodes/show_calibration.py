"""Look at a calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from comfy_api.latest import io, ui

from ..oracles.calibration import MINIMUM_SCORES, Calibration
from ..oracles.scores import Scores
from ..oracles.settings import flat
from ..receipts.histogram import histogram
from .batches import single_value
from .calibrations import (
    ENOUGH_FOR_INTERVALS,
    content_hash,
    differing,
    find_calibration,
    in_words,
    known_calibrations,
    only,
    percentile_lines,
)
from .display import shown
from .folders import NONE
from .schema import schema
from .types import ScoresSocket

DRAWN, TOLD = (10, 30, 50, 90), (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)


class UnderstudyShowCalibration(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyShowCalibration",
            display_name="Show calibration",
            description="Shows a calibration: the histogram of its scores, its percentiles and how sure they are, and "
            "the settings that made it. With scores it says in what these were made otherwise.",
            search_aliases=["histogram", "score distribution", "compare settings", "percentiles"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "calibration",
                    options=known_calibrations(),
                    default=NONE,
                    tooltip="Which one. Calibrate makes them; R shows new ones.",
                ),
                ScoresSocket.Input(
                    "scores",
                    optional=True,
                    tooltip="Scores to hold its settings against. Calibrate's, to see it after they were counted.",
                ),
            ],
            outputs=[
                io.Image.Output("histogram", tooltip="The picture that the node shows."),
                io.String.Output("text", tooltip="What the node says below it."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, calibration=None):
        """No check against the combo's list, which does not have what this very run makes."""
        return True

    @classmethod
    def fingerprint_inputs(cls, calibration=None, **inputs):
        return content_hash(only(calibration))

    @classmethod
    def execute(cls, calibration: list, scores: Sequence[Scores] = ()) -> io.NodeOutput:
        name = single_value(calibration, "calibration")
        if name == NONE:
            raise ValueError("no calibration is chosen; choose one, or make one with Calibrate scores and press R")
        table = find_calibration(name)
        picture = histogram(table, levels_of(table, DRAWN), (table.n or 0) >= ENOUGH_FOR_INTERVALS)
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        image = pixels.reshape(1, picture.height, picture.width, 3).float() / 255
        text = "\n".join(described(table, scores))
        said = shown(text, cls.hidden.unique_id).as_dict()
        return io.NodeOutput(image, text, ui={**ui.PreviewImage(image, cls=cls).as_dict(), **said})


def levels_of(table: Calibration, wanted: Sequence[float]) -> list[float]:
    """Those of the percentiles that a calibration knows: none with too few scores, and not all in a bare table."""
    if table.n is not None and table.n < MINIMUM_SCORES:
        return []
    return [k for k in wanted if table.levels[0] <= k <= table.levels[-1]]


def described(table: Calibration, scores: Sequence[Scores] = ()) -> Iterator[str]:
    count = "an unknown number of" if table.n is None else table.n
    yield f"{table.name}: {count} scores, {table.percentiles[0]:.3f} to {table.percentiles[-1]:.3f}; {table.prompt_set}"
    if table.n is not None and table.n < MINIMUM_SCORES:
        yield f"{MINIMUM_SCORES - table.n} more to read percentiles"
    yield from percentile_lines(table, levels_of(table, TOLD))
    oracle = f"oracle: {table.oracle[:12]}" if table.oracle else "oracle: not known by its file"
    yield "\n- ".join(["made with", oracle, *(f"{key}: {value}" for key, value in flat(table.settings).items())])
    for found in dict.fromkeys(differing(table, batch) for batch in scores):
        words = in_words(found)
        yield "\n- ".join(["these scores were made otherwise:", *words]) if words else "these scores were made alike"
