"""Train the demo oracle on the student's own pictures, labelled by the exact checker."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.demo import checker, family
from ...models.demo.render import render
from ...models.demo.scenes import Scene
from ...oracles.demo import MARK, SceneOracleNetwork
from ..config import Strict
from ..randomness import generator
from ..scene_data import draw_scenes, load_network, load_vae, tokens_for
from ..scene_preview import sample
from .base import Method


class SceneOracle(Method):
    """Binary cross-entropy on "shows the scene" and on each attribute of it.

    The pictures are the student's at ``student_steps``, the teacher's at few steps and reconstructions of renders, in
    the shares of ``Settings``; the prompts are their own, their own with one attribute changed, or another's.
    """

    class Settings(Strict):
        vae: Path = Path("vae.safetensors")
        teacher: Path = Path("teacher.safetensors")
        student: Path = Path("student.safetensors")
        student_steps: tuple[int, ...] = (1, 2, 4)
        student_pictures: int = 10_000
        teacher_steps: tuple[int, ...] = (4, 8)
        teacher_pictures: int = 5_000
        renders: int = 5_000
        cfg: float = 3.0
        changed: float = 0.25
        foreign: float = 0.05
        pixel_noise: float = 0.02
        measured: int = 2048

    def __init__(self, settings, recipe, device):
        super().__init__(settings, recipe, device)
        self.network = SceneOracleNetwork()

    def prepare(self, directory: Path) -> None:
        self.makers = {
            "student": load_network(self.settings.student, "demo-student").eval().requires_grad_(False).to(self.device),
            "teacher": load_network(self.settings.teacher, "demo-teacher").eval().requires_grad_(False).to(self.device),
        }
        self.vae = load_vae(self.settings.vae, self.device)
        s = self.settings
        parts = [("student", n, s.student_pictures) for n in s.student_steps]
        parts += [("teacher", n, s.teacher_pictures) for n in s.teacher_steps]
        made = [self._pictures(maker, n, count, "train") for maker, n, count in parts]
        made.append(self._renders(s.renders))
        self.pictures = torch.cat([pictures for pictures, _ in made])
        self.scenes = [scene for _, scenes in made for scene in scenes]
        self.readings = _read_all(self.pictures)
        held_out = [
            self._pictures("student", n, s.measured // len(s.student_steps), "calibration") for n in s.student_steps
        ]
        self.held_pictures = torch.cat([pictures for pictures, _ in held_out])
        self.held_scenes = [scene for _, scenes in held_out for scene in scenes]
        self.held_labels = [r.shows(t) for r, t in zip(_read_all(self.held_pictures), self.held_scenes, strict=True)]

    def loss(self, network: nn.Module, step: int) -> Tensor:
        g = generator(self.recipe.seed, "step", step)
        at = torch.randint(len(self.scenes), (self.recipe.loop.batch_size,), generator=g)
        asked = [self._prompt(int(i), g) for i in at]
        verdicts = [self.readings[int(i)].verdict(scene) for i, scene in zip(at, asked, strict=True)]
        labels = torch.tensor([[all(v.values()), *(v[a] for a in checker.ATTRIBUTES)] for v in verdicts]).float()
        pictures = self.pictures[at].float() / 255
        pictures = (pictures + self.settings.pixel_noise * torch.randn(pictures.shape, generator=g)).clamp(0, 1)
        logits = network(pictures.to(self.device), tokens_for(asked).to(self.device)).float()
        losses = F.binary_cross_entropy_with_logits(logits, labels.to(self.device), reduction="none").mean(dim=0)
        return losses[0] + losses[1:].mean()

    def measure(self, network: nn.Module):
        tokens = tokens_for(self.held_scenes).to(self.device)
        batches = zip(self.held_pictures.split(256), tokens.split(256), strict=True)
        scores = torch.cat([network(p.to(self.device).float() / 255, t)[:, 0] for p, t in batches]).cpu()
        labels = torch.tensor(self.held_labels)
        right = ((scores > 0) == labels).float().mean().item()
        return None, {"auc": area_under_roc(scores, labels), "accuracy": right, "exact": labels.float().mean().item()}

    def export(self, network: nn.Module, path: Path) -> None:
        family.save(network, path, {"understudy": MARK})

    def _prompt(self, at: int, g: torch.Generator) -> Scene:
        scene, kind = self.scenes[at], torch.rand((), generator=g).item()
        if kind < self.settings.changed:
            attributes = [a for a in checker.ATTRIBUTES if a != "relation" or scene.relation]
            scene = checker.changed(scene, attributes[int(torch.randint(len(attributes), (), generator=g))], g)
        elif kind < self.settings.changed + self.settings.foreign:
            scene = self.scenes[int(torch.randint(len(self.scenes), (), generator=g))]
        return scene

    def _pictures(self, maker: str, steps: int, count: int, split: str) -> tuple[Tensor, list[Scene]]:
        """uint8 pictures [count, 3, 64, 64] of ``maker`` and the scenes they were asked to show."""
        g = generator(self.recipe.seed, maker, steps, split)
        scenes = draw_scenes(count, g, split)
        noise = torch.randn(count, family.LATENT_CHANNELS, *[family.LATENT_SIDE] * 2, generator=g)
        made = []
        for start in range(0, count, 256):
            part = slice(start, start + 256)
            arguments = noise[part].to(self.device), tokens_for(scenes[part]).to(self.device), steps
            with torch.no_grad():
                latents = sample(self.makers[maker], *arguments, cfg=None if maker == "student" else self.settings.cfg)
                made.append(_bytes(family.decode(self.vae, latents)))
        return torch.cat(made), scenes

    def _renders(self, count: int) -> tuple[Tensor, list[Scene]]:
        g = generator(self.recipe.seed, "renders")
        scenes = draw_scenes(count, g)
        made = []
        for start in range(0, count, 256):
            pixels = render(scenes[start : start + 256], g).to(self.device)
            with torch.no_grad():
                made.append(_bytes(family.decode(self.vae, family.encode(self.vae, pixels))))
        return torch.cat(made), scenes


def area_under_roc(scores: Tensor, labels: Tensor) -> float:
    """The chance that a picture that shows its scene scores above one that does not; ties count half."""
    order = scores.double().unique(return_inverse=True)[1]
    counts = torch.bincount(order)
    ranks = (counts.cumsum(0) - (counts - 1) / 2)[order]
    positive, negative = int(labels.sum()), int((~labels).sum())
    if not positive or not negative:
        return float("nan")
    return ((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative)).item()


def _bytes(pictures: Tensor) -> Tensor:
    return (pictures * 255).round().byte().cpu()


def _read_all(pictures: Tensor) -> list[checker.Reading]:
    """Readings of uint8 pictures; on all cores where that pays for starting them."""
    if len(pictures) < 2000:
        return _read_part(pictures)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        return [reading for part in pool.map(_read_part, pictures.split(1000)) for reading in part]


def _one_thread() -> None:
    torch.set_num_threads(1)


def _read_part(pictures: Tensor) -> list[checker.Reading]:
    return checker.read(pictures.float() / 255)
