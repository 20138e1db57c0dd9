"""A web UI's server in a process of its own, with a data folder of its own, spoken to over its API."""

import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from ..host.environment import PACK
from ..host.server import place
from .environment import A1111_ARGUMENTS

START_SECONDS = 300
REQUEST_SECONDS = 300
TOKENIZER = "models--openai--clip-vit-large-patch14"
CLIP_CONFIG = {
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}
ARGUMENTS = (
    *("--skip-torch-cuda-test", "--disable-console-progressbars"),
    *("--api", "--server-name", "127.0.0.1"),
)


class Refused(AssertionError):
    """The API answered with an error."""


class WebUI:
    """One server.

    base: its data folder: models, extensions, settings and pictures. text_layers: how many of a checkpoint's text
    encoder it runs, where it takes the number from the hub's file, as A1111 does; fewer are sooner done. lacks: whether
    a test may ask for what this host does not have.
    """

    def __init__(
        self,
        checkout: Path,
        python: Path,
        base: Path,
        with_pack: bool = True,
        arguments: Sequence[str] = A1111_ARGUMENTS,
        text_layers: int = 12,
        lacks: bool = False,
    ):
        self.checkout, self.python, self.base, self.arguments = checkout, python, base, arguments
        self.lacks = lacks
        self.log, self.process, self.port = base / "server.log", None, None
        for name in ("extensions", "models/Stable-diffusion", "models/oracles", "models/Lora"):
            (base / name).mkdir(parents=True, exist_ok=True)
        self.pack = base / "extensions" / "understudy-nodes"
        if with_pack:
            place(PACK, self.pack)
        self._tokenizer(text_layers)

    def _tokenizer(self, layers: int):
        """The text encoder's two files, which the host would take from the hub."""
        folder, snapshot = self.base / "hf" / "hub" / TOKENIZER, "0" * 40
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(snapshot)
        folder = folder / "snapshots" / snapshot
        folder.mkdir(parents=True)
        for name in ("vocab.json", "merges.txt"):
            shutil.copyfile(PACK / "oracles" / "clip_bpe" / name, folder / name)
        (folder / "config.json").write_text(json.dumps({**CLIP_CONFIG, "num_hidden_layers": layers}))
        ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
        ends["pad_token"] = "<|endoftext|>"
        (folder / "special_tokens_map.json").write_text(json.dumps(ends))
        told = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True, **ends}
        (folder / "tokenizer_config.json").write_text(json.dumps(told))

    def start(self, *arguments: str):
        """Start the server and wait until it lists its checkpoints; raises RuntimeError with the log's end if not."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [self.python, self.checkout / "launch.py", "--data-dir", self.base, "--port", self.port, *ARGUMENTS]
        offline = {"PIP_NO_INDEX": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        offline["HF_ENDPOINT"] = "http://127.0.0.1:9"  # where nobody answers
        said = len(self.log_text()) if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in (*command, *self.arguments, *arguments)],
                cwd=self.checkout,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **offline, "HF_HOME": str(self.base / "hf"), "PYTHONUNBUFFERED": "1"},
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"the web UI stopped at start with code {self.process.returncode}:\n{self.log_end()}"
                )
            try:
                # With its page, a request before the last of its routes is made would stop it.
                if "Startup time:" in self.log_text()[said:] and self.get("/sdapi/v1/sd-models"):
                    return self
            except (OSError, Refused):
                pass
            time.sleep(0.3)
        self.stop()
        raise RuntimeError(f"the web UI did not answer within {START_SECONDS} s:\n{self.log_end()}")

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def log_end(self, lines: int = 40) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def get(self, path: str):
        return self._ask(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def post(self, path: str, body: dict):
        data = json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}
        )
        return self._ask(request)

    def press(self, button: str, *inputs) -> dict[str, object]:
        """What a button of the page, named by its elem_id, makes of these inputs: values by elem_id.

        None stands for a widget that it leaves as it is.
        """
        config = self.get("/config")
        names = {component["id"]: component["props"].get("elem_id") for component in config["components"]}
        events = [[names.get(first(target)) for target in event["targets"]] for event in config["dependencies"]]
        (index,) = (at for at, pressed in enumerate(events) if button in pressed)
        answer = self.post("/run/predict", {"fn_index": index, "data": list(inputs), "session_hash": "tests"})
        values = [given.get("value") if isinstance(given, dict) else given for given in answer["data"]]
        return dict(zip(map(names.get, config["dependencies"][index]["outputs"]), values, strict=True))

    def _ask(self, request):
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise Refused(f"{error.code}: {error.read().decode(errors='replace')[:2000]}") from error

    def needs(self, there: bool, what: str):
        """Skips the test in a host that lacks something; A1111 lacks nothing."""
        if not there:
            assert self.lacks, what
            pytest.skip(f"this host has no {what}")

    def able(self, what: str, **job) -> "Made":
        """What a request without us makes; where the host itself refuses that, the test is skipped."""
        try:
            return self.make(**job)
        except Refused as error:
            self.needs(False, f"{what}: {str(error)[:200]}")

    def make(self, *args, tab: str = "txt2img", **changes) -> "Made":
        """Four small pictures; args: the panel's values, none for a request without us."""
        body = {
            "prompt": "a red star above a blue circle",
            "seed": 1,
            "steps": 2,
            "cfg_scale": 1.5,
            "width": 64,
            "height": 64,
            "batch_size": 4,
            "sampler_name": "Euler",
            "scheduler": "Automatic",
            **changes,
        }
        if args:
            body["alwayson_scripts"] = {**body.get("alwayson_scripts", {}), "understudy": {"args": list(args)}}
        return Made(self.post(f"/sdapi/v1/{tab}", body))


def first(target):
    """The widget of a button's event: by its number, or by a list of that and the event's name."""
    return target[0] if isinstance(target, list) else target


class Made:
    """An answer of txt2img: pictures without the grid, and what each text says of us."""

    def __init__(self, answer: dict):
        self.info = json.loads(answer["info"])
        first = self.info["index_of_first_image"]
        shown = [Image.open(io.BytesIO(base64.b64decode(data))) for data in answer["images"]]
        self.grid, self.images = shown[0] if first and shown else None, shown[first:]
        self.texts = self.info["infotexts"][first:]
        self.comments = self.info.get("comments", "")

    @property
    def pixels(self) -> list[bytes]:
        return [image.convert("RGB").tobytes() for image in self.images]

    def said(self, key: str) -> list[str | None]:
        """The value of "Understudy <key>" in each picture's text."""
        return [value_of(text, f"Understudy {key}") for text in self.texts]


def encoded(image: Image.Image) -> str:
    """As the API takes a picture."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def value_of(text: str, key: str) -> str | None:
    """The value of a key in a picture's generation parameters."""
    found = re.search(rf'(?:^|, |\n){re.escape(key)}: ("(?:\\.|[^"\\])*"|[^,\n]*)', text)
    if not found:
        return None
    return json.loads(found[1]) if found[1].startswith('"') else found[1]
