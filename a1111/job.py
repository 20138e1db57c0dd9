"""A job of the host: what its pictures scored, and the teacher's pass after a batch or after all of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch

from ..oracles.scores import image_id
from . import host, infotext
from .axes import with_changes
from .choices import BUDGET, WORST, Choices, RefusedChoice
from .counting import Evaluations, count_for
from .entry import Entry
from .files import Files
from .gallery import Gallery
from .judge import Judge
from .receipt import show_receipt
from .redoing import Teacher
from .rule import calibration_of, calibration_path, record, settings_of, threshold_of
from .sources import Picture, frames
from .tries import Tried, tries_of
from .trouble import NotRedone, hook, pictures, say

log = logging.getLogger(__name__)
KEPT_AS = "understudy_job"  # on the processing that it is of


def begin(p, values: Sequence) -> Job | None:
    """The job for the panel's values, None where they ask for none; what cannot be honoured is said, and off."""
    job = None
    if getattr(p, "txt2img_upscale", False):  # the hires button under the gallery: one picture of an earlier job
        return None
    # A plot's cells share theirs, so that what the last one said would stay.
    said = p.extra_generation_params
    p.extra_generation_params = {key: said[key] for key in said if not key.startswith("Understudy")}
    try:
        choices = Choices.of(with_changes(p, values))
        job = Job(p, choices) if choices.enabled else None
    except (ValueError, OSError, NotRedone) as error:
        say(p, f"off, since {error}")
        p.extra_generation_params["Understudy"] = f"off: {error}"
    setattr(p, KEPT_AS, job)
    return job


def goes_on(job: Job | None, p) -> bool:
    """Whether ``p`` is but a copy of what a running job works on.

    ADetailer ends a job and starts it again around its own passes, for the sake of ControlNet, each with such a copy.
    """
    same = job is not None and p.extra_generation_params is job.p.extra_generation_params
    return same and p is not job.p and hasattr(p, "batch_index")


def image_saved(params) -> None:
    """on_image_saved, of any job."""
    job = getattr(params.p, KEPT_AS, None)
    if job is not None:
        job.saved(params)


class Job:
    """The hooks of one job, in the host's order."""

    def __init__(self, p, choices: Choices):
        self.p, self.choices = p, choices
        self.failed = self.refusal = ""  # an error of ours; why there is no threshold
        self.judge = Judge(p, choices.oracle)
        self.settings = settings_of(p)
        self.table = calibration_of(choices, self.settings, self.judge.oracle)
        self.threshold = None if choices.rule == BUDGET else threshold_of(choices, self.table)
        if choices.sampler not in host.samplers():
            raise RefusedChoice(f"the host has no sampler {choices.sampler!r} that starts at any noise level")
        if choices.record:
            calibration_path(choices.record)  # refused before anything is made
        self.files = Files(p, choices.save_student)
        self.batches: list[list[Entry]] = []
        self.recorded: list[tuple[str, float, str]] = []
        self.expected = self.made_count = 0
        self.teacher = Teacher(p, choices, self.judge)
        self.next_batch()
        p.extra_generation_params.update(infotext.of_choices(choices))
        for key in infotext.OF_A_PICTURE:
            p.extra_generation_params[key] = self._asked(lambda entry, key=key: entry.keys().get(key))
        if choices.best_of > 1:  # a picture's seed is its try's: asked for by itself, it is to be made once
            p.extra_generation_params[infotext.FIELDS["best_of"]] = self._asked(lambda entry: "1", str(choices.best_of))

    def _asked(self, of, otherwise: str | None = None):
        """What the host asks for each picture's text; one of all pictures, as a grid's, says nothing of any."""

        def value(p, index, use_main_prompt=False, **_):
            batch = self.batches[p.iteration] if p.iteration < len(self.batches) else []
            return of(batch[index]) if index < len(batch) and not use_main_prompt else otherwise

        return value

    @property
    def entries(self) -> list[Entry]:
        return [entry for batch in self.batches for entry in batch]

    @hook
    def next_batch(self) -> None:
        if self.batches and self.choices.rule != WORST and not self.choices.receipt:  # nobody will ask for them again
            for entry in self.batches[-1]:
                entry.release()
        self.latents: torch.Tensor | None = None
        self.tried: Tried | None = None
        self.first_seeds: list[int] = []
        self.counted: Evaluations = count_for(self.p)
        self.shape = getattr(getattr(self.p, "rng", None), "shape", None)
        self.files.expect(None)

    @hook
    def sampled(self, args) -> None:
        """post_sample. The latents are the student's, unless the host has decoded them already."""
        if self.choices.rule == WORST and not self.expected:  # so that the host's time left counts it from the start
            self.expected = 1
            host.expect_pass()
        if not getattr(args.samples, "already_decoded", False):
            self.latents = args.samples.detach().cpu()
        if self.threshold is None and not self.refusal:
            try:
                self.threshold = threshold_of(self.choices, self.table, self.counted)
            except ValueError as error:
                self.refusal = str(error)
                say(self.p, f"nothing is redone: {error}")
        if self.choices.best_of > 1 and not host.cut_short():
            self._try_again(args)

    def _try_again(self, args) -> None:
        from modules.devices import NansException
        from modules.processing import DecodedSamples

        p, around = self.p, frames(self.p, len(args.samples))
        start = p.iteration * p.batch_size
        prompts = p.all_prompts[start : start + p.batch_size]

        def score(pixels, places) -> list[float]:
            shown = [around[place].shown(picture) for place, picture in zip(places, pixels, strict=True)]
            return [value for value, _ in self.judge(shown, [prompts[place] for place in places])]

        passes = self._passes if self.choices.rule != WORST and self.threshold is not None else None
        try:
            tried = tries_of(p, args.samples, self.shape, self.counted, self.choices.best_of, score, passes)
        except NansException:
            return  # of the student's own, which the host is about to say
        if tried.problem:
            say(p, f"tries were broken off: {tried.problem}")
        for place, numbers in enumerate(zip(tried.seeds, tried.subseeds, strict=True)):
            p.all_seeds[start + place], p.all_subseeds[start + place] = numbers
        self.first_seeds = list(p.subseeds if p.subseed_strength else p.seeds)
        p.seeds, p.subseeds = list(tried.seeds), list(tried.subseeds)
        self.tried, self.latents = tried, tried.latents
        args.samples = DecodedSamples(each.decoded for each in tried.chosen)

    def _passes(self, score: float) -> bool:
        return not self.threshold.rejected([score])[0]

    @hook
    def decoded(self, images: list) -> None:
        """postprocess_batch_list: ``images`` [3, H, W], of which redone ones are put in place."""
        while len(self.batches) < self.p.iteration:  # a batch that never came this far
            self.batches.append([])
        entries = self._entries([image.detach().cpu().float() for image in images])
        self.batches.append(entries)
        if self.choices.rule != WORST:
            for entry in self.teacher.redoes(self._rejected(entries)):
                images[entries.index(entry)] = entry.teacher

    def _entries(self, pixels: Sequence[torch.Tensor]) -> list[Entry]:
        p, latents, tried = self.p, self.latents, self.tried
        # After a hires fix by an upscaler, or in another script's hands, the latents are no longer the pictures'.
        fits, around = latents is not None and len(latents) == len(pixels), frames(p, len(pixels))
        if tried is None:
            shown = [frame.shown(picture) for frame, picture in zip(around, pixels, strict=True)]
            scores = self.judge(shown, p.prompts)
        else:
            scores = [(score, "it has none" if math.isnan(score) else "") for score in tried.scores]
        entries = []
        for i, facts in enumerate(zip(p.prompts, p.negative_prompts, p.seeds, p.subseeds, strict=True)):
            score, trouble = scores[i]
            entry = Entry(Picture(*facts, pixels[i], latents[i] if fits else None, score, around[i]))
            entry.evaluations = self.counted.each if tried is None else tried.evaluations[i]
            if trouble:
                entry.decision = f"not scored: {trouble}"
            elif self.refusal:
                entry.decision = f"not redone: {self.refusal}"
            if tried is not None:
                own = entry.picture.subseed if p.subseed_strength else entry.picture.seed
                entry.tries = tried.counts[i]
                entry.first_seed = None if own == self.first_seeds[i] else self.first_seeds[i]
            entries.append(entry)
        if self.choices.record:  # the student's own, whatever tries were made of them
            own = pixels if tried is None else [each.pixels for each in tried.first]
            values = [score for score, _ in scores] if tried is None else tried.first_scores
            found = zip(own, values, p.prompts, strict=True)
            self.recorded += [(image_id(image), score, text) for image, score, text in found if not math.isnan(score)]
        return entries

    def _rejected(self, entries: Sequence[Entry]) -> list[Entry]:
        scored = [entry for entry in entries if entry.scored]
        if self.threshold is None or not scored:
            return []
        flags = self.threshold.rejected([entry.picture.score for entry in scored])
        return [entry for entry, bad in zip(scored, flags, strict=True) if bad]

    @hook
    def made(self, image) -> None:
        """postprocess_image_after_composite: the object that the host saves and shows."""
        batch = self.batches[self.p.iteration] if self.p.iteration < len(self.batches) else []
        entry = batch[self.p.batch_index] if self.p.batch_index < len(batch) else None
        if entry is not None:
            entry.image, entry.place = image, self.made_count
        self.made_count += 1
        self.files.expect(entry)

    @hook
    def saved(self, params) -> None:
        """on_image_saved."""
        self.files.saved(params)

    @hook
    def finish(self, processed) -> None:
        """postprocess: the worst of the whole job, in one pass; their files are replaced, and the grid is made anew."""
        host.expect_pass(-self.expected)
        host.skip_is_over()
        if self.choices.rule == WORST:
            if stopped := host.interrupted():
                say(self.p, f"nothing is redone: {stopped}")
            else:
                self._redo_worst(Gallery(self.p, processed, self.entries))
        if self.recorded:
            self._record()
        if self.choices.receipt and self.threshold is not None:
            show_receipt(self.p, processed, self.entries, self.threshold, self.files)

    def _redo_worst(self, gallery: Gallery) -> None:
        if remark := self.threshold.remark(sum(entry.scored for entry in gallery.entries)):
            say(self.p, remark)
        rejected = self._rejected(gallery.entries)
        places = {entry: at for entry in rejected if (at := gallery.place(entry)) is not None}
        if len(places) < len(rejected):
            lost = len(rejected) - len(places)
            say(self.p, f"{pictures(lost)} left as before, since another extension put others in their places")
        changed = list(self.teacher.redoes(list(places)))
        for entry, at in places.items():
            entry.image = image = gallery.processed.images[at]
            text = infotext.with_values(gallery.text(entry), entry.keys())
            if entry.teacher is not None:
                image = entry.picture.frame.finished(entry.teacher)
            self.files.replace(entry, image, text)
            gallery.put(entry, at, image, text)
            if entry.teacher is not None and (left := gallery.renew_composite(entry, at, text, self.files)):
                say(self.p, left)
        if changed:
            gallery.renew_grid(self.files)

    def _record(self) -> None:
        try:
            table = record(self.choices.record, self.settings, self.judge.oracle, self.recorded)
        except (ValueError, OSError) as error:
            say(self.p, f"nothing is recorded: {error}")
        else:
            log.info("Understudy: calibration %s has %d scores", table.name, table.n)

    def release(self) -> None:
        """Let go of the pictures, since the host's own cycles keep a job for long; its texts may still be asked for."""
        for entry in self.entries:
            entry.release()
        self.latents = self.tried = None
        setattr(self.p, KEPT_AS, None)
