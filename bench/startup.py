"""What the pack adds to the start of a real ComfyUI, and of a plain Python.

    python bench/startup.py             # both hosts, ten starts each; writes bench/results/startup.json

Processor seconds for importing the pack, its entry point and the schema of every node, in a process in which the host's
own modules are loaded already. The median of the starts, and the fastest.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.host import environment  # noqa: E402

INSIDE = ROOT / "tests" / "host" / "inside_startup.py"
PLAIN = "import time; t = time.process_time(); import understudy; print(time.process_time() - t)"


def in_host(python, checkout):
    done = subprocess.run([python, INSIDE, checkout, ROOT], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["seconds"]


def in_plain_python(folder):
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=True, cwd=folder)
    return float(done.stdout)


def summary(name, seconds):
    return {"where": name, "median": round(statistics.median(seconds), 4), "fastest": round(min(seconds), 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "startup.json")
    options = parser.parse_args()
    checkouts = [environment.checkout(revision) for revision in environment.revisions()]
    python = environment.python(checkouts)
    rows = []
    for checkout in checkouts:
        in_host(python, checkout)  # compiles the pack's modules, as a user's first start does
        seconds = [in_host(python, checkout) for _ in range(options.starts)]
        rows.append(summary("ComfyUI " + ".".join(map(str, environment.version(checkout))), seconds))
    rows.append(summary("import understudy", [in_plain_python(ROOT.parent) for _ in range(options.starts)]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"starts": options.starts, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['where']:20} median {row['median']:.3f} s, fastest {row['fastest']:.3f} s")


if __name__ == "__main__":
    main()
