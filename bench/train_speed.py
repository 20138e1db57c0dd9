"""How fast ``lcm`` trains a LoRA, and in how much memory, against a plain loop with two networks.

    python bench/train_speed.py          # about ten minutes on two cores; writes bench/results/train_speed.json
    python bench/train_speed.py --moves  # half a minute: only the kernels and bytes of a full-size pass, in that file

Stable Diffusion 1.5 with half the width everywhere, random weights, 128 x 128 pictures, float32, batch of four. The
plain loop is what a script does: teacher and student are two networks, guidance takes two passes, and in "as each would
run" every step encodes its pictures and captions, which the trainer reads from its cache. In "loop alone" both have
them encoded. For speed all loops are in one process and take turns step by step, since the machine's own speed drifts
by more than they differ; the ratio is the median over the rounds, its quartiles beside it. Memory is measured in a
process for each: what it held at most, above what it held with all libraries loaded, while steps ran and, as a second
figure, from its start on, with the loading of weights. What a pass moves (train_moves.py) is counted, so it is the same
on every machine.
"""

import argparse
import ctypes
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from train_moves import BASES, moves

ROOT = Path(__file__).resolve().parents[1]
BATCH, SIDE, PICTURES, RANK, WARMUP, MEMORY_STEPS = 4, 128, 32, 64, 2, 8
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
MODES = {"loop alone": True, "as each would run": False}  # whether the plain loop's data is encoded beforehand


def write_model(folder: Path) -> None:
    """A pipeline in diffusers' layout, and pictures with captions."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from PIL import Image
    from transformers import CLIPTextConfig, CLIPTextModel
    from understudy.oracles.clip_tokenizer import clip_tokenizer

    torch.manual_seed(0)
    blocks = 4
    text = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "projection_dim": 384}
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=[64, 128, 256, 256],
            down_block_types=["DownEncoderBlock2D"] * blocks,
            up_block_types=["UpDecoderBlock2D"] * blocks,
            layers_per_block=2,
            latent_channels=4,
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text, bos_token_id=49406, eos_token_id=49407)),
        tokenizer=clip_tokenizer(),
        unet=UNet2DConditionModel(block_out_channels=[160, 320, 640, 640], cross_attention_dim=384),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "model")
    (folder / "pictures").mkdir()
    for i in range(PICTURES):
        pixels = torch.randint(256, (SIDE, SIDE, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
        (folder / "pictures" / f"{i}.txt").write_text(f"picture number {i} of a lighthouse on a cliff at dusk")


class Trained:
    """The trainer itself."""

    def __init__(self, folder: Path, encoded: bool):
        from understudy.distill_train.config import Recipe
        from understudy.distill_train.run.loop import set_up

        loop = {"steps": 10_000, "batch_size": BATCH, "lr": 1e-4, "ema": 0.0, "tracker": "none"}
        recipe = Recipe(
            method="lcm",
            seed=0,
            export="lora.safetensors",
            loop=loop,
            teacher={"path": folder / "model"},
            student={"train": "lora", "rank": RANK, "targets": TARGETS},
            data={"kind": "folder", "path": str(folder / "pictures"), "size": SIDE, "max_aspect": 1.0},
            settings={"target_ema": 0.0, "w_min": 3.0, "w_max": 15.0},
        )
        run = folder / "runs" / str(os.getpid())  # all beside one cache
        self.training = set_up(recipe, run, device="cpu").training

    def step(self) -> None:
        self.training.advance()


class Plain:
    """Latent consistency distillation as a script has it: everything in memory, one thing after the other."""

    def __init__(self, folder: Path, encoded: bool):
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from peft import LoraConfig
        from transformers import CLIPTextModel
        from understudy.oracles.clip_tokenizer import clip_tokenizer
        from understudy.samplers.denoisers import scaled_linear

        model, self.folder = folder / "model", folder
        self.vae = AutoencoderKL.from_pretrained(model, subfolder="vae").requires_grad_(False)
        self.text = CLIPTextModel.from_pretrained(model, subfolder="text_encoder").requires_grad_(False)
        self.tokenizer = clip_tokenizer()
        self.nothing, self.cache = self._embedded([""]), {}
        if encoded:  # before the networks are there, as a sparing script would
            self.cache = {i: self._encoded([i]) for i in range(PICTURES)}
            self.vae = self.text = None
        self.teacher = UNet2DConditionModel.from_pretrained(model, subfolder="unet").requires_grad_(False)
        self.student = UNet2DConditionModel.from_pretrained(model, subfolder="unet").requires_grad_(False)
        self.student.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))
        self.parameters = [p for p in self.student.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.0)
        self.alphas_cumprod, self.done = scaled_linear().float(), 0

    def _embedded(self, captions):
        tokens = self.tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        with torch.no_grad():
            return self.text(tokens["input_ids"]).last_hidden_state

    def _encoded(self, places):
        import numpy as np
        from PIL import Image

        files = [self.folder / "pictures" / f"{i}.png" for i in places]
        pixels = torch.stack([torch.from_numpy(np.array(Image.open(file))) for file in files])
        with torch.no_grad():
            latents = self.vae.encode(pixels.movedim(-1, 1).float() / 127.5 - 1).latent_dist.sample()
        return latents * self.vae.config.scaling_factor, self._embedded(
            [f.with_suffix(".txt").read_text() for f in files]
        )

    def _x0(self, network, z, t, context):
        alpha, sigma = self._level(t)
        eps = network(z, t, context).sample
        return (z - sigma * eps) / alpha, eps

    def _level(self, t):
        squared = self.alphas_cumprod[t][:, None, None, None]
        return squared.sqrt(), (1 - squared).sqrt()

    def _consistency(self, z, t, context):
        scaled = 10.0 * t[:, None, None, None]
        skip, out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25).sqrt()
        return skip * z + out * self._x0(self.student, z, t, context)[0]

    def step(self) -> None:
        places = [(self.done * BATCH + i) % PICTURES for i in range(BATCH)]
        if self.cache:
            latents, context = (torch.cat(parts) for parts in zip(*(self.cache[i] for i in places), strict=True))
        else:
            latents, context = self._encoded(places)
        t = 20 * torch.randint(1, 51, (BATCH,)) - 1
        s = (t - 20).clamp(min=0)
        w = torch.empty(BATCH, 1, 1, 1).uniform_(3.0, 15.0)
        alpha, sigma = self._level(t)
        z = alpha * latents + sigma * torch.randn_like(latents)
        prediction = self._consistency(z, t, context)
        with torch.no_grad():
            x0, eps = self._x0(self.teacher, z, t, context)
            x0_free, eps_free = self._x0(self.teacher, z, t, self.nothing.expand(BATCH, -1, -1))
            alpha, sigma = self._level(s)
            nearer = alpha * (x0 + w * (x0 - x0_free)) + sigma * (eps + w * (eps - eps_free))
            target = self._consistency(nearer, s, context)
        loss = (F.mse_loss(prediction, target, reduction="none") + 0.001**2).sqrt().sub(0.001).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done += 1


LOOPS = {"understudy": Trained, "plain": Plain}


def held_mib(count: str) -> int:
    """Linux's own counts, "VmRSS" for now and "VmHWM" for the most: the resource module's begins with the parent's."""
    return int(re.search(rf"{count}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024


def forget_peak() -> None:
    """Let "VmHWM" begin anew, after what is not in use any more went back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def memory(loop: str, folder: str, encoded: bool) -> dict:
    """MiB, in a process of its own."""
    import accelerate  # noqa: F401 so that the libraries do not count as the loop's memory
    import diffusers.loaders  # noqa: F401
    import peft  # noqa: F401
    import transformers  # noqa: F401

    before = held_mib("VmRSS")
    trained = LOOPS[loop](Path(folder), encoded)
    for _ in range(WARMUP):
        trained.step()
    until_now = held_mib("VmHWM")
    forget_peak()
    for _ in range(MEMORY_STEPS):
        trained.step()
    peak = held_mib("VmHWM")
    return {"peak_of_steps_mib": peak - before, "peak_with_loading_mib": max(peak, until_now) - before}


def seconds_of_steps(folder: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each loop's step in each round: all loops in one process, a step each in turn, in turning order."""
    trained = {"understudy": Trained(Path(folder), True)}
    trained |= {mode: Plain(Path(folder), encoded) for mode, encoded in MODES.items()}
    seconds = {name: [] for name in trained}
    for number in range(-WARMUP, rounds):
        names, first = list(trained), number % len(trained)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            trained[name].step()
            if number >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


MEASURES = {"memory": memory, "seconds": seconds_of_steps}


def in_a_process(*arguments):
    command = [sys.executable, __file__, "--measure", json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def row_of(mode: str, seconds: dict, held: dict) -> dict:
    ours, plain = seconds["understudy"], seconds[mode]
    row = {"mode": mode}
    for name, each in (("understudy", ours), ("plain", plain)):
        row[f"{name}_samples_per_second"] = round(BATCH / statistics.median(each), 3)
        row |= {f"{name}_{figure}": mib for figure, mib in held[name].items()}
    ratios = [b / a for a, b in zip(ours, plain, strict=True)]
    low, row["speed_ratio"], high = (round(cut, 3) for cut in statistics.quantiles(ratios, n=4))
    row["speed_ratio_quartiles"] = [low, high]
    for ratio, figure in (("memory_ratio", "peak_of_steps_mib"), ("loading_ratio", "peak_with_loading_mib")):
        row[ratio] = round(held["understudy"][figure] / held["plain"][figure], 3)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="measured steps of each loop")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "train_speed.json")
    parser.add_argument("--moves", action="store_true", help="count what a pass moves, and leave the rest as it was")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, *arguments = json.loads(options.measure)
        print(json.dumps(MEASURES[what](*arguments)))
        return
    counted = []
    for base in BASES:
        counted += moves(base)
        print("\n".join(map(json.dumps, counted[-2:])), flush=True)
    if options.moves:
        results = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    else:
        results = speed(options.rounds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**results, "moves": counted}, indent=1) + "\n", encoding="utf-8")


def speed(rounds: int) -> dict:
    """The speed and memory of the loops, and where they were measured."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        in_a_process("memory", "understudy", folder, True)  # fills the cache
        seconds = in_a_process("seconds", folder, rounds)
        for mode, encoded in MODES.items():
            held = {name: in_a_process("memory", name, folder, encoded) for name in LOOPS}
            rows.append(row_of(mode, seconds, held))
            print(json.dumps(rows[-1]), flush=True)
    machine = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    return {"machine": machine, "rounds": rounds, "rows": rows}


if __name__ == "__main__":
    main()
