"""The demo family's own student against one that the users' `lcm` makes of the same teacher, on 2,000 paired scenes.

    python bench/demo_student.py             # trains in runs/demo-lcm, or goes on there; writes bench/results
    python bench/demo_student.py --n 256     # a quick look

Both learned from the same 50,000 pictures, for as many steps of as many samples, with one learning rate and the teacher
guided by the same scale; targets, distance and boundary are each method's own. Scene i has the same noise for both. The
scenes are of the calibration split, which no network was trained on.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from understudy.demo_family import checker, family
from understudy.demo_family.sampling import denoiser, sample_student
from understudy.distill_train.config import load_recipe
from understudy.distill_train.data.randomness import generator
from understudy.distill_train.demo.scenes import draw_scenes, tokens_for
from understudy.distill_train.run.command import RECIPES
from understudy.distill_train.run.directory import Run
from understudy.distill_train.run.loop import train
from understudy.samplers.noise import PerImageNoise

RESULTS = Path(__file__).parent / "results"
STEPS, BATCH, SEED = (1, 2, 4), 250, 16
CFG = 3.0  # of the teacher, as in recipes/demo-student.toml; LCM's w is cfg - 1
CHANGES = (
    *("teacher.path=demo", "data.kind=scenes", "student.dtype=fp32", "seed=3"),
    *("loop.steps=1500", "loop.batch_size=64", "loop.accumulate=1", "loop.lr=3e-4", "loop.warmup=200"),
    *("loop.decay=wsd", "loop.ema=0.999", "loop.betas=[0.9, 0.99]", "loop.optimizer=adamw", "loop.precision=fp32"),
    *("loop.checkpointing=false", "loop.sample_every=500", "loop.checkpoint_every=250"),
    *("settings.embed_guidance=false", f"settings.w_min={CFG - 1}", f"settings.w_max={CFG - 1}"),
)


def trained(directory: Path) -> Path:
    """The file of the student that `lcm` makes; a run that was begun goes on."""
    recipe = load_recipe(RECIPES / "lcm.toml", CHANGES)
    exported = directory / "exports" / recipe.export
    return exported if exported.exists() else train(recipe, directory, resume=Run(directory).reached() is not None)


@torch.no_grad()
def pictures(student: Path, scenes: list, steps: int) -> Iterator[tuple[torch.Tensor, list]]:
    """[B, 3, 64, 64] of some scenes after the others, and these scenes."""
    network = family.load_network(student).eval()
    vae = family.load_autoencoder(family.FOLDER / "vae.safetensors").eval()
    shape = family.LATENT_CHANNELS, *[family.LATENT_SIDE] * 2
    for start in range(0, len(scenes), BATCH):
        part = scenes[start : start + BATCH]
        places = range(start, start + len(part))
        noise = torch.stack([torch.randn(shape, generator=generator(SEED, "noise", place)) for place in places])
        fresh = PerImageNoise(SEED, places, shape, noise.device)
        yield family.decode(vae, sample_student(denoiser(network), noise, tokens_for(part), steps, fresh)), part


def exact(student: Path, scenes: list, steps: int) -> torch.Tensor:
    """Whether the checker finds the picture of each scene exact, [N]."""
    found = [right for made in pictures(student, scenes, steps) for right in checker.exact(*made)]
    return torch.tensor(found, dtype=torch.float64)


def interval(values: torch.Tensor) -> tuple[float, float, float]:
    """The mean and its 95 % interval."""
    half = 1.96 * values.std().item() / len(values) ** 0.5
    return values.mean().item(), values.mean().item() - half, values.mean().item() + half


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2000, help="scenes")
    parser.add_argument("--run", type=Path, default=Path("runs/demo-lcm"), help="folder of the training")
    given = parser.parse_args()
    other = trained(given.run)
    scenes = draw_scenes(given.n, generator(SEED, "scenes"), split="calibration")
    rows = []
    print("steps   own student   lcm            lcm less own")
    for steps in STEPS:
        own, lcm = exact(family.FOLDER / "student.safetensors", scenes, steps), exact(other, scenes, steps)
        row = {"own": interval(own), "lcm": interval(lcm), "difference": interval(lcm - own)}
        print(
            f"{steps:<7} {row['own'][0]:<13.1%} {row['lcm'][0]:<14.1%} {{:+.1%}} ({{:+.1%}} to {{:+.1%}})".format(
                *row["difference"]
            )
        )
        rows.append({"steps": steps, **row})
    if given.n >= 2000:
        (RESULTS / "demo_student.json").write_text(json.dumps({"scenes": given.n, "rows": rows}, indent=1) + "\n")
