"""What the adaptive graph costs in a real ComfyUI, against the same work done by stock nodes.

    python bench/host.py                # ten pairs, about an hour on two cores; writes bench/results/host.json
    python bench/host.py --pairs 2 --side 64 --out elsewhere.json

An SD 1.5-layout checkpoint (shallow UNet, text encoder and VAE at their normal size), a batch of eight. Three
comparisons: with two of eight rejected against student, decode, oracle, encode two, teacher on two, decode two; with
none rejected against student, decode, oracle; and the first again after the batch was made a list of eight entries of
one image. The two graphs of a comparison take turns in one server, each time with a seed that was not used before, so
that nothing but the loaded models is reused. Peak memory is that of a server of its own.
"""

import argparse
import json
import os
import platform
import re
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.host import checkpoints, environment  # noqa: E402
from tests.host.graphs import THRESHOLD, Graph  # noqa: E402
from tests.host.server import Host  # noqa: E402

BATCH = 8
# How many images are rejected, and how many an entry of the list of images has.
COMPARISONS = ((2, BATCH), (0, BATCH), (2, 1))
STUDENT_STEPS, STUDENT_CFG = 4, 1.0
TEACHER = {"steps": 12, "cfg": 7.0, "sampler_name": "dpmpp_2m", "scheduler": "normal"}
ROLLBACK = 0.7
TEXT = "a photograph of a lighthouse on a cliff at dusk"
RESAMPLES = 10_000


class Job(Graph):
    """The part that all graphs share: checkpoint with LCM LoRA, texts, oracle, and the student's images scored."""

    def __init__(self, side, sample, entry):
        super().__init__()
        self.checkpoint = self.add("CheckpointLoaderSimple", ckpt_name=checkpoints.CHECKPOINT)
        lora = {"lora_name": checkpoints.LORA, "strength_model": 1.0}
        self.student = self.add("LoraLoaderModelOnly", model=self.checkpoint[0], **lora)
        self.positive = self.add("CLIPTextEncode", clip=self.checkpoint[1], text=TEXT)
        self.negative = self.add("CLIPTextEncode", clip=self.checkpoint[1], text="")
        self.empty = self.add("EmptyLatentImage", width=side, height=side, batch_size=BATCH)
        self.latent = sample(self)
        self.entry = entry
        self.batch = self.add("VAEDecode", samples=self.latent[0], vae=self.checkpoint[2])
        self.images = self.listed(self.batch)
        oracle = self.add("UnderstudyLoadOracle", oracle_name=checkpoints.CLIP, family="auto")
        self.scores = self.add("UnderstudyScoreImages", oracle=oracle[0], images=self.images[0], prompt=TEXT)

    def listed(self, batch):
        """The images in entries of the list; a single entry needs no node."""
        return batch if self.entry == BATCH else self.add("RebatchImages", images=batch[0], batch_size=self.entry)

    def teacher_inputs(self):
        """Model, positive, negative and VAE of the teacher, from a loader of its own."""
        loader = self.add("CheckpointLoaderSimple", ckpt_name=checkpoints.TEACHER)
        positive = self.add("CLIPTextEncode", clip=loader[1], text=TEXT)
        negative = self.add("CLIPTextEncode", clip=loader[1], text="")
        return {"model": loader[0], "positive": positive[0], "negative": negative[0]}, loader[2]


def adaptive(side, seed, rejected, entry):
    """This pack's graph; ``rejected`` of the batch go to the teacher, in a list of ``entry`` images each."""

    def sample(graph):
        conditioning = {"positive": graph.positive[0], "negative": graph.negative[0], "latent_image": graph.empty[0]}
        widgets = {"preset": "LCM-LoRA", "steps": STUDENT_STEPS, "cfg": STUDENT_CFG, "denoise": 1.0, "seed": seed}
        return graph.add("UnderstudyStudentSampler", model=graph.student[0], **conditioning, **widgets)

    graph = Job(side, sample, entry)
    widgets = {**THRESHOLD, "mode": "worst_fraction", "fraction": rejected / BATCH}
    threshold = graph.add("UnderstudyThreshold", **widgets)
    networks, vae = graph.teacher_inputs()
    teacher = graph.add(
        "UnderstudyTeacher",
        images=graph.images[0],
        scores=graph.scores[0],
        threshold=threshold[0],
        vae=vae,
        latent=graph.latent[0],
        start_from="images",
        strategy="refine",
        settings="my own",
        rollback_mode="schedule",
        rollback=ROLLBACK,
        strength="fixed",
        rollback_worst=ROLLBACK,
        upscale_by=1.0,
        images_at_once=0,
        seed_from="latent",
        seed=seed,
        **networks,
        **TEACHER,
    )
    graph.add("TestAsk", anything=teacher[0])
    return graph


def stock(side, seed, rejected, entry):
    """The same work by ComfyUI's own nodes and the oracle; which images are redone does not matter for the cost."""

    def sample(graph):
        model = graph.add("ModelSamplingDiscrete", model=graph.student[0], sampling="lcm", zsnr=False)
        conditioning = {"positive": graph.positive[0], "negative": graph.negative[0], "latent_image": graph.empty[0]}
        widgets = {"steps": STUDENT_STEPS, "cfg": STUDENT_CFG, "sampler_name": "lcm", "scheduler": "sgm_uniform"}
        return graph.add("KSampler", model=model[0], **conditioning, **widgets, denoise=1.0, seed=seed)

    graph = Job(side, sample, entry)
    graph.add("TestAsk", anything=graph.scores[0])
    if rejected:
        networks, vae = graph.teacher_inputs()
        bad = graph.listed(graph.add("ImageFromBatch", image=graph.batch[0], batch_index=0, length=rejected))
        latent = graph.add("VAEEncode", pixels=bad[0], vae=vae)
        again = graph.add("KSampler", latent_image=latent[0], seed=seed, denoise=ROLLBACK, **networks, **TEACHER)
        redone = graph.add("VAEDecode", samples=again[0], vae=vae)
        kept = graph.add("ImageFromBatch", image=graph.batch[0], batch_index=rejected, length=BATCH - rejected)
        joined = graph.add("ImageBatch", image1=redone[0], image2=kept[0])
        graph.add("TestAsk", anything=joined[0])
    return graph


def described(rejected, entry):
    return f"{rejected} of {BATCH}" + (f", in {BATCH // entry} entries" if entry < BATCH else "")


GRAPHS = {"adaptive": adaptive, "stock": stock}


class Bench:
    def __init__(self, side, folder):
        checkouts = [environment.checkout(revision) for revision in environment.revisions()]
        self.python = environment.python(checkouts)
        self.checkout = max(checkouts, key=environment.version)
        self.models, self.side, self.folder = checkpoints.models(), side, Path(folder)
        self.seed = int.from_bytes(os.urandom(4), "big")

    def server(self, name):
        host = Host(self.checkout, self.python, self.folder / name, self.models)
        host.install()
        return host.start()

    def seconds(self, host, name, comparison):
        """One run of one graph, with a new seed."""
        self.seed += 1
        return host.run(GRAPHS[name](self.side, self.seed, *comparison)).seconds

    def pairs(self, comparison, count, progress):
        """``{"adaptive": [...], "stock": [...]}`` in seconds; each pair in the other order than the one before."""
        host = self.server("pairs-{}-{}".format(*comparison))
        found = {name: [] for name in GRAPHS}
        for pair in range(-1, count):
            for name in list(GRAPHS)[:: 1 if pair % 2 else -1]:
                progress(f"{described(*comparison)}, pair {pair + 1 or 'to warm up'}: {name}")
                seconds = self.seconds(host, name, comparison)
                if pair >= 0:
                    found[name].append(round(seconds, 3))
        host.stop()
        return found

    def peak(self, name, comparison):
        """The most memory (MiB) that a server of its own held while it ran one graph once; None where Linux is not."""
        host = self.server("peak-{}-{}-{}".format(*comparison, name))
        self.seconds(host, name, comparison)
        status = Path(f"/proc/{host.process.pid}/status")
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) // 1024 if status.exists() else None
        host.stop()
        return peak


def median_with_interval(ratios):
    """The median and its 95 % interval by bootstrap over the pairs."""
    draws = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return statistics.median(ratios), [float(low), float(high)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10, help="measured pairs for each comparison")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "host.json")
    options = parser.parse_args()
    console = Console()
    rows = []
    with tempfile.TemporaryDirectory() as folder, console.status("starting") as status:
        bench = Bench(options.side, folder)
        for comparison in COMPARISONS:
            seconds = bench.pairs(comparison, options.pairs, status.update)
            ratio, interval = median_with_interval(
                [a / s for a, s in zip(seconds["adaptive"], seconds["stock"], strict=True)]
            )
            status.update(f"{described(*comparison)}: peak memory")
            peak = {name: bench.peak(name, comparison) for name in GRAPHS}
            row = dict(zip(("rejected", "entry"), comparison, strict=True))
            rows.append({**row, "seconds": seconds, "ratio": ratio, "interval": interval, "peak_mib": peak})
    host = ".".join(map(str, environment.version(bench.checkout)))
    report = {
        "host": f"ComfyUI {host}",
        "machine": {"system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count()},
        "settings": {
            "side": options.side,
            "batch": BATCH,
            "student": {"steps": STUDENT_STEPS, "cfg": STUDENT_CFG},
            "teacher": {**TEACHER, "rollback": ROLLBACK},
            "pairs": options.pairs,
        },
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    console.print(table(rows, f"ComfyUI {host}, batch of {BATCH} at {options.side} x {options.side}"))


def table(rows, title):
    shown = Table("rejected", "stock s", "adaptive s", "ratio (95 %)", "peak stock", "peak adaptive", title=title)
    for row in rows:
        medians = [f"{statistics.median(row['seconds'][name]):.2f}" for name in ("stock", "adaptive")]
        peaks = [f"{row['peak_mib'][name]} MiB" for name in ("stock", "adaptive")]
        ratio = f"{row['ratio']:.3f} ({row['interval'][0]:.3f} to {row['interval'][1]:.3f})"
        shown.add_row(described(row["rejected"], row["entry"]), *medians, ratio, *peaks)
    return shown


if __name__ == "__main__":
    main()
