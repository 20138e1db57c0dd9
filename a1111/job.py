"""A job of the host: what its pictures scored, and the teacher's pass after a batch or after all of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import torch

from ..oracles.scores import image_id
from . import host, infotext
from .choices import BUDGET, SAME, WORST, Choices, RefusedChoice
from .counting import Evaluations, count_for
from .entry import Entry
from .files import Files
from .gallery import Gallery
from .oracle import HostedOracle
from .receipt import show_receipt
from .rule import calibration_of, record, require_recordable, settings_of, threshold_of
from .second_pass import NotRedone, Picture, picture_of, redo
from .tries import Tried, tries_of

log = logging.getLogger(__name__)
KEPT_AS = "understudy_job"  # on the processing that it is of


def begin(p, values: Sequence) -> Job | None:
    """The job for the panel's values, None where they ask for none; what cannot be honoured is said, and off."""
    job = None
    try:
        choices = Choices.of(values)
        job = Job(p, choices) if choices.enabled else None
    except (ValueError, OSError) as error:
        say(p, f"off, since {error}")
        p.extra_generation_params["Understudy"] = f"off: {error}"
    setattr(p, KEPT_AS, job)
    return job


def say(p, text: str) -> None:
    """In the page below the pictures, and in the log."""
    log.warning("Understudy: %s", text)
    p.comment(f"Understudy: {text}")


def image_saved(params) -> None:
    """on_image_saved, of any job."""
    job = getattr(params.p, KEPT_AS, None)
    if job is not None:
        job.files.saved(params)


class Job:
    """The hooks of one job, in the host's order."""

    def __init__(self, p, choices: Choices):
        self.p, self.choices = p, choices
        self.oracle = HostedOracle(choices.oracle)
        self.settings = settings_of(p)
        self.table = calibration_of(choices, self.settings, self.oracle.oracle)
        self.threshold = None if choices.rule == BUDGET else threshold_of(choices, self.table)
        self.refusal = ""  # why there is no threshold
        if choices.sampler not in host.samplers():
            raise RefusedChoice(f"the host has no sampler {choices.sampler!r} that starts at any noise level")
        if choices.record:
            require_recordable(choices.record)
        self.files = Files(p, choices.save_student)
        self.batches: list[list[Entry]] = []
        self.recorded: list[tuple[str, float, str]] = []
        self.made_count, self.announced, self.processed = 0, False, None
        self.next_batch()
        p.extra_generation_params.update(infotext.of_choices(choices))
        for key in Entry.KEYS:
            p.extra_generation_params[key] = self._asked(lambda entry, key=key: entry.keys().get(key))
        if choices.best_of > 1:  # a picture's seed is its try's, which no other tries make
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

    def say(self, text: str) -> None:
        say(self.p, text)
        if self.processed is not None:  # which has the host's comments already
            self.processed.comments += f"Understudy: {text}\n"

    def next_batch(self) -> None:
        self.latents: torch.Tensor | None = None
        self.tried: Tried | None = None
        self.counted: Evaluations = count_for(self.p)
        self.shape = getattr(getattr(self.p, "rng", None), "shape", None)
        self.files.expect(None)

    def sampled(self, args) -> None:
        """post_sample. The latents are the student's, unless the host has decoded them already."""
        samples, each = args.samples, self.counted.each
        if not getattr(samples, "already_decoded", False):
            self.latents = samples.detach().cpu()
        if self.threshold is None and not self.refusal:
            try:
                self.threshold = threshold_of(self.choices, self.table, self.counted)
            except ValueError as error:
                self.refusal = str(error)
                self.say(f"nothing is redone, since {error}")
        if self.choices.best_of > 1:
            self._try_again(args, each)

    def _try_again(self, args, each: float | None) -> None:
        from modules.devices import NansException
        from modules.processing import DecodedSamples

        p = self.p
        if getattr(p, "firstpass_image", None) is not None:
            self.say("the picture that is made larger is tried once: another seed would not make another")
            return
        prompts = self._of_batch(p.all_prompts)
        passes = self._passes if self.choices.rule != WORST and self.threshold is not None else None
        first, n = Evaluations(each, self.counted.rows), self.choices.best_of

        def score(pixels, places) -> list[float]:
            return self._scores(pixels, [prompts[place] for place in places])

        try:
            tried = tries_of(p, args.samples, self.shape, first, n, score, passes)
        except NansException:
            return  # of the student's own, which the host is about to say
        if tried.problem:
            self.say(f"tries were broken off: {tried.problem}")
        start = p.iteration * p.batch_size
        for place, numbers in enumerate(zip(tried.seeds, tried.subseeds, strict=True)):
            p.all_seeds[start + place], p.all_subseeds[start + place] = numbers
        self.tried, self.latents = tried, tried.latents
        self.first_seeds = p.subseeds if p.subseed_strength else p.seeds
        p.seeds, p.subseeds = list(tried.seeds), list(tried.subseeds)
        args.samples = DecodedSamples(each.decoded for each in tried.chosen)

    def _of_batch(self, values: Sequence) -> list:
        start = self.p.iteration * self.p.batch_size
        return list(values[start : start + self.p.batch_size])

    def decoded(self, images: list) -> None:
        """postprocess_batch_list: ``images`` [3, H, W], of which redone ones are put in place."""
        p, latents, tried = self.p, self.latents, self.tried
        pixels = [image.detach().cpu().float() for image in images]
        # After a hires fix by an upscaler, or in another script's hands, the latents are no longer the pictures'.
        fits = latents is not None and len(latents) == len(images)
        scores = self._scores(pixels, p.prompts) if tried is None else tried.scores
        entries = [
            Entry(Picture(*facts, pixels[i], latents[i] if fits else None, scores[i]))
            for i, facts in enumerate(zip(p.prompts, p.negative_prompts, p.seeds, p.subseeds, strict=True))
        ]
        for i, entry in enumerate(entries):
            entry.evaluations = self.counted.each if tried is None else tried.evaluations[i]
            if not entry.scored:
                entry.decision = infotext.UNSCORED
            elif self.refusal:
                entry.decision = f"not redone: {self.refusal}"
            if tried is not None:
                entry.tries = tried.counts[i]
                own = entry.picture.subseed if p.subseed_strength else entry.picture.seed
                entry.first_seed = None if own == self.first_seeds[i] else self.first_seeds[i]
        while len(self.batches) < p.iteration:  # a batch that never came this far
            self.batches.append([])
        self.batches.append(entries)
        if self.choices.record:
            firsts = pixels if tried is None else [each.pixels for each in tried.first]
            values = scores if tried is None else tried.first_scores
            for image, score, prompt in zip(firsts, values, p.prompts, strict=True):
                if not math.isnan(score):
                    self.recorded.append((image_id(image), score, prompt))
        if self.choices.rule != WORST:
            for entry in self._redone(self._rejected(entries)):
                images[entries.index(entry)] = entry.teacher

    def _rejected(self, entries: Sequence[Entry]) -> list[Entry]:
        scored = [entry for entry in entries if entry.scored]
        if self.threshold is None or not scored:
            return []
        flags = self.threshold.rejected([entry.picture.score for entry in scored])
        return [entry for entry, bad in zip(scored, flags, strict=True) if bad]

    def _passes(self, score: float) -> bool:
        return not self.threshold.rejected([score])[0]

    def _scores(self, pixels: Sequence[torch.Tensor], prompts: Sequence[str]) -> list[float]:
        scores, problem = self.oracle.each(pixels, prompts)
        if problem:
            self.say(f"{sum(map(math.isnan, scores))} of {len(scores)} pictures have no score: {problem}")
        return scores

    def _redone(self, rejected: list[Entry]) -> Iterator[Entry]:
        """Those whose picture is the teacher's now."""
        if not rejected:
            return
        self._announce_teacher()
        try:
            result = redo(self.p, self.choices, [entry.picture for entry in rejected])
        except (NotRedone, RefusedChoice) as error:
            for entry in rejected:
                entry.decision = f"not redone: {error}"
            self.say(f"{len(rejected)} pictures are not redone: {error}")
            return
        after = self._scores(result.pixels, [entry.picture.prompt for entry in rejected])
        for entry, pixels, score in zip(rejected, result.pixels, after, strict=True):
            entry.score_after, entry.sigma, entry.by_teacher = score, result.sigma, result.evaluations
            known = None not in (entry.evaluations, result.evaluations)
            entry.evaluations = entry.evaluations + result.evaluations if known else None
            better = score > entry.picture.score or not self.choices.keep_better  # which NaN is not
            entry.decision = infotext.REDONE if better else infotext.REVERTED
            if better:
                entry.teacher = pixels
                yield entry

    def _announce_teacher(self) -> None:
        """What another checkpoint costs, once a job."""
        from modules.shared import opts

        if self.announced or self.choices.teacher == SAME or host.is_loaded(self.choices.teacher):
            return
        self.announced = True
        often = "once for this job" if self.choices.rule == WORST else "for each batch with pictures to be redone"
        limit = getattr(opts, "sd_checkpoints_limit", None)
        advice = '; "Maximum number of checkpoints loaded at the same time" at 2 keeps both' if limit == 1 else ""
        self.say(f"the teacher is another checkpoint, loaded {often}, and the student's after it{advice}")

    def made(self, image) -> None:
        """postprocess_image_after_composite: the object that the host saves and shows."""
        batch = self.batches[self.p.iteration] if self.p.iteration < len(self.batches) else []
        entry = batch[self.p.batch_index] if self.p.batch_index < len(batch) else None
        if entry is not None:
            entry.image, entry.place = image, self.made_count
        self.made_count += 1
        self.files.expect(entry)

    def finish(self, processed) -> None:
        """postprocess: the worst of the whole job, in one pass; their files are replaced, and the grid is made anew."""
        self.processed = processed
        if self.choices.rule == WORST:
            self._redo_worst(Gallery(self.p, processed, self.entries))
        if self.recorded:
            self._record()
        if self.choices.receipt and self.threshold is not None:
            show_receipt(self.p, processed, self.entries, self.threshold, self.files)

    def _redo_worst(self, gallery: Gallery) -> None:
        places = {}
        for entry in self._rejected(gallery.entries):
            places[entry] = gallery.place(entry)
        if remark := self.threshold.remark(sum(entry.scored for entry in gallery.entries)):
            self.say(remark)
        for entry in [entry for entry, at in places.items() if at is None]:
            self.say("a picture that another extension replaced is left as it is")
            del places[entry]
        changed = list(self._redone(list(places)))
        for entry, at in places.items():
            image = gallery.processed.images[at]
            text = infotext.with_values(gallery.text(entry), entry.keys())
            entry.image = image
            if entry.teacher is not None:
                image = picture_of(entry.teacher)
            self.files.replace(entry, image, text)
            gallery.put(entry, at, image, text)
        if changed:
            gallery.renew_grid(self.files)

    def _record(self) -> None:
        try:
            table = record(self.choices.record, self.settings, self.oracle.oracle, self.recorded)
        except (ValueError, OSError) as error:
            self.say(f"nothing is recorded, since {error}")
        else:
            log.info("Understudy: calibration %s has %d scores", table.name, table.n)
