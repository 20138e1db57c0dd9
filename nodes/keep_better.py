"""Take back what the teacher made worse: of each redone image, keep the version that the oracle prefers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from comfy_api.latest import io

from ..oracles.prompt_syntax import prompts_to_read
from ..oracles.scores import Scores, as_numbers, values_of
from ..receipts.receipt import same_image
from ..samplers.decisions import KEPT, REDONE, REVERTED
from .batches import check_images, for_oracle, single_value, split, value_per_image
from .schema import schema
from .types import OracleSocket, ScoresSocket


class UnderstudyKeepBetter(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyKeepBetter",
            display_name="Keep better image",
            description="Scores only the images that the teacher changed, and of each keeps the better version.",
            search_aliases=["best of two", "compare scores", "undo refine", "pick best"],
            is_input_list=True,
            inputs=[
                # First, since a bypassed node passes its first input of the output's type on.
                io.Image.Input("images_after", tooltip="The images after the teacher; what a bypass passes on."),
                io.Image.Input("images_before", tooltip="The student's images, in the same order."),
                ScoresSocket.Input("scores", tooltip="The scores of images_before."),
                OracleSocket.Input(
                    "oracle", lazy=True, tooltip="Scores the redone images. Not even loaded if no image was redone."
                ),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    tooltip="What the images should show: one prompt for all, or a list with one per image or batch.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images", is_output_list=True, tooltip="Of each image the version with the higher score."
                ),
                ScoresSocket.Output(
                    "scores",
                    is_output_list=True,
                    tooltip=(
                        "The scores that came in, with decisions, and the new scores of the redone images where the "
                        "same oracle made both."
                    ),
                ),
            ],
        )

    @classmethod
    def check_lazy_status(cls, images_before, images_after, scores, **_):
        return ["oracle"] if any(sum(redone(images_before, images_after), [])) else []

    @classmethod
    def execute(cls, images_before, images_after, scores, oracle, prompt) -> io.NodeOutput:
        changed = redone(images_before, images_after)
        images_after = in_batches_of(images_before, images_after)
        sizes = [len(batch) for batch in images_before]
        prompts = value_per_image(prompt, sizes, "prompts")
        before = split(values_of(scores, sum(sizes)), sizes)
        judge = Judge(single_value(oracle, "oracle"), scores, prompts)
        texts = split(judge.texts, sizes)
        output, decisions, after = [], [], []
        for old, new, flags, text, values in zip(images_before, images_after, changed, texts, before, strict=True):
            places = [i for i, flag in enumerate(flags) if flag]
            decided, scored, kept = [KEPT] * len(old), [None] * len(old), old
            if places:
                own = [text[i] for i in places]
                numbers = [len(decisions) + i for i in places]
                now = judge(new[places], own, numbers)
                was = [values[i] for i in places] if judge.made_the_scores else judge(old[places], own, numbers)
                better = [i for i, a, b in zip(places, now, was, strict=True) if a > b]
                kept = old.clone()
                kept[better] = new[better]
                for i, value in zip(places, now, strict=True):
                    decided[i] = REDONE if i in better else REVERTED
                    scored[i] = value if judge.made_the_scores else None  # never two oracles' numbers side by side
            output.append(kept)
            decisions += decided
            after += scored
        return io.NodeOutput(output, list(with_decisions(scores, decisions, after)))


class Judge:
    """An oracle, and whether it made the scores of the images before the teacher, so that new ones compare.

    ``texts`` are the prompts as it read them then: with what is syntax, or without.
    """

    def __init__(self, oracle, scores: Sequence[Scores], prompts: Sequence[str]):
        self.oracle = oracle
        if oracle is not None:
            oracle.require_count(len(prompts))
        parts = split(prompts, [len(each.values) for each in scores])
        self.texts = [
            t for each, part in zip(scores, parts, strict=True) for t in prompts_to_read(part, each.literal).texts
        ]
        same_oracle = oracle is not None and all(_made(oracle, each) for each in scores)
        self.made_the_scores = same_oracle and [text for each in scores for text in each.prompts] == list(prompts)

    def __call__(self, images: torch.Tensor, prompts: Sequence[str], numbers: Sequence[int]) -> list[float]:
        """Scores of images ``[B, H, W, C]``; ``numbers`` are their places among all images."""
        return as_numbers(self.oracle(for_oracle(images), prompts, numbers), numbers)


def _made(oracle, scores: Scores) -> bool:
    return (scores.oracle, scores.against) == (oracle.fingerprint, oracle.against)


def redone(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> list[list[bool]]:
    """For each batch of ``before``, which of its images ``after`` has in another form, whatever its batches are.

    Raises ValueError where counts or sizes differ.
    """
    counts = check_images("images_before", before), check_images("images_after", after)
    if sum(counts[0]) != sum(counts[1]):
        raise ValueError(f"{sum(counts[0])} images_before, but {sum(counts[1])} images_after: connect the same images.")
    pairs = list(zip(_singly(before), _singly(after), strict=True))
    for number, (old, new) in enumerate(pairs, start=1):
        if old.shape != new.shape:
            raise ValueError(
                f"image {number} of images_before has shape {list(old.shape)}, but that of images_after "
                f"{list(new.shape)}: connect the same images."
            )
    flags = [not same_image(*pair) for pair in pairs]
    return [list(part) for part in split(flags, counts[0])]


def in_batches_of(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """``after`` in the batches of ``before``, which has the same number of images of the same sizes."""
    sizes = [len(batch) for batch in before]
    return after if [len(batch) for batch in after] == sizes else list(map(torch.stack, split(_singly(after), sizes)))


def _singly(batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [image for batch in batches for image in batch]


def with_decisions(scores: Sequence[Scores], decisions: Sequence[str], after: Sequence[float | None]):
    """The scores in the structure that they came in, with decisions and the scores after the teacher."""
    sizes = [len(each.values) for each in scores]
    for each, decided, scored in zip(scores, split(decisions, sizes), split(after, sizes), strict=True):
        yield replace(each, decisions=decided, scores_after=scored)
