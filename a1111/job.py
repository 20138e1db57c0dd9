"""A job of the host: what its pictures scored, and the teacher's pass after a batch or after all of them."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..oracles.base import OracleError
from ..oracles.calibration import Calibration, CalibrationError
from ..oracles.threshold import Threshold
from . import host, infotext
from .axes import with_changes
from .choices import PERCENTILE, SCORE, WORST, Choices, RefusedChoice
from .oracle import HostedOracle
from .second_pass import NotRedone, Picture, picture_of, redo

log = logging.getLogger(__name__)
CALIBRATIONS = "understudy_calibrations"


def begin(p, values: Sequence) -> Job | None:
    """The job for the panel's values, None where they ask for none; what cannot be honoured is said, and off."""
    # A plot's cells share theirs, so that what the last one said would stay.
    said = p.extra_generation_params
    p.extra_generation_params = {key: said[key] for key in said if not key.startswith("Understudy")}
    try:
        choices = Choices.of(with_changes(p, values))
        return Job(p, choices) if choices.enabled else None
    except (ValueError, OSError) as error:
        say(p, f"off, since {error}")
        p.extra_generation_params["Understudy"] = f"off: {error}"
        return None


def say(p, text: str) -> None:
    """In the page below the pictures, and in the log."""
    log.warning("Understudy: %s", text)
    p.comment(f"Understudy: {text}")


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
    image: object = None

    def keys(self) -> dict[str, str]:
        found = {infotext.SCORE: infotext.number(self.picture.score), infotext.DECISION: self.decision}
        if self.score_after is not None:
            found[infotext.SCORE_AFTER] = infotext.number(self.score_after)
        if self.sigma is not None:
            found[infotext.SIGMA] = infotext.number(self.sigma)
        return found


class Job:
    """The hooks of one job, in the host's order."""

    def __init__(self, p, choices: Choices):
        self.p, self.choices = p, choices
        self.oracle = HostedOracle(choices.oracle)
        self.threshold = threshold_of(choices, self.oracle.oracle)
        if choices.sampler not in host.samplers():
            raise RefusedChoice(f"the host has no sampler {choices.sampler!r} that starts at any noise level")
        self.batches: list[list[Entry]] = []
        self.latents = None
        p.extra_generation_params.update(infotext.of_choices(choices))
        for key in (infotext.SCORE, infotext.DECISION, infotext.SCORE_AFTER, infotext.SIGMA):
            p.extra_generation_params[key] = self._asked(key)

    def _asked(self, key: str):
        def value(p, index, **_):
            batch = self.batches[p.iteration] if p.iteration < len(self.batches) else []
            return batch[index].keys().get(key) if index < len(batch) else None

        return value

    def next_batch(self) -> None:
        self.latents = None

    def sampled(self, samples) -> None:
        """post_sample. The latents are the student's, unless the host has decoded them already."""
        if not getattr(samples, "already_decoded", False):
            self.latents = samples.detach().cpu()

    def decoded(self, images: list) -> None:
        """postprocess_batch_list: ``images`` [3, H, W], of which redone ones are put in place."""
        p, latents = self.p, self.latents
        # After a hires fix by an upscaler, or in another script's hands, the latents are no longer the pictures'.
        fits = latents is not None and len(latents) == len(images)
        scores = self._scores(images, p.prompts)
        entries = [
            Entry(Picture(*facts, images[i].detach().cpu().float(), latents[i] if fits else None, scores[i]))
            for i, facts in enumerate(zip(p.prompts, p.negative_prompts, p.seeds, p.subseeds, strict=True))
        ]
        while len(self.batches) < p.iteration:  # a batch that never came this far
            self.batches.append([])
        self.batches.append(entries)
        if self.choices.rule != WORST:
            flags = self.threshold.rejected(scores)
            for entry, pixels in self._redone([entry for entry, bad in zip(entries, flags, strict=True) if bad]):
                images[entries.index(entry)] = pixels

    def _scores(self, images, prompts) -> list[float]:
        import torch

        try:
            return self.oracle(torch.stack([image.detach().cpu().float() for image in images]), prompts)
        except OracleError as error:
            say(self.p, f"{error}: nothing of this batch is redone")
            return [float("inf")] * len(images)

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
        after = self._scores(result.pixels, [entry.picture.prompt for entry in rejected])
        for entry, pixels, score in zip(rejected, result.pixels, after, strict=True):
            entry.score_after, entry.sigma = score, result.sigma
            better = score > entry.picture.score or not self.choices.keep_better
            entry.decision = infotext.REDONE if better else infotext.REVERTED
            if better:
                if self.choices.save_student and self.choices.rule != WORST:
                    self._save_student(entry)
                yield entry, pixels

    def made(self, image) -> None:
        """postprocess_image_after_composite: the object that the host saves and shows."""
        batch = self.batches[self.p.iteration] if self.p.iteration < len(self.batches) else []
        if self.p.batch_index < len(batch):
            batch[self.p.batch_index].image = image

    def finish(self, processed) -> None:
        """postprocess: the worst of the whole job, in one pass; their files are replaced, and the grid is made anew."""
        entries = [entry for batch in self.batches for entry in batch]
        if self.choices.rule != WORST or not entries or host.interrupted():
            return
        values = [entry.picture.score for entry in entries]
        if remark := self.threshold.remark(len(values)):
            say(self.p, remark)
        rejected = [entry for entry, bad in zip(entries, self.threshold.rejected(values), strict=True) if bad]
        changed = list(self._redone(rejected))
        new = {id(entry): picture_of(pixels) for entry, pixels in changed}
        for entry in rejected:
            at = next((i for i, image in enumerate(processed.images) if image is entry.image), None)
            if at is None:
                say(self.p, "a picture that another extension replaced is left as it is")
                continue
            text = infotext.with_values(processed.infotexts[at] if at < len(processed.infotexts) else "", entry.keys())
            if at < len(processed.infotexts):
                processed.infotexts[at] = text
            replaced = new.get(id(entry), entry.image)
            self._replace_file(entry.image, replaced, text)
            replaced.info["parameters"] = text
            processed.images[at] = replaced
        if changed:
            self._new_grid(processed)

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
            picture_of(picture.pixels),
            p.outpath_samples,
            "",
            picture.seed,
            picture.prompt,
            shared.opts.samples_format,
            info=picture.prompt,
            p=p,
            suffix="-student",
        )
