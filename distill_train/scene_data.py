"""Data for the demo recipes: rendered scenes and their latents, all drawn from the training split."""

from pathlib import Path

import torch
from torch import Tensor

from ..models.demo import family
from ..models.demo.language import token_ids
from ..models.demo.render import render
from ..models.demo.scenes import Scene, scenes_of
from .config import RecipeError
from .randomness import generator

SINGLE_SHARE = 0.1  # of the drawn scenes show one thing; by count they would be one in a hundred


def draw_scenes(count: int, g: torch.Generator, split: str = "train") -> list[Scene]:
    """``count`` scenes of a split with replacement."""
    scenes = scenes_of(split)
    single = [s for s in scenes if s.second is None]
    double = [s for s in scenes if s.second is not None]
    one, place = torch.rand(count, generator=g), torch.rand(count, generator=g, dtype=torch.float64)
    pools = [single if u < SINGLE_SHARE else double for u in one.tolist()]
    return [pool[int(at * len(pool))] for pool, at in zip(pools, place.tolist(), strict=True)]


def tokens_for(scenes: list[Scene]) -> Tensor:
    """Token ids [B, 8]."""
    return torch.tensor([token_ids(scene) for scene in scenes])


def load_vae(path: Path, device: torch.device) -> torch.nn.Module:
    """The autoencoder that a recipe names, frozen. Raises RecipeError if it is missing."""
    return _existing(path, family.load_autoencoder, "demo-vae").eval().requires_grad_(False).to(device)


def load_network(path: Path, recipe: str) -> family.SceneNetwork:
    """A teacher or student file that a recipe names. Raises RecipeError if it is missing."""
    return _existing(path, family.load_network, recipe)


def _existing(path: Path, load, recipe: str):
    path = family.FOLDER / path  # an absolute path stays what it is
    if not path.exists():
        raise RecipeError(f"there is no {path}; train it first: understudy train distill_train/recipes/{recipe}.toml")
    return load(path)


class LatentSet:
    """Encoded training pictures on the training device: ``latents`` [N, 8, 8, 8] and their ``tokens`` [N, 8]."""

    def __init__(self, vae: torch.nn.Module, count: int, seed: int, device: torch.device, chunk: int = 256):
        latents, tokens = [], []
        for start in range(0, count, chunk):
            g = generator(seed, "pictures", start)
            scenes = draw_scenes(min(chunk, count - start), g)
            with torch.no_grad():
                latents.append(family.encode(vae, render(scenes, g).to(device)))
            tokens.append(tokens_for(scenes))
        self.latents, self.tokens = torch.cat(latents), torch.cat(tokens).to(device)

    def draw(self, count: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """``count`` pairs with replacement."""
        at = torch.randint(len(self.latents), (count,), generator=g).to(self.latents.device)
        return self.latents[at], self.tokens[at]
