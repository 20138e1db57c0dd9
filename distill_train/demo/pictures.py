"""Pictures that the demo's own networks make, with what the checker reads in them: the oracle's training data."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from ...demo_family import checker, family
from ...demo_family.render import render
from ...demo_family.sampling import denoiser
from ...demo_family.scenes import Scene
from ...files import sha256
from ..data.randomness import generator
from .preview import sample
from .scenes import CHUNK, cached, digest, draw_scenes, load_network, load_vae, tokens_for


@dataclass
class Pictures:
    """uint8 ``pixels`` [N, 3, 64, 64], the scenes they were asked to show and what the checker reads in them."""

    pixels: Tensor
    scenes: list[Scene]
    readings: list[checker.Reading]

    @classmethod
    def joined(cls, parts: list["Pictures"]) -> "Pictures":
        return cls(
            torch.cat([part.pixels for part in parts]),
            [scene for part in parts for scene in part.scenes],
            [reading for part in parts for reading in part.readings],
        )


class PictureMaker:
    """Makes pictures with the networks in three files; each set is made once and kept in the folder ``cache``."""

    def __init__(self, vae: Path, teacher: Path, student: Path, seed: int, device: torch.device, cache: Path):
        self.files = {"vae": vae, "teacher": teacher, "student": student}
        self.vae = load_vae(vae, device)
        self.networks = {
            part: load_network(self.files[part], f"demo-{part}").eval().requires_grad_(False).to(device)
            for part in ("teacher", "student")
        }
        self.seed, self.device, self.cache = seed, device, cache

    def sampled(self, part: str, steps: int, count: int, split: str = "train", cfg: float | None = None) -> Pictures:
        """Pictures of the "student" (cfg None), or of the "teacher" with guidance, for scenes drawn from a split."""
        g = generator(self.seed, part, steps, split)
        scenes = draw_scenes(count, g, split)
        noise = torch.randn(count, family.LATENT_CHANNELS, *[family.LATENT_SIDE] * 2, generator=g)

        def make(at: slice) -> Tensor:
            tokens = tokens_for(scenes[at]).to(self.device)
            latents = sample(denoiser(self.networks[part]), noise[at].to(self.device), tokens, steps, cfg)
            return family.decode(self.vae, latents)

        return self._made(f"{part} in {steps} steps", scenes, make, (self._hash(part), steps, cfg, digest(noise)))

    def reconstructed(self, count: int) -> Pictures:
        """Renders that went through the autoencoder."""
        scenes = draw_scenes(count, generator(self.seed, "renders"))

        def drawn(at: slice) -> Tensor:
            return render(scenes[at], generator(self.seed, "renders", at.start))

        def make(at: slice) -> Tensor:
            return family.decode(self.vae, family.encode(self.vae, drawn(at).to(self.device)))

        return self._made("reconstructions", scenes, make, digest(drawn(slice(0, CHUNK))))

    def _made(self, what: str, scenes: list[Scene], make: Callable[[slice], Tensor], of: object) -> Pictures:
        def all_parts() -> dict[str, Tensor]:
            starts = track(range(0, len(scenes), CHUNK), f"{len(scenes)} pictures: {what}")
            with torch.no_grad():
                return {"pixels": torch.cat([_bytes(make(slice(start, start + CHUNK))) for start in starts])}

        made_of = what, [str(scene) for scene in scenes], self._hash("vae"), of
        pixels = cached(self.cache, "pictures", made_of, all_parts)["pixels"]
        return Pictures(pixels, scenes, _read_all(pixels))

    def _hash(self, part: str) -> str:
        return sha256(family.FOLDER / self.files[part])


def _bytes(pictures: Tensor) -> Tensor:
    return (pictures * 255).round().byte().cpu()


def _read_all(pixels: Tensor) -> list[checker.Reading]:
    """Readings of uint8 pictures; on all cores where that pays for starting them."""
    if len(pixels) < 2000:
        return _read_part(pixels)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        return [reading for part in pool.map(_read_part, pixels.split(500)) for reading in part]


def _one_thread() -> None:
    torch.set_num_threads(1)


def _read_part(pixels: Tensor) -> list[checker.Reading]:
    return checker.read(pixels.float() / 255)
