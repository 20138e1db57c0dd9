"""How fast ``lcm`` trains a LoRA, and in how much memory, against a plain loop with two networks.

    python bench/train_speed.py                  # some 20 minutes on two cores; writes bench/results/train_speed.json
    python bench/train_speed.py --script FILE    # half an hour, and against diffusers' train_lcm_distill_lora_sdxl.py
    python bench/train_speed.py --counts         # a few minutes: only what is counted, in that file

SDXL with half the width and fewer transformer blocks, random weights, 128 x 128 pictures, float32, batch of four, and a
LoRA of the trainer's usual rank and layers. The plain loop (train_plain.py) is what a script does: teacher and student
are two networks, guidance takes two passes, and in "as each would run" every step encodes its pictures and captions,
which the trainer reads from its cache. In "loop alone" both have them encoded. For speed these loops are in one process
and take turns step by step, since the machine's own speed drifts by more than they differ; the ratio is the median over
the rounds, its quartiles beside it. Memory is measured in a process for each: what it held at most, above what it held
with all libraries loaded, while steps ran and, as a second figure, from its start on, with the loading of weights.

The script is a process of its own, and its step what a run of more steps takes longer than a run of few; the trainer's
steps are timed before and after each such pair. It needs the library datasets besides.

What passes (train_moves.py) and whole steps (train_steps.py) of full-size networks move and hold is counted, so it is
the same on every machine.
"""

import argparse
import ctypes
import gc
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from train_moves import BASES, SDXL, moves
from train_plain import PlainLoop
from train_steps import STEPS, Z_IMAGE_RANKS, step, z_image

ROOT = Path(__file__).resolve().parents[1]
BATCH, SIDE, PICTURES, RANK, WARMUP, MEMORY_STEPS = 4, 128, 32, 64, 2, 8
TEXT_WIDTHS = 384, 640
SMALL_SDXL = SDXL | {
    "sample_size": SIDE // 8,
    "block_out_channels": [160, 320, 640],
    "transformer_layers_per_block": [1, 1, 2],
    "cross_attention_dim": sum(TEXT_WIDTHS),
    "projection_class_embeddings_input_dim": TEXT_WIDTHS[1] + 6 * SDXL["addition_time_embed_dim"],
}
MODES = {"loop alone": True, "as each would run": False}  # whether the plain loop's data is encoded beforehand


def write_model(folder: Path) -> None:
    """A pipeline in diffusers' layout, and pictures with captions."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from PIL import Image
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
    from understudy.oracles.clip_tokenizer import clip_tokenizer

    torch.manual_seed(0)
    blocks = 4
    texts = [
        CLIPTextConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_attention_heads=width // 64,
            projection_dim=width,
            bos_token_id=49406,
            eos_token_id=49407,
        )
        for width in TEXT_WIDTHS
    ]
    StableDiffusionXLPipeline(
        vae=AutoencoderKL(
            block_out_channels=[64, 128, 256, 256],
            down_block_types=["DownEncoderBlock2D"] * blocks,
            up_block_types=["UpDecoderBlock2D"] * blocks,
            layers_per_block=2,
            latent_channels=4,
            scaling_factor=0.13025,
        ),
        text_encoder=CLIPTextModel(texts[0]),
        text_encoder_2=CLIPTextModelWithProjection(texts[1]),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=UNet2DConditionModel(**SMALL_SDXL),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
        ),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    ).save_pretrained(folder / "model")
    (folder / "pictures").mkdir()
    for i in range(PICTURES):
        pixels = torch.randint(256, (SIDE, SIDE, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
        (folder / "pictures" / f"{i}.txt").write_text(caption(i))


def caption(number: int) -> str:
    return f"picture number {number} of a lighthouse on a cliff at dusk"


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
            student={"train": "lora", "rank": RANK},
            data={"kind": "folder", "path": str(folder / "pictures"), "size": SIDE, "max_aspect": 1.0},
            settings={"target_ema": 0.0, "w_min": 3.0, "w_max": 15.0},
        )
        run = folder / "runs" / str(os.getpid())  # all beside one cache
        self.training = set_up(recipe, run, device="cpu").training

    def step(self) -> None:
        self.training.advance()


class Plain:
    """The plain loop with its data, of which each step encodes its own unless they are encoded beforehand."""

    def __init__(self, folder: Path, encoded: bool):
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from peft import LoraConfig
        from transformers import CLIPTextModel, CLIPTextModelWithProjection
        from understudy.distill_train.students.lora import USUAL
        from understudy.oracles.clip_tokenizer import clip_tokenizer
        from understudy.samplers.denoisers import scaled_linear

        model, self.folder = folder / "model", folder
        self.vae = AutoencoderKL.from_pretrained(model, subfolder="vae").requires_grad_(False)
        self.texts = [
            kind.from_pretrained(model, subfolder=part).requires_grad_(False)
            for kind, part in ((CLIPTextModel, "text_encoder"), (CLIPTextModelWithProjection, "text_encoder_2"))
        ]
        self.tokenizer, self.cache, self.done = clip_tokenizer(), {}, 0
        embedded = self._embedded([""])
        nothing = told({key: torch.zeros_like(value) for key, value in embedded.items()})
        if encoded:  # before the networks are there, as a sparing script would
            self.cache = {i: self._encoded([i]) for i in range(PICTURES)}
            self.vae = self.texts = None
        teacher = UNet2DConditionModel.from_pretrained(model, subfolder="unet").requires_grad_(False)
        student = UNet2DConditionModel.from_pretrained(model, subfolder="unet").requires_grad_(False)
        student.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(USUAL)))
        self.loop = PlainLoop(teacher, student, scaled_linear().float(), nothing)

    def _embedded(self, captions):
        tokens = self.tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        with torch.no_grad():
            outputs = [text(tokens["input_ids"], output_hidden_states=True) for text in self.texts]
        states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return {"context": states, "pooled": outputs[1].text_embeds}

    def _encoded(self, places):
        import numpy as np
        from PIL import Image

        files = [self.folder / "pictures" / f"{i}.png" for i in places]
        pixels = torch.stack([torch.from_numpy(np.array(Image.open(file))) for file in files])
        with torch.no_grad():
            latents = self.vae.encode(pixels.movedim(-1, 1).float() / 127.5 - 1).latent_dist.sample()
        texts = self._embedded([file.with_suffix(".txt").read_text() for file in files])
        return {"latents": latents * self.vae.config.scaling_factor, **texts}

    def step(self) -> None:
        places = [(self.done * BATCH + i) % PICTURES for i in range(BATCH)]
        if self.cache:
            rows = [self.cache[i] for i in places]
            data = {key: torch.cat([row[key] for row in rows]) for key in rows[0]}
        else:
            data = self._encoded(places)
        self.loop.step([(data.pop("latents"), told(data))])
        self.done += 1


def told(embedded: dict) -> dict:
    """What SDXL's UNet is called with besides latents and timesteps."""
    sizes = torch.tensor([[SIDE, SIDE, 0.0, 0.0, SIDE, SIDE]]).expand(len(embedded["context"]), -1)
    return {
        "encoder_hidden_states": embedded["context"],
        "added_cond_kwargs": {"text_embeds": embedded["pooled"], "time_ids": sizes},
    }


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


def seconds_of_ours(folder: str, rounds: int) -> list[float]:
    """Seconds of the trainer's steps, alone in a process."""
    trained, seconds = Trained(Path(folder), True), []
    for number in range(-WARMUP, rounds):
        started = time.perf_counter()
        trained.step()
        if number >= 0:
            seconds.append(time.perf_counter() - started)
    return seconds


def seconds_of_script(script: Path, folder: Path, rounds: int) -> float:
    """Seconds for a step of diffusers' script: how much longer a run with so many more steps takes."""
    pictures = folder / "script"
    if not pictures.exists():
        shutil.copytree(folder / "pictures", pictures, ignore=shutil.ignore_patterns("*.txt"))
        rows = [json.dumps({"file_name": f"{i}.png", "text": caption(i)}) for i in range(PICTURES)]
        (pictures / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    took = []
    for steps in (WARMUP, WARMUP + rounds):
        with tempfile.TemporaryDirectory() as out:
            given = {"pretrained_teacher_model": folder / "model", "train_data_dir": pictures, "output_dir": out}
            given |= {"resolution": SIDE, "train_batch_size": BATCH, "lora_rank": RANK, "learning_rate": 1e-4}
            given |= {"loss_type": "huber", "max_train_steps": steps, "lr_warmup_steps": 0, "seed": 0}
            given |= {"mixed_precision": "no", "checkpointing_steps": 10**6, "validation_steps": 10**6}
            given |= {"cache_dir": folder / "datasets", "adam_weight_decay": 0.0}
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, script, *(f"--{key}={value}" for key, value in given.items())],
                capture_output=True,
                text=True,
                check=False,
            )
            took.append(time.perf_counter() - started)
            if done.returncode:
                sys.exit(f"{script} ended with {done.returncode}:\n{done.stderr}")
    return (took[1] - took[0]) / rounds


def against_script(script: Path, folder: Path, rounds: int, repeats: int) -> dict:
    """The trainer against the script: samples a second of each, and the ratio in each repetition."""
    ours, theirs = [statistics.median(in_a_process("ours", str(folder), rounds))], []
    for _ in range(repeats):
        theirs.append(seconds_of_script(script, folder, rounds))
        ours.append(statistics.median(in_a_process("ours", str(folder), rounds)))
    ratios = [round(2 * b / (a + c), 3) for a, b, c in zip(ours, theirs, ours[1:], strict=False)]
    row = {"mode": "diffusers' script", "understudy_samples_per_second": round(BATCH / statistics.median(ours), 3)}
    row["script_samples_per_second"] = round(BATCH / statistics.median(theirs), 3)
    return row | {"speed_ratio": statistics.median(ratios), "speed_ratios": ratios}


MEASURES = {"memory": memory, "seconds": seconds_of_steps, "ours": seconds_of_ours}


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
    parser.add_argument("--counts", action="store_true", help="count, and leave the rest as it was")
    parser.add_argument("--script", type=Path, help="diffusers' train_lcm_distill_lora_sdxl.py")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs of the script")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, *arguments = json.loads(options.measure)
        print(json.dumps(MEASURES[what](*arguments)))
        return
    counted = {"moves": [], "steps": []}
    for base in BASES:
        counted["moves"] += shown(moves(base))
        counted["steps"] += shown(step(base, *what) for what in STEPS[base])
    counted["steps"] += shown(map(z_image, Z_IMAGE_RANKS))
    if options.counts:
        results = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    else:
        results = speed(options.rounds, options.script, options.repeats)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**results, **counted}, indent=1) + "\n", encoding="utf-8")


def shown(rows: Iterable[dict]) -> list[dict]:
    """The rows, printed as they come."""
    kept = []
    for row in rows:
        kept.append(row)
        print(json.dumps(row), flush=True)
    return kept


def speed(rounds: int, script: Path | None, repeats: int) -> dict:
    """The speed and memory of the loops, and where they were measured."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        in_a_process("memory", "understudy", folder, True)  # fills the cache
        seconds = in_a_process("seconds", folder, rounds)
        for mode, encoded in MODES.items():
            held = {name: in_a_process("memory", name, folder, encoded) for name in LOOPS}
            rows += shown([row_of(mode, seconds, held)])
        if script is not None:
            rows += shown([against_script(script.absolute(), Path(folder), rounds, repeats)])
    machine = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    return {"machine": machine, "rounds": rounds, "rows": rows}


if __name__ == "__main__":
    main()
