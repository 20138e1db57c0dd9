"""What the pack adds to the start of a real ComfyUI, and of a plain Python.

    python bench/startup.py             # both hosts, ten starts each; writes bench/results/startup.json

For each host: processor seconds for importing the pack, its entry point and the schema of every node, in a process in
which the host's own modules are loaded already (the median of the starts, and the fastest); and what the host itself
says under "Import times for custom nodes", which has one digit. For a plain Python: ``import understudy`` in processor
seconds, and as ``python -X importtime`` has it.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.host import checkpoints, environment  # noqa: E402
from tests.host.server import FOLDER, Host  # noqa: E402

INSIDE = ROOT / "tests" / "host" / "inside_startup.py"
# Compiled modules are kept from one start to the next, as on a user's machine.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
PLAIN = "import time; t = time.process_time(); import understudy; print(time.process_time() - t)"


def in_host(python, checkout):
    done = subprocess.run([python, INSIDE, checkout, ROOT], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["seconds"]


def seconds_in_log(python, checkout):
    """Seconds for the pack, as the host's log has them."""
    with tempfile.TemporaryDirectory() as folder:
        host = Host(checkout, python, Path(folder), checkpoints.models())
        host.install()
        host.start()
        host.stop()
        return float(re.search(rf"([\d.]+) seconds: .*{re.escape(FOLDER)}", host.log_text())[1])


def importtime(folder):
    """Seconds of ``import understudy`` with all that it imports, by ``python -X importtime``."""
    command = [sys.executable, "-X", "importtime", "-c", "import understudy"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return int(re.search(r"\|\s+(\d+) \| understudy$", done.stderr, re.MULTILINE)[1]) / 1e6


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
        name = "ComfyUI " + ".".join(map(str, environment.version(checkout)))
        rows.append(summary(name, seconds) | {"host_says": seconds_in_log(python, checkout)})
    plain = summary("import understudy", [in_plain_python(ROOT.parent) for _ in range(options.starts)])
    rows.append(plain | {"importtime": importtime(ROOT.parent)})
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"starts": options.starts, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        more = "".join(f", {key} {row[key]} s" for key in ("host_says", "importtime") if key in row)
        print(f"{row['where']:20} median {row['median']:.3f} s, fastest {row['fastest']:.3f} s{more}")


if __name__ == "__main__":
    main()
