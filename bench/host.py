"""What the adaptive graph costs in a real ComfyUI, against the same work done by stock nodes.

    python bench/host.py                # ten pairs, over an hour on two cores; writes bench/results/host.json
    python bench/host.py --resume       # goes on with that file: pairs that it has are not measured again
    python bench/host.py --pairs 1 --side 64 --out elsewhere.json       # a look

An SD 1.5-layout checkpoint (shallow UNet, text encoder and VAE at their normal size), a batch of eight. Seven
comparisons, against stock nodes that do the same work: with two of eight rejected (student, decode, oracle, encode two,
teacher on two, decode two); with none rejected (student, decode, oracle); the first again after the batch was made a
list of eight entries of one image; and the first and the third with Teacher Advanced, against SamplerCustomAdvanced
with the same guider, sampler and part of the schedule, and with Split and Merge around stock nodes in place of Teacher,
and a stock student. The two graphs of a comparison take turns in one server, each time with a seed that was not used
before, so that nothing but the loaded models is reused. Peak memory, network evaluations and how often a model was
loaded are those of one run in a server of its own. A row is written as soon as it is measured.
"""

import os
import re
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.turns import begun, in_turns, measure, options_of, shown  # noqa: E402
from tests.host import checkpoints, environment  # noqa: E402
from tests.host.graphs import THRESHOLD, Graph  # noqa: E402
from tests.host.server import Host  # noqa: E402

BATCH = 8
STUDENT_STEPS, STUDENT_CFG = 4, 1.0
TEACHER = {"steps": 12, "cfg": 7.0, "sampler_name": "dpmpp_2m", "scheduler": "normal"}
ROLLBACK = 0.7
SCHEDULE = 17  # whole steps, of which ROLLBACK leaves the teacher's
TEXT = "a photograph of a lighthouse on a cliff at dusk"
SETTINGS = {
    "batch": BATCH,
    "student": {"steps": STUDENT_STEPS, "cfg": STUDENT_CFG},
    "teacher": {**TEACHER, "rollback": ROLLBACK, "whole schedule": SCHEDULE},
}


class Comparison(NamedTuple):
    """``rejected`` of the batch are redone by ``way``, in a list of ``entry`` images each."""

    rejected: int
    entry: int
    way: str = "Teacher"

    def __str__(self):
        entries = f", in {BATCH // self.entry} entries" if self.entry < BATCH else ""
        return f"{self.rejected} of {BATCH}{entries}, {self.way}"


ADVANCED, AROUND = "Teacher Advanced", "Split and Merge"
COMPARISONS = (
    Comparison(2, BATCH),
    Comparison(0, BATCH),
    Comparison(2, 1),
    Comparison(2, BATCH, ADVANCED),
    Comparison(2, 1, ADVANCED),
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

    def custom_inputs(self):
        """Guider, sampler and whole schedule of the same teacher, and its VAE."""
        networks, vae = self.teacher_inputs()
        sigmas = {"model": networks["model"], "scheduler": TEACHER["scheduler"], "steps": SCHEDULE, "denoise": 1.0}
        made = {
            "guider": self.add("CFGGuider", cfg=TEACHER["cfg"], **networks),
            "sampler": self.add("KSamplerSelect", sampler_name=TEACHER["sampler_name"]),
            "sigmas": self.add("BasicScheduler", **sigmas),
        }
        return {name: node[0] for name, node in made.items()}, vae

    def redone_by_stock_nodes(self, images, way=AROUND):
        """Images out of the teacher's VAE, KSampler, or for Teacher Advanced SamplerCustomAdvanced, and VAE."""
        if way == ADVANCED:
            custom, vae = self.custom_inputs()
            latent = self.add("VAEEncode", pixels=images, vae=vae)
            custom["sigmas"] = self.add("SplitSigmasDenoise", sigmas=custom["sigmas"], denoise=ROLLBACK)[1]
            noise = self.add("RandomNoise", noise_seed=self.seed)
            again = self.add("SamplerCustomAdvanced", noise=noise[0], latent_image=latent[0], **custom)
        else:
            networks, vae = self.teacher_inputs()
            latent = self.add("VAEEncode", pixels=images, vae=vae)
            widgets = {**TEACHER, "seed": self.seed, "denoise": ROLLBACK}
            again = self.add("KSampler", latent_image=latent[0], **networks, **widgets)
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


def adaptive(side, seed, comparison):
    """This pack's graph with Student Sampler and Teacher, or Teacher Advanced."""
    graph = Job(side, seed, our_student, comparison.entry)
    threshold = graph.threshold(comparison.rejected)
    if comparison.way == ADVANCED:
        own, vae = graph.custom_inputs()
    else:
        networks, vae = graph.teacher_inputs()
        own = {**networks, **TEACHER, "settings": "my own"}
    teacher = graph.add(
        f"Understudy{comparison.way.replace(' ', '')}",
        images=graph.images[0],
        scores=graph.scores[0],
        threshold=threshold,
        vae=vae,
        latent=graph.latent[0],
        start_from="images",
        strategy="refine",
        rollback_mode="schedule",
        rollback=ROLLBACK,
        strength="fixed",
        rollback_worst=ROLLBACK,
        upscale_by=1.0,
        images_at_once=0,
        seed_from="latent",
        seed=seed,
        **own,
    )
    return graph.ends_in(teacher[0])


def around(side, seed, comparison):
    """Stock nodes between Split and Merge."""
    graph = Job(side, seed, stock_student, comparison.entry)
    threshold = graph.threshold(comparison.rejected)
    judged = {"images": graph.images[0], "scores": graph.scores[0], "threshold": threshold}
    bad = graph.add("UnderstudySplit", **judged)
    merged = graph.add("UnderstudyMerge", **judged, redone=graph.redone_by_stock_nodes(bad[0]))
    return graph.ends_in(merged[0])


def stock(side, seed, comparison):
    """The same work by ComfyUI's own nodes and the oracle; which images are redone does not matter for the cost."""
    rejected = comparison.rejected
    graph = Job(side, seed, stock_student, comparison.entry)
    if not rejected:
        return graph.ends_in(graph.scores[0])
    graph.add("TestAsk", anything=graph.scores[0])
    bad = graph.listed(graph.add("ImageFromBatch", image=graph.batch[0], batch_index=0, length=rejected))
    redone = graph.redone_by_stock_nodes(bad[0], comparison.way)
    kept = graph.add("ImageFromBatch", image=graph.batch[0], batch_index=rejected, length=BATCH - rejected)
    return graph.ends_in(graph.add("ImageBatch", image1=redone, image2=kept[0])[0])


SIDES = ("adaptive", "stock")


def graph_of(name, comparison, side, seed):
    build = stock if name == "stock" else around if comparison.way == AROUND else adaptive
    return build(side, seed, comparison)


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

    def run(self, host, name, comparison):
        self.seed += 1
        graph = graph_of(name, comparison, self.side, self.seed)
        return host.run(graph), graph

    def row(self, comparison, found, pairs, progress):
        """What both graphs took. found: the seconds that are known."""
        host = self.server(f"pairs {comparison}")
        turns = in_turns(
            found,
            pairs,
            lambda name: self.run(host, name, comparison)[0].seconds,
            lambda text: progress(f"{comparison}, {text}"),
        )
        host.stop()
        progress(f"{comparison}: memory, evaluations and loads")
        each = {name: self.once(name, comparison) for name in SIDES}
        counts = {key: {name: each[name][key] for name in SIDES} for key in each["stock"]}
        return {**turns._asdict(), **counts}

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


def main():
    options, console = options_of(__doc__, "host.json"), Console()
    with tempfile.TemporaryDirectory() as folder, console.status("starting") as status:
        bench = Bench(options.side, folder)
        host = f"ComfyUI {'.'.join(map(str, environment.version(bench.checkout)))}"
        report = begun(host, options, SETTINGS)
        row_of = partial(bench.row, pairs=options.pairs, progress=status.update)
        measure(COMPARISONS, report, options, SIDES, row_of)
    console.print(table(report["rows"], f"{report['host']}, batch of {BATCH} at {options.side} x {options.side}"))


def table(rows, title):
    counts = ("peak MiB", "evaluations", "loads")
    shown_as = Table(
        "rejected", "stock s", "adaptive s", "ratio (95 %)", *counts, title=title, caption="stock, adaptive"
    )
    for row in rows:
        pairs = [f"{row[key]['stock']}, {row[key]['adaptive']}" for key in ("peak_mib", "evaluations", "loads")]
        comparison = Comparison(row["rejected"], row["entry"], row["way"])
        shown_as.add_row(str(comparison), *shown(row, ("stock", "adaptive")), *pairs)
    return shown_as


if __name__ == "__main__":
    main()
