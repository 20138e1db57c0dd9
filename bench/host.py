"""What the adaptive graph costs in a real ComfyUI, against the same work done by stock nodes.

    python bench/host.py                # ten pairs, about an hour on two cores; writes bench/results/host.json
    python bench/host.py --pairs 2 --side 64 --out elsewhere.json

An SD 1.5-layout checkpoint (shallow UNet, text encoder and VAE at their normal size), a batch of eight. Five
comparisons, against stock nodes that do the same work: with two of eight rejected (student, decode, oracle, encode two,
teacher on two, decode two); with none rejected (student, decode, oracle); the first again after the batch was made a
list of eight entries of one image; and the first and the third with Split and Merge around stock nodes in place of
Teacher, and a stock student. The two graphs of a comparison take turns in one server, each time with a seed that was
not used before, so that nothing but the loaded models is reused. Peak memory, network evaluations and how often a model
was loaded are those of one run in a server of its own.
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
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.host import checkpoints, environment  # noqa: E402
from tests.host.graphs import THRESHOLD, Graph  # noqa: E402
from tests.host.server import Host  # noqa: E402

BATCH = 8
STUDENT_STEPS, STUDENT_CFG = 4, 1.0
TEACHER = {"steps": 12, "cfg": 7.0, "sampler_name": "dpmpp_2m", "scheduler": "normal"}
ROLLBACK = 0.7
TEXT = "a photograph of a lighthouse on a cliff at dusk"
RESAMPLES = 10_000


class Comparison(NamedTuple):
    """``rejected`` of the batch are redone by ``way``, in a list of ``entry`` images each."""

    rejected: int
    entry: int
    way: str = "Teacher"

    def __str__(self):
        entries = f", in {BATCH // self.entry} entries" if self.entry < BATCH else ""
        return f"{self.rejected} of {BATCH}{entries}, {self.way}"


AROUND = "Split and Merge"
COMPARISONS = (
    Comparison(2, BATCH),
    Comparison(0, BATCH),
    Comparison(2, 1),
    Comparison(2, BATCH, AROUND),
    Comparison(2, 1, AROUND),
)


class Job(Graph):
    """The part that all graphs share: checkpoint with LCM LoRA, texts, oracle, and the student's images scored."""

    def __init__(self, side, seed, sample, entry):
        super().__init__()
        self.seed = seed
        self.checkpoint = self.add("CheckpointLoaderSimple", ckpt_name=checkpoints.CHECKPOINT)
        lora = {"lora_name": checkpoints.LORA, "strength_model": 1.0}
        self.student = self.add(
            "TestCounted", model=self.add("LoraLoaderModelOnly", model=self.checkpoint[0], **lora)[0]
        )
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

    def threshold(self, rejected):
        widgets = {**THRESHOLD, "mode": "worst_fraction", "fraction": rejected / BATCH}
        return self.add("UnderstudyThreshold", **widgets)[0]

    def teacher_inputs(self):
        """Model, positive, negative and VAE of the teacher, from a loader of its own."""
        loader = self.add("CheckpointLoaderSimple", ckpt_name=checkpoints.TEACHER)
        model = self.add("TestCounted", model=loader[0])
        positive = self.add("CLIPTextEncode", clip=loader[1], text=TEXT)
        negative = self.add("CLIPTextEncode", clip=loader[1], text="")
        return {"model": model[0], "positive": positive[0], "negative": negative[0]}, loader[2]

    def redone_by_stock_nodes(self, images):
        """Images out of the teacher's VAE, KSampler and VAE."""
        networks, vae = self.teacher_inputs()
        latent = self.add("VAEEncode", pixels=images, vae=vae)
        again = self.add("KSampler", latent_image=latent[0], seed=self.seed, denoise=ROLLBACK, **networks, **TEACHER)
        return self.add("VAEDecode", samples=again[0], vae=vae)[0]

    def ends_in(self, made):
        self.add("TestAsk", anything=made)
        self.count = self.add("TestCount", after=made)
        return self


def our_student(graph):
    conditioning = {"positive": graph.positive[0], "negative": graph.negative[0], "latent_image": graph.empty[0]}
    widgets = {"preset": "LCM-LoRA", "steps": STUDENT_STEPS, "cfg": STUDENT_CFG, "denoise": 1.0, "seed": graph.seed}
    return graph.add("UnderstudyStudentSampler", model=graph.student[0], **conditioning, **widgets)


def stock_student(graph):
    model = graph.add("ModelSamplingDiscrete", model=graph.student[0], sampling="lcm", zsnr=False)
    conditioning = {"positive": graph.positive[0], "negative": graph.negative[0], "latent_image": graph.empty[0]}
    widgets = {"steps": STUDENT_STEPS, "cfg": STUDENT_CFG, "sampler_name": "lcm", "scheduler": "sgm_uniform"}
    return graph.add("KSampler", model=model[0], **conditioning, **widgets, denoise=1.0, seed=graph.seed)


def adaptive(side, seed, rejected, entry):
    """This pack's graph with Student Sampler and Teacher."""
    graph = Job(side, seed, our_student, entry)
    threshold = graph.threshold(rejected)
    networks, vae = graph.teacher_inputs()
    teacher = graph.add(
        "UnderstudyTeacher",
        images=graph.images[0],
        scores=graph.scores[0],
        threshold=threshold,
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
    return graph.ends_in(teacher[0])


def around(side, seed, rejected, entry):
    """Stock nodes between Split and Merge."""
    graph = Job(side, seed, stock_student, entry)
    judged = {"images": graph.images[0], "scores": graph.scores[0], "threshold": graph.threshold(rejected)}
    bad = graph.add("UnderstudySplit", **judged)
    merged = graph.add("UnderstudyMerge", **judged, redone=graph.redone_by_stock_nodes(bad[0]))
    return graph.ends_in(merged[0])


def stock(side, seed, rejected, entry):
    """The same work by ComfyUI's own nodes and the oracle; which images are redone does not matter for the cost."""
    graph = Job(side, seed, stock_student, entry)
    if not rejected:
        return graph.ends_in(graph.scores[0])
    graph.add("TestAsk", anything=graph.scores[0])
    bad = graph.listed(graph.add("ImageFromBatch", image=graph.batch[0], batch_index=0, length=rejected))
    redone = graph.redone_by_stock_nodes(bad[0])
    kept = graph.add("ImageFromBatch", image=graph.batch[0], batch_index=rejected, length=BATCH - rejected)
    return graph.ends_in(graph.add("ImageBatch", image1=redone, image2=kept[0])[0])


WAYS = {"Teacher": adaptive, AROUND: around}
SIDES = ("adaptive", "stock")


def graph_of(name, comparison, side, seed):
    build = WAYS[comparison.way] if name == "adaptive" else stock
    return build(side, seed, comparison.rejected, comparison.entry)


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
        return self.run(host, name, comparison)[0].seconds

    def run(self, host, name, comparison):
        self.seed += 1
        graph = graph_of(name, comparison, self.side, self.seed)
        return host.run(graph), graph

    def pairs(self, comparison, count, progress):
        """``{"adaptive": [...], "stock": [...]}`` in seconds; each pair in the other order than the one before."""
        host = self.server(f"pairs {comparison}")
        found = {name: [] for name in SIDES}
        for pair in range(-1, count):
            for name in SIDES[:: 1 if pair % 2 else -1]:
                progress(f"{comparison}, pair {pair + 1 or 'to warm up'}: {name}")
                seconds = self.seconds(host, name, comparison)
                if pair >= 0:
                    found[name].append(round(seconds, 3))
        host.stop()
        return found

    def once(self, name, comparison):
        """What one run in a server of its own took: the most memory (MiB) that it held (None where Linux is not),
        network evaluations, and how often a model was loaded."""
        host = self.server(f"once {comparison} {name}")
        run, graph = self.run(host, name, comparison)
        status = Path(f"/proc/{host.process.pid}/status")
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) // 1024 if status.exists() else None
        loads = host.log_text().count("Requested to load")
        host.stop()
        return {"peak_mib": peak, "evaluations": int(run.outputs[graph.count]["text"][0]), "loads": loads}


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
            status.update(f"{comparison}: memory, evaluations and loads")
            each = {name: bench.once(name, comparison) for name in SIDES}
            counts = {key: {name: each[name][key] for name in SIDES} for key in each["stock"]}
            row = {**comparison._asdict(), "seconds": seconds, "ratio": ratio, "interval": interval}
            rows.append({**row, **counts})
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
    counts = ("peak MiB", "evaluations", "loads")
    shown = Table("rejected", "stock s", "adaptive s", "ratio (95 %)", *counts, title=title, caption="stock, adaptive")
    for row in rows:
        medians = [f"{statistics.median(row['seconds'][name]):.2f}" for name in ("stock", "adaptive")]
        pairs = [f"{row[key]['stock']}, {row[key]['adaptive']}" for key in ("peak_mib", "evaluations", "loads")]
        ratio = f"{row['ratio']:.3f} ({row['interval'][0]:.3f} to {row['interval'][1]:.3f})"
        shown.add_row(str(Comparison(row["rejected"], row["entry"], row["way"])), *medians, ratio, *pairs)
    return shown


if __name__ == "__main__":
    main()
