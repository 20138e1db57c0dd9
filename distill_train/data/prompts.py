"""Latents that the teacher makes of prompts, if wanted only those that an oracle likes."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...files import known_sha256
from ...files.tables import read_prompts
from ...oracles.prompt_syntax import prompts_to_read
from ...samplers.denoisers import Guided
from ...samplers.schedules import trailing_sigmas
from ...samplers.solvers import sample_dpmpp_2m
from ..teachers.precision import autocast
from .batch import moved
from .encode import DataError, Encoder, Item
from .filtering import above_percentile
from .randomness import generator
from .settings import PromptSettings

log = logging.getLogger(__name__)
Score = Callable[[Tensor, Sequence[str]], Tensor]


def prompt_items(settings: PromptSettings, encoder: Encoder, score: Score | None = None) -> list[Item]:
    """A sample for each prompt in turn, made by the teacher; their texts are embedded then.

    Raises FileNotFoundError or ValueError.
    """
    prompts = read_prompts(settings.path)
    side = settings.side(encoder.teacher)
    plan = settings.steps, settings.cfg, settings.seed, side, encoder.precision, *encoder.teacher.text_plan
    # Of one file, as a recipe may say of it what it does not.
    plan += encoder.teacher.process.plan
    items = []
    for index in range(settings.count or len(prompts)):
        prompt = prompts[index % len(prompts)]
        items.append(Item(f"{index}: {prompt}", encoder.cache.key(prompt, index, *plan), prompt, side, side))
    items = encoder.first(items, [item.caption for item in items])
    encoder.texts(item.caption for item in items)
    missing = encoder.missing(enumerate(items), lambda place: ("latents", place[1].latents))
    if missing:
        encoder.teacher.rest()  # the UNet comes now, and needs no text encoders beside it

    def make(mine: list[tuple[int, Item]], done) -> list:
        for start in range(0, len(mine), settings.batch_size):
            part = mine[start : start + settings.batch_size]
            latents = sampled(settings, encoder, [index for index, _ in part], [item.caption for _, item in part])
            for (_, item), latent in zip(part, latents, strict=True):
                encoder.save_made("latents", item.latents, {"latents": latent.clone()}, item.caption)
            done(start + len(part))
        return mine

    encoder.share(missing, "samples of the teacher", make)
    return items if settings.filter is None else filtered(items, settings, encoder, score)


@torch.no_grad()
def sampled(settings: PromptSettings, encoder: Encoder, indices: list[int], prompts: list[str]) -> Tensor:
    """Latents [B, C, h, w] of prompts whose texts are in the cache; the noise of each follows from seed and index."""
    teacher, side, count = encoder.teacher, settings.side(encoder.teacher), len(prompts)

    def network(x: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        with autocast(teacher.device, encoder.precision):
            return teacher.call(teacher.unet, x, t, given).float()

    model = teacher.process.denoiser(network, [side // teacher.factor] * 2)
    sizes = teacher.sizes(side, side, count)
    given = moved(encoder.embeddings(prompts), teacher.device)
    arguments = {"cond": {**given, **sizes}, "uncond": {**teacher.unconditional(count), **sizes}}
    shape = teacher.latent_shape(side, side)
    noise = [torch.randn(shape, generator=generator(settings.seed, "noise", index)) for index in indices]
    noise = torch.stack(noise).to(teacher.device)
    sigmas = trailing_sigmas(model, settings.steps).to(noise.device)
    x = model.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), max_denoise=True)
    return sample_dpmpp_2m(Guided(model, settings.cfg), x, sigmas, arguments)


def filtered(items: list[Item], settings: PromptSettings, encoder: Encoder, score: Score | None) -> list[Item]:
    """Those whose score is not below the percentile of all scores, which are cached.

    Raises FileNotFoundError without the oracle's file, what loading and asking it raises, and DataError for scores that
    are no numbers.
    """
    file, cache = settings.filter.oracle, encoder.cache
    if not file.is_file():
        raise FileNotFoundError(f"data.filter.oracle {file}: no such file")
    oracle = known_sha256(file), settings.filter.family
    literal = settings.filter.literal_prompts
    texts, remarks = prompts_to_read([item.caption for item in items], literal, "data.filter.literal_prompts=true")
    if encoder.processes.is_main:
        for remark in remarks:
            log.warning("%s", remark)
    read = dict(zip(items, texts, strict=True))
    keys = {item: cache.key(item.latents, text, *oracle) for item, text in read.items()}
    missing = encoder.missing(items, lambda item: ("scores", keys[item], ".json"))
    if missing and score is None:
        from ...oracles import load_oracle

        score = load_oracle(file, settings.filter.family, encoder.teacher.device)

    def judge(mine: list[Item], done) -> list[float]:
        for start in range(0, len(mine), settings.batch_size):
            part = mine[start : start + settings.batch_size]
            latents = torch.stack([cache.load("latents", item.latents)["latents"] for item in part])
            with torch.no_grad():
                pixels = encoder.teacher.decode(latents)
                scores = score(pixels, [read[item] for item in part]).tolist()
            for item, value in zip(part, scores, strict=True):
                cache.write_note("scores", keys[item], value)
            done(start + len(part))
        return mine

    encoder.share(missing, "scores", judge)
    scores = torch.tensor([cache.read_note("scores", keys[item]) for item in items], dtype=torch.float64)
    if not scores.isfinite().all():
        name = items[int((~scores.isfinite()).nonzero()[0])].name
        raise DataError(f"the oracle's score of {name!r} is no number; nothing can be filtered by it")
    return [items[place] for place in above_percentile(scores, settings.filter.percentile).tolist()]
