"""What the tests of jobs ask for, and how they compare pictures."""

from dataclasses import astuple

from PIL import Image
from understudy.a1111.choices import Choices

ORACLE = "demo.safetensors"
EVERY = {"rule": "below score", "score": 100.0}
SMALL = {"width": 32, "height": 32}
# By the host's own resizing. Forge fails on a request without the last, which A1111 does not know.
HIRES = {"enable_hr": True, "hr_upscaler": "None", "hr_additional_modules": ["Use same choices"]}


def asked(**changes) -> list:
    """The panel's values in order: the worst half of the job, two steps of a teacher."""
    values = {"enabled": True, "oracle": ORACLE, "rule": "worst share of the job", "share": 50.0}
    values |= {"steps": 2, "cfg": 3.0, "sampler": "Euler", "keep_better": False, **changes}
    return list(astuple(Choices(**values)))


def small(a1111, *args, **changes):
    """What is made at a size where most questions are answered as at any."""
    return a1111.make(*args, **{**SMALL, **changes})


def source(which: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """A picture with no two pixels alike along a row."""
    across = Image.linear_gradient("L").resize(size)
    down = across.transpose(Image.ROTATE_90).resize(size)
    return Image.merge("RGB", [across, down, Image.new("L", size, 60 * which)])


def primed(a1111):
    """The host draws an image's encoding from torch's own state as the job before has left it: as one and the same."""
    small(a1111, batch_size=1, seed=5)  # a seed alone does not do on a server that has just started


def rgb(image: Image.Image) -> bytes:
    return image.convert("RGB").tobytes()


def row_of(images: list[Image.Image]) -> bytes:
    """The pixels of the host's grid of these, where it is told to make one row."""
    width, height = images[0].size
    row = Image.new("RGB", (width * len(images), height))
    for place, image in enumerate(images):
        row.paste(image, (width * place, 0))
    return rgb(row)


def close(one: bytes, other: bytes) -> bool:
    """The same but for rounding."""
    pairs = list(zip(one, other, strict=True))
    return max(abs(a - b) for a, b in pairs) <= 1 and sum(a != b for a, b in pairs) < len(pairs) / 100


def up_to_the_first(made) -> dict:
    """A rule by which the first picture is redone and those with higher scores are kept."""
    return {"rule": "below score", "score": float(made.said("score")[0]) + 1e-3}


def rising(a1111, make=small, **job) -> dict:
    """This job, which ``make`` makes, as two batches of one picture each, of which the first has the lower score."""
    scored = make(a1111, *asked(share=0.0), **{**job, "batch_size": 1, "n_iter": 4, "seed": 1})
    scores = [float(score) for score in scored.said("score")[:4]]
    place = next(place for place in range(len(scores) - 1) if scores[place] < scores[place + 1])
    return {**job, "batch_size": 1, "n_iter": 2, "seed": 1 + place}


def hold(made, plain, every, decisions=("kept", "redone")):
    """What is kept is a run's without us, and what is redone is as if all had been, though others are."""
    assert sorted(made.said("decision")) == sorted(decisions)
    for place, decision in enumerate(made.said("decision")):
        if decision == "kept":
            assert made.pixels[place] == plain.pixels[place]
        else:
            assert made.pixels[place] != plain.pixels[place]
            assert close(made.pixels[place], every.pixels[place])
