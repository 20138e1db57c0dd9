"""Data for the demo recipes: scenes, and rendered pictures and their latents, drawn from the training split."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ...demo_family import family
from ...demo_family.language import token_ids
from ...demo_family.render import DRAWS, outlined, painted
from ...demo_family.scenes import Scene, scenes_of
from ...files import read_header, save_tensors, sha256
from ..config import RecipeError
from ..data.conditions import coarser
from ..data.randomness import generator

CHUNK = 256
LOW_RESOLUTION = 4  # pixels that become one, along each side
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
    """A teacher or student file that a recipe names. Raises RecipeError if it is missing, or in flow time."""
    network = _existing(path, family.load_network, recipe)
    if read_header(family.FOLDER / path).metadata.get("prediction") == "flow":
        raise RecipeError(f"{path} is in flow time, but this method has timesteps; use cd, pd, lcm or dmd")
    return network


def _existing(path: Path, load, recipe: str):
    path = family.FOLDER / path  # an absolute path stays what it is
    if not path.exists():
        raise RecipeError(f"there is no {path}; train it first: understudy train distill_train/recipes/{recipe}.toml")
    return load(path)


def cached(cache: Path, name: str, made_of: object, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors that ``make`` returns, made once: their file in the folder ``cache`` serves every later run.

    made_of: all that they depend on, as one object whose ``repr`` tells it; the file's name holds its hash.
    """
    from safetensors.torch import load_file

    path = cache / f"{name}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.safetensors"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        save_tensors(make(), path)
    return load_file(path)


def digest(pixels: Tensor) -> str:
    """SHA-256 of a tensor's bytes, for ``cached``: a change of the drawing code shows in the first pictures."""
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()


class LatentSet:
    """Encoded training pictures on the training device: ``latents`` [N, 8, 8, 8] and their ``tokens`` [N, 8]."""

    def __init__(self, latents: Tensor, tokens: Tensor):
        self.latents, self.tokens = latents, tokens

    @classmethod
    def of_renders(cls, vae_file: Path, count: int, seed: int, device: torch.device, cache: Path) -> "LatentSet":
        """``count`` rendered scenes, encoded once and kept in the folder ``cache``."""
        first, _ = _rendered(0, count, seed)
        made_of = sha256(family.FOLDER / vae_file), count, seed, digest(first)
        state = cached(cache, "latents", made_of, lambda: _encoded(load_vae(vae_file, device), count, seed, device))
        return cls(state["latents"].to(device), state["tokens"].to(device))

    def draw(self, count: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """``count`` pairs with replacement."""
        at = torch.randint(len(self.latents), (count,), generator=g).to(self.latents.device)
        return self.latents[at], self.tokens[at]


class Conditions:
    """What pictures of a :class:`LatentSet` are made from beside their texts, drawn from their scenes when asked for.

    kind: "outline" of all things, or "low_resolution", the picture at a quarter of its sides and back.
    """

    def __init__(self, count: int, seed: int, kind: str):
        self.kind, chunks = kind, [_drawn(start, count, seed) for start in range(0, count, CHUNK)]
        self.scenes = [scene for scenes, _ in chunks for scene in scenes]
        self.draws = torch.cat([draws for _, draws in chunks])

    def of(self, places: list[int]) -> Tensor:
        """[B, 3, 64, 64] in [0, 1] of the pictures at these places."""
        scenes, draws = [self.scenes[place] for place in places], self.draws[places]
        if self.kind == "outline":
            return outlined(scenes, draws).repeat(1, 3, 1, 1)
        return coarser(painted(scenes, draws), LOW_RESOLUTION)


def _drawn(start: int, count: int, seed: int) -> tuple[list[Scene], Tensor]:
    """Scenes and their draws [B, 8] of the chunk of the training pictures that begins at ``start``."""
    g = generator(seed, "pictures", start)
    scenes = draw_scenes(min(CHUNK, count - start), g)
    return scenes, torch.rand(len(scenes), DRAWS, generator=g)


def _rendered(start: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pixels and tokens of such a chunk."""
    scenes, draws = _drawn(start, count, seed)
    return painted(scenes, draws), tokens_for(scenes)


@torch.no_grad()
def _encoded(vae: torch.nn.Module, count: int, seed: int, device: torch.device) -> dict[str, Tensor]:
    from rich.progress import track

    latents, tokens = [], []
    for start in track(range(0, count, CHUNK), f"encoding {count} pictures"):
        pixels, ids = _rendered(start, count, seed)
        latents.append(family.encode(vae, pixels.to(device)).cpu())
        tokens.append(ids)
    return {"latents": torch.cat(latents), "tokens": torch.cat(tokens)}
