"""Prompts in ComfyUI's API format: written node by node, or converted from a saved workflow."""

import json
from dataclasses import dataclass, field

from .checkpoints import CHECKPOINT, CLIP, TEACHER

SIDE = 64
STUDENT = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
REFINE = {
    "start_from": "images",
    "strategy": "refine",
    "settings": "my own",
    "rollback_mode": "schedule",
    "rollback": 0.5,
    "strength": "fixed",
    "rollback_worst": 0.9,
    "steps": 2,
    "cfg": 2.0,
    "sampler_name": "euler",
    "scheduler": "normal",
    "upscale_by": 1.0,
    "images_at_once": 0,
    "seed_from": "latent",
}
THRESHOLD = {"mode": "fixed", "percentile": 30.0, "value": 0.5, "fraction": 0.25, "calibration": "none"}


@dataclass
class Graph:
    """``node = graph.add("KSampler", seed=1, model=loader[0], …)``; ``node[k]`` is a link to its k-th output."""

    nodes: dict[str, dict] = field(default_factory=dict)

    def add(self, class_type, /, **inputs):
        node = Node(str(len(self.nodes) + 1))
        self.nodes[node] = {"class_type": class_type, "inputs": inputs}
        return node

    def set(self, node, **inputs):
        self.nodes[node]["inputs"].update(inputs)

    def guided(self, net, hints, positive, negative):
        """Conditioning under a ControlNet, from start to end."""
        span = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
        texts = {"positive": positive[0], "negative": negative[0]}
        return self.add("ControlNetApplyAdvanced", **texts, control_net=net[0], image=hints[0], **span)


class Node(str):
    """A node's id."""

    def __getitem__(self, output):
        return [str(self), output]


class Adaptive(Graph):
    """The adaptive graph on the SD 1.5-layout checkpoint: student, scores, threshold, teacher; tensors are saved.

    ``scores``: the images' scores, one number each, against a threshold of 0.5; None for CLIPScore by the oracle node.
    ``options``: the teacher's widgets where they are not REFINE's, and its optional ``latent``.
    """

    def __init__(self, scores, *, seed, count=None, text="a castle on a hill", **options):
        super().__init__()
        count = count or len(scores)
        self.student = self.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
        self.text = self.add("CLIPTextEncode", clip=self.student[1], text=text)
        self.empty = self.add("CLIPTextEncode", clip=self.student[1], text="")
        self.latent = self.add("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=count)
        self.sampled = self.add(
            "KSampler",
            model=self.student[0],
            positive=self.text[0],
            negative=self.empty[0],
            latent_image=self.latent[0],
            seed=seed,
            **STUDENT,
        )
        self.images = self.add("VAEDecode", samples=self.sampled[0], vae=self.student[2])
        if scores is None:
            self.oracle = self.add("UnderstudyLoadOracle", oracle_name=CLIP, family="auto")
            self.scores = self.add("UnderstudyScoreImages", oracle=self.oracle[0], images=self.images[0], prompt=text)
        else:
            self.oracle = None
            numbers = self.add("TestFloats", numbers=json.dumps(scores))
            self.scores = self.add("UnderstudyScoresFromList", scores=numbers[0], images=self.images[0])
        self.threshold = self.add("UnderstudyThreshold", **THRESHOLD)
        self.loader = self.add("CheckpointLoaderSimple", ckpt_name=TEACHER)
        self.positive = self.add("CLIPTextEncode", clip=self.loader[1], text=text)
        self.negative = self.add("CLIPTextEncode", clip=self.loader[1], text="blurry")
        self.teacher = self.add(
            "UnderstudyTeacher",
            images=self.images[0],
            scores=self.scores[0],
            threshold=self.threshold[0],
            model=self.loader[0],
            positive=self.positive[0],
            negative=self.negative[0],
            vae=self.loader[2],
            seed=seed,
            **{**REFINE, **options},
        )
        self.before = self.add("TestSaveTensors", images=self.images[0])
        self.after = self.add("TestSaveTensors", images=self.teacher[0], booleans=self.teacher[1])


def only(prompt, class_type, **inputs):
    """The id of a prompt's one node of a class, with these widgets where several are of that class."""
    (found,) = (
        key
        for key, node in prompt.items()
        if node["class_type"] == class_type and inputs.items() <= node["inputs"].items()
    )
    return found


def passes_on(info):
    """Which input the frontend hands on in place of each output of a bypassed node, as ``{output: input}``.

    ``info`` is the class's ``/object_info``. An output takes the input in its own place if that has its type, else the
    first that has it (as ``_getBypassSlotIndex`` of the frontend, 1.49.6, does); without one, its links go.
    """
    kinds = {name: kind for part in info["input"].values() for name, (kind, *_) in part.items()}
    order = [name for part in ("required", "optional") for name in info["input_order"].get(part, ())]
    found = {}
    for place, (output, kind) in enumerate(zip(info["output_name"], info["output"], strict=True)):
        candidates = [*order[place : place + 1], *order]
        match = next((name for name in candidates if kinds[name] == kind), None)
        if match is not None:
            found[output] = match
    return found


def without(nodes, node, info=None):
    """A prompt as the frontend sends it with ``node`` bypassed or, without its class's ``info``, muted."""
    passed = {} if info is None else passes_on(info)
    gone = nodes[node]["inputs"]
    substitutes = [] if info is None else [gone.get(passed.get(output)) for output in info["output_name"]]
    prompt = {}
    for key, each in nodes.items():
        if key == node:
            continue
        inputs = {}
        for name, value in each["inputs"].items():
            if isinstance(value, list) and value[0] == node:
                value = substitutes[value[1]] if substitutes else None
                if not isinstance(value, list):  # a widget's value is not handed on
                    continue
            inputs[name] = value
        prompt[key] = {**each, "inputs": inputs}
    return prompt
