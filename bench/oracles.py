"""How fast the oracles are, and in how much memory, against scoring image by image.

    python bench/oracles.py              # every family at its full size; an hour on two cores
    python bench/oracles.py --families clipscore --sizes 1 4 --dtypes float32
    python bench/oracles.py --resize     # pictures of odd shapes resized beside Pillow, nothing else; a minute

For each family a random checkpoint of the published size, 512 x 512 pictures. "Loop" keeps the same network loaded and
takes one picture after the other: PIL's resize, the tokenizer, the network, as the original packages do. The two take
turns in one process, so the ratio is of one run. Memory is the process's peak, loading included, above what it held
before with the libraries, the tokenizers and the pictures, beside the size of one copy of the weights; the loop's is
that of a process which does nothing else. Each picture has a prompt of its own, as in a queue of different pictures, so
that both ways read as many texts. The error of bfloat16 is the largest difference from float32's scores, in the score's
unit, and as a share of their range. Writes bench/results/oracles.json after each family and dtype; those that are there
already, of this code of the oracles and these sizes, are not measured again without --again. The resize's rows are in
the same file: what it takes, beyond the picture itself, to make CLIP's middle of 224 x 224 or SigLIP's square of
384 x 384 of it, each in a process of its own.
"""

import argparse
import contextlib
import gc
import hashlib
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
import transformers
from torchvision.transforms import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from understudy.files import write_whole  # noqa: E402
from understudy.oracles import load_oracle  # noqa: E402

from tests.oracles import full_size  # noqa: E402

PLACES = ("lighthouse", "harbour", "mill", "castle", "bridge", "farm", "chapel", "station")
TIMES = ("at dusk", "in the rain")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def prompts_for(count):
    """``count`` different prompts."""
    every = [f"a photograph of a {place} on a cliff {time}, long exposure" for time in TIMES for place in PLACES]
    return [f"{text}, number {index}" for index, text in zip(range(count), itertools.cycle(every), strict=False)]


def one_by_one(oracle, pictures, size, prompts):
    """The original packages' way: each picture (PIL) resized by PIL, alone through the network with its text.

    Texts are filled up to the longest that the network reads.
    """
    from PIL import Image

    dtype = next(oracle.network.parameters()).dtype
    for picture, prompt in zip(pictures, prompts, strict=True):
        pixels = functional.to_tensor(picture.resize((size, size), Image.BICUBIC))
        pixels = functional.normalize(pixels, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))[None].to(dtype)
        with torch.no_grad():
            if not oracle.reads_prompts:
                oracle.score_prepared(pixels, [prompt])
                continue
            length = oracle.token_limit()
            text = oracle.tokenizer([prompt], padding="max_length", max_length=length, truncation=True)
            ids, mask = (torch.tensor(text[key]) for key in ("input_ids", "attention_mask"))
            if oracle.family == "imagereward":
                seen = oracle.network.vision(pixel_values=pixels).last_hidden_state
                oracle.network.text(input_ids=ids, attention_mask=mask, encoder_hidden_states=seen)
            else:
                oracle.network(pixel_values=pixels, input_ids=ids)


def mib(field) -> int:
    """Linux's own count, of VmRSS or its peak VmHWM: that of the resource module begins with what the parent had."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024


def memory_of_imports() -> int:
    """What this process holds in MiB, all that the oracles import included; VmHWM begins anew from here."""
    from transformers import CLIPModel, CLIPVisionModelWithProjection, SiglipVisionModel  # noqa: F401
    from transformers.models.blip import modeling_blip, modeling_blip_text  # noqa: F401
    from understudy.oracles.clip_tokenizer import clip_tokenizer
    from understudy.oracles.families.imagereward import bert_tokenizer

    clip_tokenizer(), bert_tokenizer()
    return resident_mib()


def resident_mib() -> int:
    """What this process holds in MiB; VmHWM begins anew from here."""
    gc.collect()
    with contextlib.suppress(OSError):  # a container may forbid it; importing has no high peak
        Path("/proc/self/clear_refs").write_text("5")
    return mib("VmRSS")


def measure_loop(family, path, encoder, dtype):
    """Run in a process of its own: the loop's peak above the process, MiB; it holds one picture, however many come."""
    opened = [functional.to_pil_image(image) for image in full_size.pictures(2)]
    before = memory_of_imports()
    oracle = load_oracle(path, family, dtype=DTYPES[dtype], encoder=encoder)
    one_by_one(oracle, opened, oracle.prepare(torch.zeros(1, 3, 8, 8)).shape[-1], prompts_for(2))
    return mib("VmHWM") - before


def measure(family, path, encoder, dtype, sizes, repeats):
    """Run in a process of its own: rows for one family and dtype."""
    images = full_size.pictures(max(sizes))
    opened = [functional.to_pil_image(image) for image in images]
    before = memory_of_imports()
    oracle = load_oracle(path, family, dtype=DTYPES[dtype], encoder=encoder)
    weights = sum(value.numel() * value.element_size() for value in oracle.network.state_dict().values()) // 2**20
    side = oracle.prepare(images[:1]).shape[-1]
    rows, scores, peak = [], None, 0
    for size in sizes:
        batch, prompts = images[:size], prompts_for(size)
        times = {"batch": [], "loop": []}
        oracle(batch[:1], prompts[:1])
        for repeat in range(repeats):
            started = time.perf_counter()
            scores = oracle(batch, prompts)
            times["batch"].append(time.perf_counter() - started)
            if repeat == 0:  # before the loop: sizes rise, and what a single picture took before is less
                peak = mib("VmHWM") - before
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
                "peak_above_process_mib": peak,
                "weights_mib": weights,
            }
        )
    return {"rows": [row | {"unit": oracle.unit} for row in rows], "scores": scores.tolist()}


def measure_resize(who, what, width, height, repeats):
    """Run in a process of its own: seconds (the median), and MiB above the process that holds the picture."""
    import numpy
    from PIL import Image
    from understudy.oracles.preprocess import openai_clip, resized

    levels = numpy.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=numpy.uint8)
    if who == "pillow":
        picture = Image.fromarray(levels)
        short = min(width, height)

        def middle(picture):
            picture = picture.resize((MIDDLE * picture.width // short, MIDDLE * picture.height // short), Image.BICUBIC)
            return functional.center_crop(picture, MIDDLE)

        make = {"middle": middle, "square": lambda picture: picture.resize((SQUARE, SQUARE), Image.BICUBIC)}[what]
        make(picture.crop((0, 0, 8, 8)))  # so that nothing is loaded while it is measured
    else:
        picture = functional.to_tensor(levels)[None]
        make = {
            "middle": lambda picture: openai_clip(picture, MIDDLE),
            "square": lambda picture: resized(picture, SQUARE, SQUARE),
        }[what]
        make(picture[..., :8, :8])
    del levels
    before, seconds = resident_mib(), []
    for _ in range(repeats):
        started = time.perf_counter()
        make(picture)
        seconds.append(time.perf_counter() - started)
    return {"seconds": round(statistics.median(seconds), 4), "peak_mib": mib("VmHWM") - before}


WORK = {"batch": measure, "loop": measure_loop, "resize": measure_resize}
MIDDLE, SQUARE = 224, 384
SHAPES = ((20000, 8), (8, 20000), (1080, 20000), (4000, 64))  # width and height


def measure_resizes(repeats):
    """A row for each of ``SHAPES`` and each way, this pack's figures beside those of the Pillow that is installed."""
    import PIL

    for (width, height), what in itertools.product(SHAPES, ("middle", "square")):
        ours, pillow = (in_a_process("resize", who, what, width, height, repeats) for who in ("ours", "pillow"))
        row = {"width": width, "height": height, "makes": what, **ours}
        yield row | {f"pillow_{key}": value for key, value in pillow.items()} | {"pillow": PIL.__version__}


def in_a_process(work, *arguments):
    """What ``WORK[work]`` returns in a process of its own."""
    given = json.dumps([str(a) if isinstance(a, Path) else a for a in arguments])
    command = [sys.executable, __file__, "--measure", work, given]
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
    parser.add_argument("--resize", action="store_true", help="measure the resize of odd shapes, and nothing else")
    parser.add_argument("--again", action="store_true", help="measure what the file holds already as well")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sizes.sort()
    if options.measure:
        work, arguments = options.measure
        print(json.dumps(WORK[work](*json.loads(arguments))))
        return
    if options.resize:
        rows = []
        for row in measure_resizes(options.repeats):
            rows.append(row)
            print(json.dumps(row), flush=True)
        write(options.out, resize={"machine": machine(), "rows": rows})
        return
    results = earlier_results(options.out, options.again)
    for family in options.families:
        there = [] if options.again else [d for d in DTYPES if is_current(results.get((family, d)), options.sizes)]
        missing = [dtype for dtype in options.dtypes if dtype not in there]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path, encoder = full_size.write(family, Path(folder))
            for dtype in missing:
                loop_peak = in_a_process("loop", family, path, encoder, dtype)
                result = in_a_process("batch", family, path, encoder, dtype, options.sizes, options.repeats)
                about = {"loop_peak_above_process_mib": loop_peak, "oracles_sha256": oracles_sha256()}
                result["rows"] = [row | about for row in result["rows"]]
                results[family, dtype] = result
                write(options.out, machine=machine(), rows=rows_with_errors(results))
                for row in result["rows"]:
                    print(json.dumps(row), flush=True)


def stored_results(path):
    """What the file of results holds."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write(path, **parts):
    """Put ``parts`` into the file of results; what else it holds stays."""
    write_whole(path, json.dumps(stored_results(path) | parts, indent=1) + "\n")


def machine():
    """What the figures depend on beside the oracles' code; rows of another one are not taken for this one's."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def oracles_sha256():
    """The code that a row was measured with."""
    code = hashlib.sha256()
    for path in (*sorted((ROOT / "files").glob("*.py")), *sorted((ROOT / "oracles").rglob("*.py"))):
        code.update(path.read_bytes())
    return code.hexdigest()


def is_current(result, sizes):
    """Whether a family and dtype were measured with this code, at these sizes."""
    rows = result["rows"] if result else []
    return [row["batch"] for row in rows] == sizes and all(row["oracles_sha256"] == oracles_sha256() for row in rows)


def earlier_results(path, again):
    """What the file holds, as :func:`measure` gives it, by family and dtype."""
    content = stored_results(path)
    if "rows" not in content:
        return {}
    if others := [key for key, value in machine().items() if content["machine"].get(key) != value]:
        if again:
            return {}
        sys.exit(f"{path} was measured with another {', '.join(others)}; start it anew with --again, or name an --out")
    results = {}
    for row in content["rows"]:
        result = results.setdefault((row["family"], row["dtype"]), {"rows": []})
        for key in ("error", "range", "error_share_of_range"):
            del row[key]
        result["scores"] = row.pop("scores")  # the last row has them
        result["rows"].append(row)
    return results


def rows_with_errors(results):
    """Every row, with the error of its scores; the scores themselves, of the largest batch, in the last of each."""
    rows = []
    for (family, dtype), result in results.items():
        errors = {"error": None, "range": None, "error_share_of_range": None}
        exact = results.get((family, "float32"))
        if dtype != "float32" and exact is not None and len(exact["scores"]) == len(result["scores"]) > 1:
            right, ours = (torch.tensor(each["scores"]) for each in (exact, result))
            error, spread = (ours - right).abs().max().item(), (right.max() - right.min()).item()
            shown = (error, spread, error / spread)
            errors = {key: float(f"{value:.3g}") for key, value in zip(errors, shown, strict=True)}
        last = result["rows"][-1]
        rows += [row | errors | {"scores": result["scores"] if row is last else None} for row in result["rows"]]
    return rows


if __name__ == "__main__":
    main()
