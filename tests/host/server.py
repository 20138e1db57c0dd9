"""A ComfyUI server in a process of its own, and the two ways to talk to it: HTTP and WebSocket."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from .environment import PACK

# Spaces, a hyphen and parentheses: none of them may matter to the pack.
FOLDER = "under study-nodes (test)"
TEST_NODES = Path(__file__).parent / "test_nodes"
START_SECONDS = 300
PROMPT_SECONDS = 600


@dataclass
class Run:
    """What one prompt did, by node id in the order in which the nodes ran."""

    prompt_id: str
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    outputs: dict[str, dict] = field(default_factory=dict)
    error: str | None = None
    error_type: str | None = None
    error_node: str | None = None
    interrupted: bool = False
    seconds: float = 0.0


class PromptFailed(AssertionError):
    """A prompt that was expected to succeed was refused, failed or was interrupted."""


class Host:
    """One server. ``base`` is its base directory; ``models`` is a folder of shared files, laid out like ``models/``.

    folder: the pack's name among the custom nodes.
    """

    def __init__(self, checkout, python, base, models, *, test_nodes=True, with_pack=True, folder=FOLDER):
        self.checkout, self.python, self.base, self.models = Path(checkout), Path(python), Path(base), Path(models)
        self.log = self.base / "server.log"
        self.pack = self.base / "custom_nodes" / folder
        self.process = self.port = None
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        if with_pack:
            place(PACK, self.pack)
        if test_nodes:
            place(TEST_NODES, self.base / "custom_nodes" / "understudy-test-nodes")

    def install(self):
        """Run the pack's install.py the way ComfyUI Manager does, but from elsewhere."""
        return subprocess.run(
            [str(self.python), str(self.pack / "install.py")],
            cwd=self.base,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def start(self, *arguments):
        """Start the server and wait until it answers; raises RuntimeError with the log's end if it does not."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        paths = self.base / "model_paths.yaml"
        folders = sorted(path.name for path in self.models.iterdir())
        paths.write_text("".join(["shared:\n", f"  base_path: {json.dumps(str(self.models))}\n"]
                                 + [f"  {name}: {name}\n" for name in folders]))  # fmt: skip
        command = [self.python, self.checkout / "main.py", "--cpu", "--port", self.port, "--base-directory", self.base]
        command += ["--extra-model-paths-config", paths, "--database-url", "sqlite:///:memory:"]
        command += ["--disable-auto-launch", "--disable-api-nodes", *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=self.base,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI stopped at start with code {self.process.returncode}:\n{self.log_end()}")
            try:
                self.get("/system_stats")
                return self
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise RuntimeError(f"ComfyUI did not answer within {START_SECONDS} s:\n{self.log_end()}")

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def log_text(self):
        return self.log.read_text(errors="replace")

    def log_end(self, lines=40):
        return "\n".join(self.log_text().splitlines()[-lines:])

    def get(self, path, **query):
        address = f"http://127.0.0.1:{self.port}{path}"
        if query:
            address += "?" + urllib.parse.urlencode(query)
        with urllib.request.urlopen(address, timeout=60) as answer:
            body = answer.read()
            return json.loads(body) if answer.headers.get_content_type() == "application/json" else body

    def post(self, path, data):
        address = f"http://127.0.0.1:{self.port}{path}"
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(
            urllib.request.Request(address, json.dumps(data).encode(), headers), timeout=60
        ) as a:
            body = a.read()
            return json.loads(body) if body else None

    def object_info(self):
        return self.get("/object_info")

    def history(self, prompt_id):
        return self.get(f"/history/{prompt_id}")[prompt_id]

    def interrupt(self):
        self.post("/interrupt", {})

    def image(self, entry):
        """The bytes of an image that a node reported in its ui output."""
        return self.get("/view", filename=entry["filename"], subfolder=entry["subfolder"], type=entry["type"])

    def file(self, entry):
        """The path of a file that a node reported in its ui output."""
        return self.base / entry["type"] / entry["subfolder"] / entry["filename"]

    def run(self, graph, on_event=None):
        """Queue a prompt, wait for its end and return its Run; raises PromptFailed unless it succeeded."""
        run = self.attempt(graph, on_event)
        if run.error or run.interrupted:
            raise PromptFailed(f"node {run.error_node}: {run.error or 'interrupted'}\n{self.log_end(25)}")
        return run

    def forget(self):
        """Run something unrelated, after which the server has no earlier results to hand out again."""
        latent = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
        self.run({"1": latent, "2": {"class_type": "TestAsk", "inputs": {"anything": ["1", 0]}}})

    def attempt(self, graph, on_event=None, extra_data=None):
        """Like ``run``, but a refusal, an error or an interrupt is told in the Run.

        ``on_event(kind, data)`` is called for every message of the server that concerns this prompt.
        """
        prompt = getattr(graph, "nodes", graph)
        attempt = self._attempt(prompt, on_event or (lambda kind, data: None), extra_data or {})
        try:
            return asyncio.run(asyncio.wait_for(attempt, PROMPT_SECONDS))
        except (TimeoutError, asyncio.TimeoutError) as e:  # the same since Python 3.11
            raise PromptFailed(f"the prompt did not end within {PROMPT_SECONDS} s:\n{self.log_end()}") from e

    async def _attempt(self, prompt, on_event, extra_data):
        client = uuid.uuid4().hex
        address = f"http://127.0.0.1:{self.port}"
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{address}/ws?clientId={client}", max_msg_size=0) as socket_:
                body = {"prompt": prompt, "client_id": client, "extra_data": extra_data}
                start = time.perf_counter()
                async with session.post(f"{address}/prompt", json=body) as answer:
                    reply = await answer.json()
                if answer.status != 200:
                    return _refused(reply)
                run = Run(reply["prompt_id"])
                invalid = reply.get("node_errors")
                async for message in socket_:
                    if message.type != aiohttp.WSMsgType.TEXT:
                        continue
                    event = json.loads(message.data)
                    kind, data = event["type"], event["data"]
                    if data.get("prompt_id") != run.prompt_id:
                        continue
                    await asyncio.to_thread(on_event, kind, data)
                    if _finished(run, kind, data):
                        run.seconds = time.perf_counter() - start
                        # The host runs what is valid and leaves out what is not.
                        return _invalid(run, invalid) if invalid else run
        raise PromptFailed(f"the server closed the connection during the prompt:\n{self.log_end()}")


def _finished(run, kind, data):
    if kind == "execution_cached":
        run.cached = list(data["nodes"])
    elif kind == "executing" and data["node"] is not None and data["node"] not in run.executed:
        run.executed.append(data["node"])
    elif kind == "executed":
        run.outputs[data["node"]] = data["output"]
    elif kind == "execution_error":
        run.error, run.error_node = data["exception_message"].strip(), data["node_id"]
        run.error_type = data["exception_type"]
    elif kind == "execution_interrupted":
        run.interrupted, run.error_node = True, data["node_id"]
    return kind in ("execution_success", "execution_error", "execution_interrupted")


def _refused(reply):
    """A prompt of which nothing was valid, as the server's answer to POST /prompt tells it."""
    return _invalid(Run(prompt_id="", error=reply["error"]["message"]), reply.get("node_errors", {}))


def _invalid(run, reports):
    lines = [run.error or "not valid"]
    for node, report in reports.items():
        run.error_node = node
        lines += [f"{error['message']}: {error['details']}" for error in report["errors"]]
    run.error = "\n".join(lines)
    return run


def place(source, target):
    """Link ``source`` as ``target``, or copy it where links need rights that the user lacks."""
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*", "__pycache__", "runs", "*.egg-info"))
