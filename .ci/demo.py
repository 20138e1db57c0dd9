"""Run ``understudy demo --out FOLDER`` as a user would and see that it kept what it promises; says time and memory.

python .ci/demo.py FOLDER
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

GIB = 2.0

out = Path(sys.argv[1])
started = time.monotonic()
subprocess.run(["understudy", "demo", "--out", str(out)], check=True)
seconds = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
report = json.loads((out / "report.json").read_text(encoding="utf-8"))
decisions = [image["decision"] for image in report["images"]]
sys.stdout.write(f"{len(decisions)} prompts in {seconds:.1f} s with loading, {peak:.2f} GiB at most\n")
if not (out / "grid.png").stat().st_size:
    sys.exit("grid.png is empty")
if set(decisions) != {"kept", "refined"}:
    sys.exit(f"the decisions were {decisions}; expected some kept and some refined")
if peak > GIB:
    sys.exit(f"the demo took {peak:.2f} GiB; expected at most {GIB:g}")
