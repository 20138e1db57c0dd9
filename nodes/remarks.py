"""What a Teacher node says: what was redone, in whose noise, and why that may not be the images' own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .patches import warning
from .seeds import KEY, noise_of_image, samplers_upstream
from .take import Shot, Take


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
    given = [(number, shot) for number, shot in numbered if shot.take.noise is not None]
    own = [(number, shot) for number, shot in numbered if shot.seed_travelled]
    others = [(number, shot) for number, shot in numbered if shot.take.noise is None and not shot.seed_travelled]
    if given:
        yield f"the noise that is connected, of seed {_listed({shot.noise.seed for _, shot in given})}: {_named(given)}"
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
    parts = [(shot.take.model, shot.place_in_batch(shot.take.INPUTS[0])[1]) for _, shot in numbered if shot.in_parts]
    models = {(id(model), batch): model for model, batch in parts}
    yield from dict.fromkeys(filter(None, (warning(model, batch) for (_, batch), model in models.items())))


def _brought(take: Take) -> Iterator[int]:
    """The seeds that came with the latent of any of a take's images, the kept ones too."""
    if take.seed_from == "latent":
        found = (noise_of_image(place.latent, place.row) for place in take.places)
        yield from (noise.seed for noise, _ in filter(None, found))


def _reason(shot: Shot) -> str:
    if shot.place.latent is None:
        return "because no latent is connected"
    if KEY in shot.place.latent:
        return (
            "because the latent is no longer what Student sampler or Best of n students made, or was joined to "
            "another's"
        )
    return "because the latent carries no seed: it does not come straight from Student sampler or Best of n students"


def _named(numbered: Sequence[tuple[int, Shot]]) -> str:
    return f"image{'s' if len(numbered) > 1 else ''} {_listed(number + 1 for number, _ in numbered)}"


def _listed(numbers) -> str:
    return ", ".join(str(number) for number in sorted(numbers))
