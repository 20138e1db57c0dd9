"""How fast the oracles are, and in how much memory, against scoring image by image.

    python bench/oracles.py              # every family at its full size; about half an hour on two cores
    python bench/oracles.py --families clipscore --sizes 1 4 --dtypes float32

For each family a random checkpoint of the published size, 512 x 512 pictures. "Loop" keeps the same network loaded and
takes one picture after the other: PIL's resize, the tokenizer, the network, as the original packages do. The two take
turns in one process, so the ratio is of one run. Memory is the process's peak above what it held before the oracle was
loaded, beside the size of one copy of the weights. The error of bfloat16 is against float32's scores, as a share of
their range. Writes bench/results/oracles.json.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torchvision.transforms import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from understudy.oracles import load_oracle  # noqa: E402

from tests.oracles import full_size  # noqa: E402

SIDE = 512
PROMPT = "a photograph of a lighthouse on a cliff at dusk, long exposure"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pictures(count):
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 16, 16, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return smooth.mul(255).round().div(255)


def one_by_one(oracle, images):
    """The original packages' way: each picture through PIL, alone through the network, its text read again."""
    from PIL import Image

    size = oracle.prepare(images[:1]).shape[-1]
    scores = []
    with torch.no_grad():
        for image in images:
            picture = functional.to_pil_image(image).resize((size, size), Image.BICUBIC)
            pixels = functional.normalize(functional.to_tensor(picture), (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))[None]
            scores.append(oracle.score_prepared(pixels, [PROMPT]).float())
    return torch.cat(scores)


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure(family, path, encoder, dtype, sizes, repeats):
    """Run in a process of its own: rows for one family and dtype."""
    import transformers  # noqa: F401 so that the libraries do not count as the oracle's memory

    before = peak_mib()
    oracle = load_oracle(path, family, dtype=DTYPES[dtype], encoder=encoder)
    weights = sum(value.numel() * value.element_size() for value in oracle.network.state_dict().values()) // 2**20
    images = pictures(max(sizes))
    rows, scores = [], None
    for size in sizes:
        batch, prompts = images[:size], [PROMPT] * size
        times = {"batch": [], "loop": []}
        oracle(batch[:1], prompts[:1])
        for _ in range(repeats):
            started = time.perf_counter()
            scores = oracle(batch, prompts)
            times["batch"].append(time.perf_counter() - started)
            batch_peak = peak_mib()
            started = time.perf_counter()
            one_by_one(oracle, batch)
            times["loop"].append(time.perf_counter() - started)
        rows.append(
            {
                "family": family,
                "dtype": dtype,
                "batch": size,
                "images_per_second": round(size / statistics.median(times["batch"]), 3),
                "loop_images_per_second": round(size / statistics.median(times["loop"]), 3),
                "ratio": round(statistics.median(a / b for a, b in zip(times["loop"], times["batch"], strict=True)), 3),
                "peak_above_process_mib": batch_peak - before,
                "weights_mib": weights,
            }
        )
    return {"rows": rows, "scores": scores.tolist()}


def in_a_process(*arguments):
    command = [
        sys.executable,
        __file__,
        "--measure",
        json.dumps([str(a) if isinstance(a, Path) else a for a in arguments]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=full_size.FAMILIES, choices=full_size.FAMILIES)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "oracles.json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
        return
    rows = []
    for family in options.families:
        with tempfile.TemporaryDirectory() as folder:
            path, encoder = full_size.write(family, Path(folder))
            results = {
                d: in_a_process(family, path, encoder, d, options.sizes, options.repeats) for d in options.dtypes
            }
        for dtype, result in results.items():
            error = None
            if dtype != "float32" and "float32" in results:
                exact, ours = (torch.tensor(r["scores"]) for r in (results["float32"], result))
                error = round(((ours - exact).abs().max() / (exact.max() - exact.min())).item(), 4)
            rows += [row | {"error_share_of_range": error} for row in result["rows"]]
        for row in rows[-len(options.dtypes) * len(options.sizes) :]:
            print(json.dumps(row), flush=True)
    machine = {"system": platform.platform(), "cores": os.cpu_count(), "torch": torch.__version__}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
