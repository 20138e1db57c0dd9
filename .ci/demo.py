"""Run ``understudy demo --out FOLDER`` as a user would and see that it kept what it promises, and that README's picture
of it is up to date; says time and memory.

python .ci/demo.py FOLDER
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from from_afar import difference  # noqa: E402 - found in the clone, wherever this runs

GIB = 2.0
README_PICTURE = ROOT / "docs" / "demo.png"
GREYS = 1.0  # a machine's own rounding does not show; another picture does


def from_below(one: Image.Image, other: Image.Image) -> float:
    """How far two pictures are apart from the bottom up: a headline tells seconds, and may take another line."""
    height = min(one.height, other.height)
    return difference(*(each.crop((0, each.height - height, *each.size)) for each in (one, other)))


out = Path(sys.argv[1])
started = time.monotonic()
subprocess.run(["understudy", "demo", "--out", str(out)], check=True)
seconds = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
report = json.loads((out / "report.json").read_text(encoding="utf-8"))
decisions = [image["decision"] for image in report["images"]]
sys.stdout.write(f"{len(decisions)} prompts in {seconds:.1f} s with loading, {peak:.2f} GiB at most\n")
greys = from_below(Image.open(out / "grid.png"), Image.open(README_PICTURE))
if greys > GREYS:
    sys.exit(f"grid.png is {greys:.1f} grey levels from docs/demo.png, expected at most {GREYS:g}: copy it there")
if set(decisions) != {"kept", "refined"}:
    sys.exit(f"the decisions were {decisions}; expected some kept and some refined")
if peak > GIB:
    sys.exit(f"the demo took {peak:.2f} GiB; expected at most {GIB:g}")
