"""The batch that a job is at: the student's pictures, further tries at them, and what each of them scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch

from ..oracles.scores import image_id
from .counting import Evaluations, count_for
from .entry import Entry
from .judge import Judge
from .sources import Picture, frames
from .tries import Tried, tries_of
from .trouble import say


class Batch:
    """The next one of ``p``. counted: the student's evaluations for each picture, without those of further tries."""

    def __init__(self, p, judge: Judge):
        self.p, self.judge = p, judge
        self.counted: Evaluations = count_for(p)
        self.shape = getattr(getattr(p, "rng", None), "shape", None)
        self.latents: torch.Tensor | None = None
        self.tried: Tried | None = None
        self.troubles: dict[int, str] = {}  # why a try of a picture has no score, by its place
        self.first_seeds: list[int] = []

    def sampled(self, samples) -> None:
        """The latents are the student's, unless the host has decoded them already."""
        if not getattr(samples, "already_decoded", False):
            self.latents = samples.detach().cpu()

    def try_again(self, args, n: int, passes: Callable[[float], bool] | None) -> None:
        """The best of up to ``n`` tries in the place of post_sample's samples, and their seeds in the job's."""
        from modules.devices import NansException
        from modules.processing import DecodedSamples

        p, around = self.p, frames(self.p, len(args.samples))
        start = p.iteration * p.batch_size
        prompts = p.all_prompts[start : start + p.batch_size]

        def score(pixels, places) -> list[float]:
            shown = [around[place].shown(picture) for place, picture in zip(places, pixels, strict=True)]
            found = self.judge(shown, [prompts[place] for place in places])
            self.troubles |= {place: trouble for place, (_, trouble) in zip(places, found, strict=True) if trouble}
            return [value for value, _ in found]

        try:
            tried = tries_of(p, args.samples, self.shape, self.counted, n, score, passes)
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

    def entries(self, pixels: Sequence[torch.Tensor], refusal: str) -> list[Entry]:
        """Of its pictures [3, H, W] in [0, 1], scored. refusal: why none of them will be redone, "" for nothing."""
        p, latents, tried = self.p, self.latents, self.tried
        # After a hires fix by an upscaler, or in another script's hands, the latents are no longer the pictures'.
        fits, around = latents is not None and len(latents) == len(pixels), frames(p, len(pixels))
        if tried is None:
            shown = [frame.shown(picture) for frame, picture in zip(around, pixels, strict=True)]
            scores = self.judge(shown, p.prompts)
        else:
            scores = [
                (score, self.troubles.get(place, "it has none") if math.isnan(score) else "")
                for place, score in enumerate(tried.scores)
            ]
        entries = []
        for i, facts in enumerate(zip(p.prompts, p.negative_prompts, p.seeds, p.subseeds, strict=True)):
            score, trouble = scores[i]
            entry = Entry(Picture(*facts, pixels[i], latents[i] if fits else None, score, around[i]))
            entry.evaluations = self.counted.each if tried is None else tried.evaluations[i]
            if trouble:
                entry.decision = f"not scored: {trouble}"
            elif refusal:
                entry.decision = f"not redone: {refusal}"
            if tried is not None:
                own = entry.picture.subseed if p.subseed_strength else entry.picture.seed
                entry.tries = tried.counts[i]
                entry.first_seed = None if own == self.first_seeds[i] else self.first_seeds[i]
            entries.append(entry)
        return entries

    def scores(self, entries: Sequence[Entry]) -> Iterator[tuple[str, float, str]]:
        """(image id, score, prompt) of the student's own pictures, whatever tries were made of them."""
        pictures = [entry.picture for entry in entries]
        tried = self.tried
        own = [picture.pixels for picture in pictures] if tried is None else [each.pixels for each in tried.first]
        values = [picture.score for picture in pictures] if tried is None else tried.first_scores
        for picture, pixels, value in zip(pictures, own, values, strict=True):
            if not math.isnan(value):
                yield image_id(pixels), value, picture.prompt
