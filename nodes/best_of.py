"""Several students of each image, scored as they are made, and the one to go on with."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import torch
from comfy_api.latest import io

from ..oracles.calibration import CalibrationMismatch
from ..oracles.calibration_names import NONE
from ..oracles.combine import CombinedOracle
from ..oracles.prompt_syntax import prompts_to_read
from ..oracles.threshold import Threshold
from ..samplers.best_of import BestOf, best_of
from .batches import for_oracle, single_value, split, value_per_image
from .calibrations import in_words
from .display import shown
from .guidance import guidance_remarks
from .latent_space import space_of
from .patches import warning
from .schema import schema
from .score_images import scores_by
from .seeds import with_noises, with_seed
from .student import prepared_student, student_inputs, times_of_files
from .tries import Batch, Made, Rounds
from .types import OracleSocket, ScoresSocket, ThresholdSocket
from .upstream import settings_of_a_student, settings_of_own_images

log = logging.getLogger(__name__)


class UnderstudyBestOf(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyBestOf",
            display_name="Best of n students",
            description="Makes up to n students of each image, each from its own seed, and keeps the best: the first "
            "that passes a threshold, if one is connected, or the one that scores highest.",
            search_aliases=["best of n", "auto retry", "reroll", "rejection sampling", "try again", "pick best seed"],
            advanced=["settings_from"],
            is_input_list=True,
            inputs=[
                *student_inputs(),
                io.Vae.Input("vae", tooltip="The student's VAE: the oracle looks at pictures."),
                OracleSocket.Input("oracle", tooltip="The model that scores each try: Load oracle, or Load demo pair."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    tooltip="What the images should show: one prompt for all, or a list with one per image or batch.",
                ),
                io.Int.Input(
                    "n",
                    default=4,
                    min=1,
                    max=100,
                    tooltip="How often an image is tried at most. The first try is what Student sampler makes with "
                    "this seed; each costs the student's steps, a decoding and a look of the oracle.",
                ),
                ThresholdSocket.Input(
                    "stop_at",
                    optional=True,
                    tooltip="An image is not tried again once it passes this: its first try that scores the "
                    "threshold's value or more is taken. Without it all n tries are made.",
                ),
                io.Boolean.Input(
                    "literal_prompts",
                    default=False,
                    optional=True,
                    tooltip="As in Score images by oracle: whether the oracle reads weights and other syntax as text.",
                ),
            ],
            outputs=[
                io.Image.Output("images", is_output_list=True, tooltip="Of each image the try that was taken."),
                io.Latent.Output(
                    "latent", is_output_list=True, tooltip="Their latents; each image's seed travels to Teacher."
                ),
                ScoresSocket.Output(
                    "scores",
                    is_output_list=True,
                    tooltip="Their scores, with n and stop_at among the settings that made them. A threshold for them "
                    "comes from a calibration of them.",
                ),
                io.Int.Output("tries", is_output_list=True, tooltip="For each image, how often it was tried."),
                io.Int.Output(
                    "seeds",
                    is_output_list=True,
                    tooltip="For each image, the seed of the try that was taken; the node says how it is repeated.",
                ),
                io.Int.Output(
                    "evaluations",
                    is_output_list=True,
                    tooltip="For each image, the network evaluations of all its tries, counted.",
                ),
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, settings_from=(NONE,), **inputs):
        return times_of_files(settings_from and settings_from[0])

    @classmethod
    def execute(cls, vae, oracle, prompt, n, stop_at=(None,), literal_prompts=(False,), **student) -> io.NodeOutput:
        batches = entries(cls.hidden, vae=vae, **student)
        sizes = [len(batch.images) for batch in batches]
        prompts = value_per_image(prompt, sizes, "prompts")
        judge, literal = single_value(oracle, "oracle"), single_value(literal_prompts, "literal_prompts")
        read, syntax = prompts_to_read(prompts, literal or not judge.reads_prompts)
        rule = single_value(stop_at, "stop_at")
        passes, otherwise = stop(rule), measured_otherwise(rule, judge, cls.hidden)
        if isinstance(judge, CombinedOracle):
            judge.require(settings_of_tries(cls.hidden))
        judge.require_count(sum(sizes))
        rounds = Rounds(batches, single_value(n, "n"))

        def score(made: Sequence[Made], places: torch.Tensor) -> torch.Tensor:
            pictures, found = {i: each.picture for i, each in zip(places.tolist(), made, strict=True)}, []
            for batch, rows in rounds.of_batches(places.tolist()):
                own = [batch.first + row for row in rows]
                seen = for_oracle(torch.stack([pictures[i] for i in own]))
                found.append(judge(seen, [read[i] for i in own], own))
            return torch.cat(found)

        result = best_of(rounds, score, sum(sizes), single_value(n, "n"), passes=passes)
        latents, images, scores, seeds = [], [], [], []
        settings = settings_of_own_images(cls.hidden)
        for batch, texts in zip(batches, split(prompts, sizes), strict=True):
            own = list(batch.images)
            samples, pictures = (torch.stack(each) for each in zip(*(result.images[i] for i in own), strict=True))
            noises = [batch.noise(row, number) for row, number in enumerate(result.chosen[own].tolist())]
            made = {**batch.ready.latent, "samples": samples}
            made = with_seed(made, batch.seed, batch.ready.key, space_of(batch.ready.prepared.model))
            latents.append(with_noises(made, noises))
            images.append(pictures)
            scores.append(scores_by(judge, result.scores[own].tolist(), for_oracle(pictures), texts, settings, literal,
                                    tries=tuple(result.tries[own].tolist()),
                                    student_evaluations=tuple(rounds.evaluations[i] for i in own)))  # fmt: skip
            seeds += noises
        remarks = [*syntax, *judge.remarks(read)]
        for remark in remarks:
            log.warning("Understudy: %s", remark)
        text = "\n".join([*described(result, rounds.evaluations, seeds), *told(batches, result), *otherwise, *remarks])
        numbers = [noise.seed for noise, _ in seeds]
        outputs = images, latents, scores, result.tries.tolist(), numbers, rounds.evaluations
        return io.NodeOutput(*outputs, ui=shown(text, cls.hidden.unique_id))


def entries(hidden, **inputs: Sequence) -> list[Batch]:
    """The entries of the list that a student's inputs make, each given once for all entries or for each.

    Raises ValueError for other counts, and where the inputs of an entry do not fit each other.
    """
    count = max(len(values) for values in inputs.values())
    for name, values in inputs.items():
        if len(values) not in (1, count):
            raise ValueError(
                f"{len(values)} entries in the list of {name}, but {count} in another list; "
                "give one for all, or one for each"
            )
    found, first = [], 0
    for k in range(count):
        own = {name: values[k if len(values) > 1 else 0] for name, values in inputs.items()}
        about = {name: own.pop(name) for name in ("positive", "negative", "vae", "seed")}
        found.append(Batch(prepared_student(hidden, **own), own["model"], first=first, **about))
        first += len(found[-1].images)
    return found


def stop(threshold: Threshold | None):
    """Which scores pass a threshold, for ``best_of``. Raises ValueError for one that compares a batch's images."""
    if threshold is None:
        return None
    if threshold.value is None:
        raise ValueError(
            f"stop_at is a threshold of mode {threshold.mode}, which compares images and needs them all, but an image "
            "stops by its own score: connect one of mode percentile, budget or fixed"
        )
    return lambda scores: [not too_low for too_low in threshold.rejected(scores.tolist())]


def settings_of_tries(hidden) -> dict:
    """Of the students that the tries are, for calibrations of single ones. hidden: of the node."""
    return settings_of_a_student(hidden, [each.id for each in student_inputs()])


def measured_otherwise(threshold: Threshold | None, judge, hidden) -> list[str]:
    """What to say of a threshold by a calibration of other students than the tries are, which it judges one by one.

    Raises ValueError for a calibration of another oracle's scores. hidden: of the node.
    """
    if threshold is None or threshold.table is None:
        return []
    threshold.require_oracle(judge.fingerprint, judge.family)
    try:
        threshold.table.require(settings_of_tries(hidden))
    except CalibrationMismatch as error:
        differ = "; ".join(in_words(error.differences))
        return [f"stop_at: calibration {threshold.calibration!r} was made with other settings: {differ}"]
    return []


def described(result: BestOf, evaluations: Sequence[int], noises: Sequence) -> Iterator[str]:
    """What was done, and for each image how a sampler repeats it."""
    count = len(result.images)
    passed = f", {int(result.passed.sum())} passed" if result.passed.any() else ""
    yield f"{count} images{passed}: {int(result.tries.sum())} tries, {sum(evaluations)} network evaluations"
    for image, (noise, row) in enumerate(noises):
        place = f" at place {noise.index(row)} of a batch" if noise.index(row) else ""
        yield (
            f"{image + 1}: {result.scores[image]:.3f}, try {int(result.chosen[image]) + 1} of "
            f"{int(result.tries[image])}, seed {noise.seed}{place}"
        )


def told(batches: Sequence[Batch], result: BestOf) -> Iterator[str]:
    """What the users of these students should know, each thing once."""
    said = []
    for batch in batches:
        said += [*batch.ready.said, *guidance_remarks(batch.ready.row, batch.positive)]
        count, tries = len(batch.images), result.tries[list(batch.images)]
        if batch.runs() > 1 or (tries != tries[0]).any():
            said.append(warning(batch.ready.prepared.model, count))
    yield from dict.fromkeys(filter(None, said))
