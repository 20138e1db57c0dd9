"""Train the demo oracle to read pictures: the student's, the teacher's and renders, as the exact checker reads them."""

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...demo_family import checker, family
from ...demo_family.language import TOKEN_IDS, TOKENS, token_ids
from ...demo_family.oracle_network import SceneOracleNetwork
from ...demo_family.render import SIDE
from ...demo_family.scenes import SPLITS, scenes_of
from ...oracles.families.demo import MARK
from ..config import Strict
from ..data.randomness import generator
from ..methods.base import Method
from .pictures import PictureMaker, Pictures
from .scenes import tokens_for

NOTHING_FITS = 0  # the class for what no word of a slot describes
UNKNOWN = -100  # what cross_entropy passes over
GRID = SIDE // 8
PARTS = ("size", "color", "shape")


class SceneOracle(Method):
    """Cross-entropy of the text that describes each picture, and of the thing at each of its places.

    "Does it show this text?" is one answer for a picture, and mostly yes; what a picture shows is eight answers each
    time, whatever it was asked to show.
    """

    name = "oracle"
    summary = "the demo family's oracle"
    source = "this project"

    class Settings(Strict):
        vae: Path = Field(Path("vae.safetensors"), description="file in the demo's folder, or a path")
        teacher: Path = Field(Path("teacher.safetensors"), description="makes some of the pictures")
        student: Path = Field(Path("student.safetensors"), description="makes most of the pictures")
        student_steps: tuple[int, ...] = Field((1, 2, 4), description="of the student's pictures")
        student_pictures: int = Field(8_000, gt=0, description="for each of student_steps")
        teacher_steps: tuple[int, ...] = Field((4, 8), description="of the teacher's pictures")
        teacher_pictures: int = Field(3_000, gt=0, description="for each of teacher_steps")
        renders: int = Field(3_000, gt=0, description="drawn pictures that went through the autoencoder")
        cfg: float = Field(3.0, ge=1, description="guidance scale of the teacher")
        places_weight: float = Field(1.0, ge=0, description="of the loss on what lies in each of the 64 places")
        empty_weight: float = Field(0.1, gt=0, description="of places where no thing has its centre")
        pixel_noise: float = Field(0.02, ge=0, description="standard deviation of noise on the pictures")
        measured: int = Field(2048, gt=0, description="held-out student pictures to measure on")

    def __init__(self, settings, recipe, device):
        super().__init__(settings, recipe, device)
        self.network = SceneOracleNetwork()

    def prepare(self, directory: Path) -> None:
        s = self.settings
        maker = PictureMaker(s.vae, s.teacher, s.student, self.recipe.seed, self.device, directory.parent / "cache")
        made = [maker.sampled("student", n, s.student_pictures) for n in s.student_steps]
        made += [maker.sampled("teacher", n, s.teacher_pictures, cfg=s.cfg) for n in s.teacher_steps]
        made.append(maker.reconstructed(s.renders))
        pictures = Pictures.joined(made)
        # What a network made of a training scene may show a held-out one, and so may a mirrored picture.
        trainable = ~Targets(pictures.readings).held_out
        readings = [reading for reading, good in zip(pictures.readings, trainable.tolist(), strict=True) if good]
        self.pixels = pictures.pixels[trainable]
        self.targets = {flip: Targets(readings, flip) for flip in (False, True)}
        each = s.measured // len(s.student_steps)
        self.held = {n: maker.sampled("student", n, each, "calibration") for n in s.student_steps}

    def loss(self, network: nn.Module, step: int) -> Tensor:
        g = generator(self.recipe.seed, "step", step)
        at = torch.randint(len(self.pixels), (self.recipe.loop.batch_size,), generator=g)
        flip = (torch.rand(len(at), generator=g) < 0.5) & ~self.targets[True].held_out[at]
        pixels = self.pixels[at].float() / 255
        pixels = torch.where(flip[:, None, None, None], pixels.flip(-1), pixels)
        pixels = (pixels + self.settings.pixel_noise * torch.randn(pixels.shape, generator=g)).clamp(0, 1)
        text = torch.where(flip[:, None], self.targets[True].text[at], self.targets[False].text[at])
        places = torch.where(flip[:, None, None], self.targets[True].places[at], self.targets[False].places[at])
        logits, here = network.read(pixels.to(self.device))
        loss = F.cross_entropy(logits.flatten(0, 1).float(), text.flatten().to(self.device), ignore_index=UNKNOWN)
        weights = torch.ones(here.shape[-1], device=self.device)
        weights[NOTHING_FITS] = self.settings.empty_weight
        seen = here.flatten(0, 2).float(), places.flatten().to(self.device)
        return loss + self.settings.places_weight * F.cross_entropy(*seen, weights, ignore_index=UNKNOWN)

    def measure(self, network: nn.Module):
        figures = {}
        for steps, held in self.held.items():
            batches = zip(held.pixels.split(256), tokens_for(held.scenes).split(256), strict=True)
            scores = torch.cat(
                [network(pixels.to(self.device).float() / 255, tokens.to(self.device)) for pixels, tokens in batches]
            ).cpu()
            right = torch.tensor([r.shows(scene) for r, scene in zip(held.readings, held.scenes, strict=True)])
            figures[f"auc@{steps}"] = area_under_roc(scores, right)
            figures[f"accuracy@{steps}"] = ((scores > 0) == right).float().mean().item()
        return None, figures

    def export(self, network: nn.Module, path: Path) -> None:
        family.save(network, path, {"understudy": MARK})


class Targets:
    """What readings say, as token ids: ``text`` [N, 8] that describes each picture, and ``places`` [N, 64, 3], the
    size, color and shape of the thing whose centre lies there. ``held_out`` [N]: whether its text is of a
    scene that no network trains on. flip: of the pictures mirrored left to right.
    """

    def __init__(self, readings: list[checker.Reading], flip: bool = False):
        readings = [_mirrored(reading) for reading in readings] if flip else readings
        self.text = torch.tensor([text_shown(reading) for reading in readings]).view(-1, TOKENS)
        self.held_out = torch.tensor([tuple(text) in held_out_texts() for text in self.text.tolist()], dtype=torch.bool)
        self.places = torch.full((len(readings), GRID * GRID, len(PARTS)), NOTHING_FITS)
        for row, reading in enumerate(readings):
            for thing in reading.things:
                place = min(int(thing.y / 8), GRID - 1) * GRID + min(int(thing.x / 8), GRID - 1)
                words = [getattr(thing, part) for part in PARTS]
                ids = [UNKNOWN if word is None else TOKEN_IDS[slot, word] for slot, word in enumerate(words, start=1)]
                self.places[row, place] = torch.tensor(ids)


@cache
def held_out_texts() -> frozenset[tuple[int, ...]]:
    """The token ids of every scene outside the training split."""
    return frozenset(tuple(token_ids(scene)) for split in SPLITS if split != "train" for scene in scenes_of(split))


def text_shown(reading: checker.Reading) -> list[int]:
    """The eight token ids that describe a picture: 0 where no word fits, UNKNOWN where the question makes no sense."""

    def ids_of(first_slot: int, thing: checker.Found) -> list[int]:
        words = enumerate((getattr(thing, part) for part in PARTS), start=first_slot)
        return [NOTHING_FITS if word is None else TOKEN_IDS[slot, word] for slot, word in words]

    background = NOTHING_FITS if reading.background is None else TOKEN_IDS[0, reading.background]
    if len(reading.things) == 1:
        return [background, *ids_of(1, reading.things[0]), *(TOKEN_IDS[slot, None] for slot in range(4, TOKENS))]
    if len(reading.things) != 2:
        return [background, *[UNKNOWN] * 3, NOTHING_FITS, *[UNKNOWN] * 3]
    first, second = reading.things
    if (4, checker.relation(first, second)) not in TOKEN_IDS:  # told from the other thing, as canonical scenes are
        first, second = second, first
    return [background, *ids_of(1, first), TOKEN_IDS[4, checker.relation(first, second)], *ids_of(5, second)]


def _mirrored(reading: checker.Reading) -> checker.Reading:
    things = (checker.Found(t.size, t.color, t.shape, SIDE - t.x, t.y) for t in reading.things)
    return checker.Reading(reading.background, tuple(things))


def area_under_roc(scores: Tensor, labels: Tensor) -> float:
    """The chance that a picture that shows its scene scores above one that does not; ties count half."""
    order = scores.double().unique(return_inverse=True)[1]
    counts = torch.bincount(order)
    ranks = (counts.cumsum(0) - (counts - 1) / 2)[order]
    positive, negative = int(labels.sum()), int((~labels).sum())
    if not positive or not negative:
        return float("nan")
    return ((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative)).item()
