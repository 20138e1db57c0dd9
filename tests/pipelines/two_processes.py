"""The command in two processes, with the environment that `accelerate launch` gives them."""

import os
import socket
import subprocess
import sys

# Imports are most of a short run; both processes get them from one parent.
TWO_PROCESSES = """
import os, sys
import accelerate.utils, diffusers, transformers, understudy.pipelines.generate
from diffusers.loaders import single_file_utils
from understudy.cli import main
pids = []
for rank in range(2):
    if not (pid := os.fork()):
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        main(sys.argv[1:])
    pids.append(pid)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids))
"""


def run_as_two(words):
    """The finished run of `understudy` with these words; its output is that of both processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment |= {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", TWO_PROCESSES, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
