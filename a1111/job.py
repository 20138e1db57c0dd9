"""A job of the host: what its pictures scored, and the teacher's pass after a batch or after all of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..oracles.calibration import Calibration, CalibrationError
from ..oracles.threshold import Threshold
from . import host, infotext
from .choices import PERCENTILE, SCORE, WORST, Choices, RefusedChoice
from .oracle import HostedOracle
from .second_pass import redo
from .sources import Picture, frames
from .trouble import NotRedone, as_not_redone, hook, say

CALIBRATIONS = "understudy_calibrations"


def begin(p, values: Sequence) -> Job | None:
    """The job for the panel's values, None where they ask for none; what cannot be honoured is said, and off."""
    if getattr(p, "txt2img_upscale", False):  # the hires button under the gallery: one picture of an earlier job
        return None
    try:
        choices = Choices.of(values)
        return Job(p, choices) if choices.enabled else None
    except (ValueError, OSError, NotRedone) as error:
        say(p, f"off, since {error}")
        p.extra_generation_params["Understudy"] = f"off: {error}"
        return None


def calibration_files() -> list[str]:
    return sorted(path.stem for path in host.models_folder(CALIBRATIONS).glob("*.json"))


def threshold_of(choices: Choices, oracle) -> Threshold:
    if choices.rule == WORST:
        return Threshold.worst_fraction(choices.share / 100)
    if choices.rule == SCORE:
        return Threshold.fixed(choices.score)
    path = host.models_folder(CALIBRATIONS) / f"{choices.calibration}.json"
    if not path.is_file():
        there = ", ".join(calibration_files()) or "none yet"
        raise RefusedChoice(f"no calibration {choices.calibration!r} in models/{CALIBRATIONS}; there are: {there}")
    table = Calibration.load(path)
    if table.oracle not in (None, oracle.fingerprint):
        raise CalibrationError(f"calibration {choices.calibration!r} was made with another oracle than this one")
    assert choices.rule == PERCENTILE
    return Threshold.percentile(table, choices.percentile)


@dataclass(eq=False)
class Entry:
    """A picture of the job, and what became of it. image: the host's own object, once it is made."""

    picture: Picture
    decision: str = infotext.KEPT
    score_after: float | None = None
    sigma: float | None = None
    without: str | None = None
    image: object = None

    def keys(self) -> dict[str, str]:
        found = {infotext.DECISION: self.decision}
        if self.picture.score == self.picture.score:
            found[infotext.SCORE] = infotext.number(self.picture.score)
        if self.score_after is not None:
            found[infotext.SCORE_AFTER] = infotext.number(self.score_after)
        if self.sigma is not None:
            found[infotext.SIGMA] = infotext.number(self.sigma)
        if self.without:
            found[infotext.WITHOUT] = self.without
        return found


class Job:
    """The hooks of one job, in the host's order."""

    def __init__(self, p, choices: Choices):
        self.p, self.choices = p, choices
        self.failed = ""
        # A network is made of random numbers before it is filled, and image to image draws from what comes after.
        with as_not_redone(lambda: f"loading the oracle {choices.oracle}"), torch.random.fork_rng([]):
            self.oracle = HostedOracle(choices.oracle)
        self.threshold = threshold_of(choices, self.oracle.oracle)
        if choices.sampler not in host.samplers():
            raise RefusedChoice(f"the host has no sampler {choices.sampler!r} that starts at any noise level")
        self.batches: list[list[Entry]] = []
        self.latents, self.expected = None, 0
        p.extra_generation_params.update(infotext.of_choices(choices))
        for key in infotext.OF_A_PICTURE:
            p.extra_generation_params[key] = self._asked(key)

    def _asked(self, key: str):
        def value(p, index, **_):
            batch = self.batches[p.iteration] if p.iteration < len(self.batches) else []
            return batch[index].keys().get(key) if index < len(batch) else None

        return value

    @hook
    def next_batch(self) -> None:
        self.latents = None

    @hook
    def sampled(self, samples) -> None:
        """post_sample. The latents are the student's, unless the host has decoded them already."""
        if self.choices.rule == WORST and not self.expected:  # so that the host's time left counts it from the start
            self.expected = 1
            host.expect_pass()
        if not getattr(samples, "already_decoded", False):
            self.latents = samples.detach().cpu()

    @hook
    def decoded(self, images: list) -> None:
        """postprocess_batch_list: ``images`` [3, H, W], of which redone ones are put in place."""
        p, latents = self.p, self.latents
        # After a hires fix by an upscaler, or in another script's hands, the latents are no longer the pictures'.
        fits = latents is not None and len(latents) == len(images)
        pixels, around = [image.detach().cpu().float() for image in images], frames(p, len(images))
        shown = [frame.shown(image) for frame, image in zip(around, pixels, strict=True)]
        scores, trouble = self._scores(shown, p.prompts)
        decision = f"not scored: {trouble}" if trouble else infotext.KEPT
        entries = [
            Entry(Picture(*facts, pixels[i], latents[i] if fits else None, scores[i], around[i]), decision)
            for i, facts in enumerate(zip(p.prompts, p.negative_prompts, p.seeds, p.subseeds, strict=True))
        ]
        while len(self.batches) < p.iteration:  # a batch that never came this far
            self.batches.append([])
        self.batches.append(entries)
        if self.choices.rule != WORST and not trouble:
            flags = self.threshold.rejected(scores)
            for entry, pixels in self._redone([entry for entry, bad in zip(entries, flags, strict=True) if bad]):
                images[entries.index(entry)] = pixels

    def _scores(self, images, prompts) -> tuple[list[float], str]:
        """A score for each, or NaN for all and why: of a picture that the user cut short none is a score."""
        if trouble := host.cut_short():
            return [float("nan")] * len(images), trouble
        try:
            with as_not_redone(lambda: f"scoring by {self.oracle.name}"):
                return self.oracle(torch.stack(list(images)), prompts), ""
        except NotRedone as error:
            say(self.p, f"{len(images)} pictures are not scored: {error}")
            return [float("nan")] * len(images), str(error)

    def _redone(self, rejected: list[Entry]):
        """(entry, pixels) of those whose picture is the teacher's now."""
        if not rejected:
            return
        try:
            result = redo(self.p, self.choices, [entry.picture for entry in rejected])
        except (NotRedone, RefusedChoice) as error:
            for entry in rejected:
                entry.decision = f"not redone: {error}"
            say(self.p, f"{len(rejected)} pictures are not redone: {error}")
            return
        for entry, reason in zip(rejected, result.unusable, strict=True):
            entry.decision = f"not redone: {reason}" if reason else entry.decision
        good = [i for i, reason in enumerate(result.unusable) if not reason]
        for reason in sorted(set(result.unusable) - {""}):
            say(self.p, f"{result.unusable.count(reason)} pictures are not redone: {reason}")
        rejected, made = [rejected[i] for i in good], [result.pixels[i] for i in good]
        if not rejected:
            return
        if result.without:
            say(self.p, f"the teacher ran without {' and '.join(result.without)}")
        shown = [entry.picture.frame.shown(pixels) for entry, pixels in zip(rejected, made, strict=True)]
        after, trouble = self._scores(shown, [entry.picture.prompt for entry in rejected])
        for entry, pixels, score in zip(rejected, made, after, strict=True):
            entry.sigma, entry.without = result.sigma, ", ".join(result.without)
            if trouble:
                entry.decision = f"not redone: the teacher's picture is not scored: {trouble}"
                continue
            entry.score_after = score
            better = score > entry.picture.score or not self.choices.keep_better
            entry.decision = infotext.REDONE if better else infotext.REVERTED
            if better:
                if self.choices.save_student and self.choices.rule != WORST:
                    self._save_student(entry)
                yield entry, pixels

    @hook
    def made(self, image) -> None:
        """postprocess_image_after_composite: the object that the host saves and shows."""
        batch = self.batches[self.p.iteration] if self.p.iteration < len(self.batches) else []
        if self.p.batch_index < len(batch):
            batch[self.p.batch_index].image = image

    @hook
    def finish(self, processed) -> None:
        """postprocess: the worst of the whole job, in one pass; their files are replaced, and the grid is made anew."""
        host.expect_pass(-self.expected)
        host.skip_is_over()
        in_order = [entry for batch in self.batches for entry in batch]
        entries = [entry for entry in in_order if entry.picture.score == entry.picture.score]
        if self.choices.rule != WORST:
            return
        if stopped := host.interrupted():
            say(self.p, f"nothing is redone: {stopped}")
        if stopped or not entries:
            return
        values = [entry.picture.score for entry in entries]
        if remark := self.threshold.remark(len(values)):
            say(self.p, remark)
        rejected = [entry for entry, bad in zip(entries, self.threshold.rejected(values), strict=True) if bad]
        pixels_of = {id(entry): pixels for entry, pixels in self._redone(rejected)}
        for entry in rejected:
            at = next((i for i, image in enumerate(processed.images) if image is entry.image), None)
            if at is None:
                say(self.p, "a picture that another extension replaced is left as it is")
                continue
            # Masks and composites have no text, so that a text's place is not its picture's.
            text_at = processed.index_of_first_image + in_order.index(entry)
            known = text_at < len(processed.infotexts)
            text = infotext.with_values(processed.infotexts[text_at] if known else "", entry.keys())
            if known:
                processed.infotexts[text_at] = text
            pixels = pixels_of.get(id(entry))
            replaced = entry.image if pixels is None else entry.picture.frame.finished(pixels)
            self._replace_file(entry.image, replaced, text)
            replaced.info["parameters"] = text
            processed.images[at] = replaced
            if pixels is not None:
                self._new_composite(processed.images, at, entry.picture, pixels, text)
        if pixels_of:
            self._new_grid(processed)

    def release(self) -> None:
        """Let go of the pictures, since the host's own cycles keep a job for long; its texts may still be asked for."""
        for batch in self.batches:
            for entry in batch:
                entry.picture.pixels = entry.picture.latent = entry.picture.frame = entry.image = None
        self.latents = None

    def _replace_file(self, old, image, text: str) -> None:
        """A whole write over the file that the host saved, in its own format and with its own metadata."""
        from modules import images

        name = getattr(old, "already_saved_as", None)
        if not name or not os.path.exists(name):
            return
        path = Path(name)
        if self.choices.save_student and image is not old:
            shutil.copyfile(path, path.with_name(f"{path.stem}-student{path.suffix}"))
        partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        try:
            images.save_image_with_geninfo(image, text, str(partial))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        image.already_saved_as = name
        beside = path.with_suffix(".txt")
        if beside.exists():
            beside.write_text(text + "\n", encoding="utf-8")

    def _new_composite(self, images: list, at: int, picture: Picture, pixels, text: str) -> None:
        """After an inpainted picture and its mask the host shows the picture cut out by the mask: anew, too."""
        from modules.shared import opts

        mask = getattr(self.p, "mask_for_overlay", None)
        at += 2 if opts.return_mask else 1
        if mask is not None and opts.return_mask_composite and at < len(images):
            composite = picture.frame.cut_out(pixels, mask)
            self._replace_file(images[at], composite, text)
            images[at] = composite
        elif mask is not None and opts.save_mask_composite:
            say(self.p, "the masked composites that were saved are of the student's pictures")

    def _new_grid(self, processed) -> None:
        from modules import images

        if processed.index_of_first_image != 1:
            return
        old = processed.images[0]
        grid = images.image_grid(processed.images[1:], self.p.batch_size)
        text = processed.infotexts[0]
        grid.info["parameters"] = text
        self._replace_file(old, grid, text)
        processed.images[0] = grid

    def _save_student(self, entry: Entry) -> None:
        from modules import images, shared

        p, picture = self.p, entry.picture
        images.save_image(
            picture.frame.finished(picture.pixels),
            p.outpath_samples,
            "",
            picture.seed,
            picture.prompt,
            shared.opts.samples_format,
            info=picture.prompt,
            p=p,
            suffix="-student",
        )
