"""A job of the host: what its pictures scored, and the teacher's pass after a batch or after all of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..samplers import decisions
from . import control, host, infotext
from .axes import with_changes
from .batch import Batch
from .choices import BUDGET, WORST, Choices
from .entry import Entry
from .files import Files
from .gallery import Gallery
from .judge import Judge
from .receipt import show_receipt
from .redoing import Teacher
from .rule import calibration_of, calibration_path, record, settings_of, threshold_of
from .sampling import require_sampling
from .sources import SOFT_INPAINTING, is_soft
from .trouble import NotRedone, hook, logged, pictures, say

log = logging.getLogger(__name__)
SINGLE = "the worst share of a single picture is nothing, so it is kept: make several, or choose another rule"
BROKEN_OFF = "the job ended in an error"
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
    if job is not None:
        host.on_close(p, job.broken_off)
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
        self.over = False
        self.unplaced: list[Entry] | None = None  # of those to be redone at the end, the ones whose turn has not come
        self.given_up: list[Entry] = []  # what was to be redone and never will be
        self.judge = Judge(p, choices.oracle)
        self.settings = settings_of(p)
        self.table = calibration_of(choices, self.settings, self.judge.oracle)
        self.threshold = None if choices.rule == BUDGET else threshold_of(choices, self.table)
        require_sampling(choices.sampler, choices.scheduler, choices.steps)
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
        self.batch = Batch(self.p, self.judge)
        self.files.expect(None)

    @hook
    def sampled(self, args) -> None:
        """post_sample."""
        if self.choices.rule == WORST and not self.expected:  # so that the host's time left counts it from the start
            self.expected = 1
            host.expect_pass()
        self.batch.sampled(args.samples)
        if self.threshold is None and not self.refusal:
            try:
                self.threshold = threshold_of(self.choices, self.table, self.batch.counted)
            except ValueError as error:
                self.refusal = str(error)
                say(self.p, f"nothing is redone: {error}")
        if self.choices.best_of > 1 and not host.cut_short():
            if why := SOFT_INPAINTING if is_soft(self.p) else control.objection_to_tries(self.p):
                say(self.p, f"no other try is made: {why}")
            else:
                passes = self._passes if self.choices.rule != WORST and self.threshold is not None else None
                self.batch.try_again(args, self.choices.best_of, passes)

    def _passes(self, score: float) -> bool:
        return not self.threshold.rejected([score])[0]

    @hook
    def decoded(self, images: list) -> None:
        """postprocess_batch_list: ``images`` [3, H, W], of which redone ones are put in place."""
        while len(self.batches) < self.p.iteration:  # a batch that never came this far
            self.batches.append([])
        entries = self.batch.entries([image.detach().cpu().float() for image in images], self.refusal)
        if self.choices.record:
            self.recorded.extend(self.batch.scores(entries))
        self.batches.append(entries)
        if self.choices.rule != WORST:
            for entry in self.teacher.redoes(self._rejected(entries)):
                images[entries.index(entry)] = entry.teacher

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

    def finish(self, processed) -> None:
        """postprocess."""
        self._finish(processed)
        if self.given_up:
            with logged():
                self._tell_page(Gallery(self.p, processed, self.entries))

    @hook
    def _finish(self, processed) -> None:
        """The worst of the whole job, in one pass; their files are replaced, and the grid is made anew."""
        host.expect_pass(-self.expected)
        host.skip_is_over()
        if self.choices.rule == WORST:
            self._redo_worst(Gallery(self.p, processed, self.entries))
        if self.recorded:
            self._record()
        if self.choices.receipt and self.threshold is not None:
            show_receipt(self.p, processed, self.entries, self.threshold, self.files)

    def broken_off(self) -> None:
        """The host closes what it worked on: if the job's end has not come, it never will."""
        if not self.over:
            self._never_ended()
            self.release()

    @hook
    def _never_ended(self) -> None:
        self.give_up(BROKEN_OFF)

    def give_up(self, why: str) -> None:
        """What was to be redone and never will be says so: in its text, if that is still to be written, or its file."""
        if self.unplaced is None:
            waiting = [each for each in self._rejected(self.entries) if each.decision == decisions.KEPT]
        else:  # the teacher may have made some, and nothing came of it
            waiting = [each for each in self.unplaced if each.decision == decisions.KEPT or each.teacher is not None]
        self.given_up = waiting
        for entry in self.given_up:
            entry.decision = f"not redone: {why}"
        if self.given_up:
            say(self.p, f"{pictures(len(self.given_up))} not redone: {why}")
        for entry in self.given_up:
            self.files.say(entry)

    def _tell_page(self, gallery: Gallery) -> None:
        """The same in the page's texts, which the host has gathered before."""
        for entry in self.given_up:
            if (at := gallery.place(entry)) is not None:
                text = infotext.with_values(gallery.text(entry), entry.keys())
                gallery.put(entry, at, gallery.processed.images[at], text)

    def _redo_worst(self, gallery: Gallery) -> None:
        if stopped := host.interrupted():
            say(self.p, f"nothing is redone: {stopped}")
        elif sum(entry.scored for entry in gallery.entries) == 1 and 0 < self.choices.share < 100:
            say(self.p, SINGLE)
        rejected = self._rejected(gallery.entries)
        places = {entry: at for entry in rejected if (at := gallery.place(entry)) is not None}
        if len(places) < len(rejected):
            lost = len(rejected) - len(places)
            say(self.p, f"{pictures(lost)} left as before, since another extension put others in their places")
        self.unplaced = list(places)
        redone = [] if stopped else list(self.teacher.redoes(list(places)))
        try:
            for entry, at in places.items():
                if stopped:
                    entry.decision = f"not redone: {stopped}"
                self._put(entry, at, gallery)
        finally:  # of what is in place after an error, too
            if any(entry not in self.unplaced for entry in redone):
                gallery.renew_grid(self.files)

    def _put(self, entry: Entry, at: int, gallery: Gallery) -> None:
        """What has become of a picture: in its place in the gallery, and in its file."""
        entry.image = image = gallery.processed.images[at]
        text = infotext.with_values(gallery.text(entry), entry.keys())
        if entry.teacher is not None:
            image = entry.picture.frame.finished(entry.teacher)
        self.files.replace(entry, image, text)
        gallery.put(entry, at, image, text)
        self.unplaced.remove(entry)
        if entry.teacher is not None and (left := gallery.renew_composite(entry, at, text, self.files)):
            say(self.p, left)

    def _record(self) -> None:
        try:
            table = record(self.choices.record, self.settings, self.judge.oracle, self.recorded)
        except (ValueError, OSError) as error:
            say(self.p, f"nothing is recorded: {error}")
        else:
            log.warning("Understudy: calibration %s has %d scores", table.name, table.n)

    def release(self) -> None:
        """Let go of the pictures, since the host's own cycles keep a job for long; its texts may still be asked for."""
        self.over = True
        for entry in self.entries:
            entry.release()
        self.batch = None
        setattr(self.p, KEPT_AS, None)
