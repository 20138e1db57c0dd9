"""How fast the oracles are, and in how much memory, against scoring image by image.

    python bench/oracles.py              # every family at its full size; about half an hour on two cores
    python bench/oracles.py --families clipscore --sizes 1 4 --dtypes float32

For each family a random checkpoint of the published size, 512 x 512 pictures. "Loop" keeps the same network loaded and
takes one picture after the other: PIL's resize, the tokenizer, the network, as the original packages do. The two take
turns in one process, so the ratio is of one run. Memory is the process's peak above what it held before the oracle was
loaded, beside the size of one copy of the weights. Each picture has a prompt of its own, as in a queue of different
pictures, so that both ways read as many texts. The error of bfloat16 is against float32's scores, as a share of their
range. Writes bench/results/oracles.json after each family and dtype; those that are there already, of this machine and
these sizes, are not measured again without --again.
"""

import argparse
import itertools
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
from torchvision.transforms import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from understudy.files import write_whole  # noqa: E402
from understudy.oracles import load_oracle  # noqa: E402

from tests.oracles import full_size  # noqa: E402

SIDE = 512
PLACES = ("lighthouse", "harbour", "mill", "castle", "bridge", "farm", "chapel", "station")
TIMES = ("at dusk", "in the rain")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pictures(count):
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 16, 16, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return smooth.mul(255).round().div(255)


def prompts_for(count):
    """``count`` different prompts."""
    every = [f"a photograph of a {place} on a cliff {time}, long exposure" for time in TIMES for place in PLACES]
    return [f"{text}, number {index}" for index, text in zip(range(count), itertools.cycle(every), strict=False)]


def one_by_one(oracle, pictures, size, prompts):
    """The original packages' way: each picture (PIL) resized by PIL, alone through the network with its text."""
    from PIL import Image

    scores = []
    with torch.no_grad():
        for picture, prompt in zip(pictures, prompts, strict=True):
            pixels = functional.to_tensor(picture.resize((size, size), Image.BICUBIC))
            pixels = functional.normalize(pixels, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))[None]
            scores.append(oracle.score_prepared(pixels, [prompt]).float())
    return torch.cat(scores)


def peak_mib() -> int:
    """Linux's own count: that of the resource module begins with what the parent had."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024


def measure(family, path, encoder, dtype, sizes, repeats):
    """Run in a process of its own: rows for one family and dtype."""
    import transformers  # noqa: F401 so that the libraries do not count as the oracle's memory

    before = peak_mib()
    oracle = load_oracle(path, family, dtype=DTYPES[dtype], encoder=encoder)
    weights = sum(value.numel() * value.element_size() for value in oracle.network.state_dict().values()) // 2**20
    images = pictures(max(sizes))
    opened = [functional.to_pil_image(image) for image in images]
    side = oracle.prepare(images[:1]).shape[-1]
    rows, scores = [], None
    for size in sizes:
        batch, prompts = images[:size], prompts_for(size)
        times = {"batch": [], "loop": []}
        oracle(batch[:1], prompts[:1])
        for _ in range(repeats):
            started = time.perf_counter()
            scores = oracle(batch, prompts)
            times["batch"].append(time.perf_counter() - started)
            batch_peak = peak_mib()
            started = time.perf_counter()
            one_by_one(oracle, opened[:size], side, prompts)
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
    parser.add_argument("--again", action="store_true", help="measure what the file holds already as well")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sizes.sort()
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
        return
    results = measured_before(options.out)
    for family in options.families:
        there = [] if options.again else [d for d in DTYPES if sizes_of(results.get((family, d))) == options.sizes]
        missing = [dtype for dtype in options.dtypes if dtype not in there]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path, encoder = full_size.write(family, Path(folder))
            for dtype in missing:
                result = in_a_process(family, path, encoder, dtype, options.sizes, options.repeats)
                results[family, dtype] = result
                write_whole(options.out, json.dumps({"machine": machine(), "rows": told(results)}, indent=1) + "\n")
                for row in result["rows"]:
                    print(json.dumps(row), flush=True)


def machine():
    return {"system": platform.platform(), "cores": os.cpu_count(), "torch": torch.__version__}


def sizes_of(result):
    return [row["batch"] for row in result["rows"]] if result else None


def measured_before(path):
    """What the file holds, as :func:`measure` gives it, by family and dtype."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["machine"] != machine():
        sys.exit(f"{path} is of another machine or torch; remove it, or name another file with --out")
    results = {}
    for row in content["rows"]:
        result = results.setdefault((row["family"], row["dtype"]), {"rows": []})
        del row["error_share_of_range"]
        result["scores"] = row.pop("scores")  # the last row has them
        result["rows"].append(row)
    return results


def told(results):
    """Every row, with the error of its scores; the scores themselves, of the largest batch, in the last of each."""
    rows = []
    for (family, dtype), result in results.items():
        error, exact = None, results.get((family, "float32"))
        if dtype != "float32" and exact is not None and len(exact["scores"]) == len(result["scores"]) > 1:
            right, ours = (torch.tensor(each["scores"]) for each in (exact, result))
            error = round(((ours - right).abs().max() / (right.max() - right.min())).item(), 4)
        last = result["rows"][-1]
        rows += [
            row | {"error_share_of_range": error, "scores": result["scores"] if row is last else None}
            for row in result["rows"]
        ]
    return rows


if __name__ == "__main__":
    main()
