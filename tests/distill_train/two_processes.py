"""A program of Python's in two processes at once, told what a launcher tells them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

PACK = Path(__file__).parents[2]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def run_in_two_processes(*arguments):
    """Python with these arguments, from the pack's folder; both have to end well."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "ACCELERATE_USE_CPU": "true"}
    pair = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=PACK,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate()[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], "\n\n".join(text[-1500:] for text in said)
