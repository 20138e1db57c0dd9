"""The node that lets the teacher redo the rejected images of a batch, and only those."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from comfy_api.latest import io

from ..oracles.scores import values_of
from ..receipts.receipt import Receipt
from ..samplers.decisions import BY_STRATEGY, KEPT
from .batches import check_images, single_value
from .display import shown
from .latents import single
from .patches import warning
from .redo import redo
from .schema import schema
from .seeds import KEY, noise_of_image, samplers_upstream
from .take import Shot, Take, places_of
from .teacher_settings import BY_TABLE, OWN, settled
from .types import ReceiptSocket, ScoresSocket, ThresholdSocket
from .way_back import BY_SCORE, FIXED, MODES, badness

LAZY = ("model", "positive", "negative", "vae")


class UnderstudyTeacher(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        from comfy.samplers import KSampler

        return schema(
            node_id="UnderstudyTeacher",
            display_name="Understudy Teacher",
            description="Redoes the images whose score is below the threshold with the teacher model, each in its own "
            "noise. The others come out exactly as they came in, and if all pass, the teacher is not even loaded.",
            search_aliases=[
                "refine rejected",
                "adaptive sampler",
                "second pass",
                "conditional refine",
                "retry bad images",
            ],
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="The student's images, as a batch or a list."),
                ScoresSocket.Input("scores", tooltip="One score for each image, in the same order."),
                ThresholdSocket.Input("threshold", tooltip="Images that score below this go to the teacher."),
                io.Model.Input("model", lazy=True, tooltip="The teacher. Loaded only if an image is rejected."),
                io.Conditioning.Input(
                    "positive",
                    lazy=True,
                    tooltip="What the images should show, from the teacher's own text encoder. One for all, or a "
                    "list with one for each entry of a list of images.",
                ),
                io.Conditioning.Input("negative", lazy=True, tooltip="What the images should not show."),
                io.Vae.Input(
                    "vae", lazy=True, tooltip="The teacher's VAE: rejected images cross to the teacher in pixels."
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The student's latents, as a batch or a list. They give each image its seed, its place in "
                    "the batch (for the noise) and its noise mask; with start_from 'latent' also what the teacher "
                    "starts from.",
                ),
                io.Combo.Input(
                    "start_from",
                    options=["images", "latent"],
                    default="images",
                    tooltip="images: encode the rejected images with the teacher's VAE, which always works. latent: "
                    "take the student's latents as they are, if both models share one latent space.",
                ),
                io.Combo.Input(
                    "strategy",
                    options=list(BY_STRATEGY),
                    default="refine",
                    tooltip="refine: put noise on the student's image and let the teacher denoise it. regenerate: let "
                    "the teacher make the image anew, from the noise that the student started from.",
                ),
                io.Combo.Input(
                    "settings",
                    options=[BY_TABLE, OWN],
                    default=BY_TABLE,
                    tooltip="by the table: steps, cfg, sampler, scheduler and patch as published for the teacher, "
                    "found by its architecture, and with rollback_mode noise the way back for this student; the node "
                    "says which, and the widgets for them are not used. my own: the widgets.",
                ),
                io.Combo.Input(
                    "rollback_mode",
                    options=list(MODES),
                    default="noise",
                    tooltip="What rollback means. noise: the share of the noise in the variance, the same on every "
                    "model: 0.4 leaves 60 % of it to the picture. schedule: a fraction of the schedule, as KSampler's "
                    "denoise, which goes further back the more the model's schedule is shifted.",
                ),
                io.Float.Input(
                    "rollback",
                    default=0.65,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="How far a refined image goes back towards noise. High changes more of the composition. "
                    "Settings by the table have their own where the student's preset comes with the latent.",
                ),
                io.Combo.Input(
                    "strength",
                    options=[FIXED, BY_SCORE],
                    default=FIXED,
                    tooltip="fixed: all images go back as far as rollback says. by score: from rollback at the "
                    "threshold to rollback_worst at the worst score of the threshold's calibration, which it needs.",
                ),
                io.Float.Input(
                    "rollback_worst",
                    default=0.9,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Strength by score: how far back an image with the worst score goes.",
                ),
                io.Int.Input(
                    "steps", default=12, min=1, max=10000, tooltip="The teacher's steps for each rejected image."
                ),
                io.Float.Input(
                    "cfg",
                    default=7.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="The teacher's guidance scale.",
                ),
                io.Combo.Input(
                    "sampler_name", options=KSampler.SAMPLERS, default="dpmpp_2m", tooltip="The teacher's sampler."
                ),
                io.Combo.Input(
                    "scheduler", options=KSampler.SCHEDULERS, default="normal", tooltip="The teacher's noise schedule."
                ),
                io.Combo.Input(
                    "seed_from",
                    options=["latent", "widget"],
                    default="latent",
                    tooltip="latent: the seed that Understudy Student Sampler made the image with, which its latent "
                    "carries; for images where it carries none, the seed below, and the node says so. widget: the "
                    "seed below for all.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    tooltip="For images whose seed does not come with the latent. With the student's own seed each is "
                    "redone in its own starting noise.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images", is_output_list=True, tooltip="All images in their order, the rejected ones redone."
                ),
                io.Boolean.Output(
                    "refined", is_output_list=True, tooltip="For each image, whether the teacher redid it."
                ),
                ReceiptSocket.Output("receipt", tooltip="Decisions, network evaluations (counted) and seconds."),
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
        )

    @classmethod
    def check_lazy_status(cls, images, scores, threshold, strategy=(), strength=(), **_):
        rejected = sum(rejections(images, scores, threshold), [])
        if BY_SCORE in strength and "refine" in strategy:
            badness([], threshold[0], [], [BY_SCORE])  # what is wrong with it is told before they are loaded
        return list(LAZY) if any(rejected) else []

    @classmethod
    def execute(cls, images, scores, threshold, latent=None, **inputs) -> io.NodeOutput:
        began = time.perf_counter()
        rejected = rejections(images, scores, threshold)
        latent = latent and [single(each, "latent") for each in latent]
        for name, values in inputs.items():
            if len(values) not in (1, len(images)):
                raise ValueError(
                    f"{len(values)} entries in the list of {name}, but {len(images)} in the list of images; "
                    "give one for all, or one for each"
                )
        counts = [len(batch) for batch in images]
        places = places_of(latent or [None], counts)
        listed = frozenset(name for name, values in inputs.items() if len(values) > 1)
        strength = inputs["strength"] if "refine" in inputs["strategy"] else [FIXED]
        worse = badness(values_of(scores, sum(counts)), threshold[0], counts, strength)
        takes = []
        for k, entry in enumerate(zip(images, rejected, places, strict=True)):
            given = {name: each[k if len(each) > 1 else 0] for name, each in inputs.items()}
            takes.append(Take(*entry, listed, badness=worse[k], **settled(given, *entry[1:])))
        done = redo(takes)
        receipt = Receipt(
            decisions=tuple(BY_STRATEGY[take.strategy] if no else KEPT for take in takes for no in take.rejected),
            evaluations=tuple(count for each in done for count in each.evaluations),
            seconds=time.perf_counter() - began,
        )
        lines = [*remarks(takes, cls.hidden.dynprompt, cls.hidden.unique_id)]
        lines += filter(None, [threshold[0].remark(sum(map(len, rejected)))])
        return io.NodeOutput(
            [each.images for each in done], sum(rejected, []), receipt, ui=shown("\n".join(lines), cls.hidden.unique_id)
        )


def rejections(images: Sequence[torch.Tensor], scores: Sequence, threshold: Sequence) -> list[list[bool]]:
    """For each batch of the list of images, which of its images the threshold rejects."""
    counts = check_images("images", images, (3, 4))
    values = values_of(scores, sum(counts))
    flags = iter(single_value(threshold, "threshold").rejected(values))
    return [[next(flags) for _ in range(count)] for count in counts]


def remarks(takes: Sequence[Take], graph, node_id: str) -> Iterator[str]:
    """What was done, in whose noise, and why that may not be the images' own. graph: the host's DynamicPrompt."""
    first, numbered = 0, []
    for take in takes:
        numbered += [(first + shot.image, shot) for shot in take.shots]
        first += len(take.images)
    yield f"{len(numbered)} of {first} images redone"
    if not numbered:
        return
    for line in dict.fromkeys(line for _, shot in numbered for line in shot.said):
        so = [(number, shot) for number, shot in numbered if line in shot.said]
        yield line if len(so) == len(numbered) else f"{line}: {_named(so)}"
    own = [(number, shot) for number, shot in numbered if shot.seed_travelled]
    others = [(number, shot) for number, shot in numbered if not shot.seed_travelled]
    if own:
        unused = {shot.take.seed for _, shot in own} - {shot.noise.seed for _, shot in own}
        instead = f", not the widget's {_listed(unused)}" if unused else ""
        yield f"seed {_listed({shot.noise.seed for _, shot in own})} of the student's latent{instead}: {_named(own)}"
    if others:
        seeds = {shot.noise.seed for _, shot in others}
        yield f"seed {_listed(seeds)} of the widget: {_named(others)}"
        yield from sorted({_reason(shot) for _, shot in others if shot.take.seed_from == "latent"})
        brought = {seed % 2**64 for take in takes for seed in _brought(take)}
        for label, seed in samplers_upstream(graph, node_id, ("latent", "images")):
            if seed not in brought and any(other % 2**64 != seed for other in seeds):
                yield f"{label} has seed {seed}: what it made is redone in another noise"
    if len(takes) > 1 and any(shot.place.latent is None for _, shot in numbered):
        yield (
            "each image has the noise of its place in the whole list; if the student made them in other batches, "
            "connect its latent, so that each has its own"
        )
    parts = {(id(shot.take.model), shot.place_in_batch("model")[1]): shot.take for _, shot in numbered if shot.in_parts}
    yield from dict.fromkeys(filter(None, (warning(take.model, batch) for (_, batch), take in parts.items())))


def _brought(take: Take) -> Iterator[int]:
    """The seeds that came with the latent of any of a take's images, the kept ones too."""
    if take.seed_from == "latent":
        found = (noise_of_image(place.latent, place.row) for place in take.places)
        yield from (noise.seed for noise, _ in filter(None, found))


def _reason(shot: Shot) -> str:
    if shot.place.latent is None:
        return "because no latent is connected"
    if KEY in shot.place.latent:
        return "because the latent is no longer what Understudy Student Sampler made, or was joined to another's"
    return "because the latent carries no seed: it does not come straight from Understudy Student Sampler"


def _named(numbered: Sequence[tuple[int, Shot]]) -> str:
    return f"image{'s' if len(numbered) > 1 else ''} {_listed(number for number, _ in numbered)}"


def _listed(numbers) -> str:
    return ", ".join(str(number) for number in sorted(numbers))
