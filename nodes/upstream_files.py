"""Which files of weights a MODEL was made from, as the graph says."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from .upstream import is_link

DEMO = "UnderstudyLoadDemo"
LORAS = "loras"
# What no model comes from. Others, of packs' own types too, are followed.
_NO_MODEL = frozenset(
    "CLIP VAE CONDITIONING LATENT IMAGE MASK CLIP_VISION CLIP_VISION_OUTPUT CONTROL_NET STYLE_MODEL INT FLOAT STRING "
    "BOOLEAN COMBO SIGMAS SAMPLER NOISE AUDIO UPSCALE_MODEL".split()
)
# The host's switches hand on the one that a boolean says.
_SWITCHES = ("ComfySwitchNode", "ComfySoftSwitchNode")
_OTHER_PART = re.compile("vae|clip|text_encoder|control")
_FILE_NAME = re.compile("(ckpt|checkpoint|unet|model|lora)_name")
_TOGGLE = re.compile("(^|_)(on|active|enabled?|toggle|switch)(_|$)")
_STRENGTH = re.compile("strength|weight|_wt")


class ModelFile(NamedTuple):
    """name: the file's, as the widget has it. node: class and number of the node that loads it. path: None for what the
    pack has itself. lora: whether it lies among the LoRAs. part: of Load demo pair."""

    name: str
    node: str
    path: str | None
    lora: bool = False
    part: str | None = None

    def __str__(self) -> str:
        return f"{self.name} of {self.node}"


class Upstream(NamedTuple):
    """files: the nearest first. undecided: nodes of which only a run tells what they load or hand on."""

    files: list[ModelFile]
    undecided: list[str]


def model_files(
    prompt: Mapping[str, Mapping],
    node_id: str,
    socket: str,
    find: Callable[[str, bool], tuple[str, str] | None],
    options_of: Callable[[str, Mapping], Mapping[str, Mapping]] = lambda class_type, inputs: {},
) -> Upstream:
    """The files in the widgets of all nodes that the MODEL at an input passed through, less LoRAs without strength.

    prompt, options_of: as of :func:`upstream.settings_upstream`. find: a file's name, and whether it is a LoRA's, to
    its models folder and path; None for what is no file there. Bypassed nodes are in no prompt.
    """
    files, undecided, seen = [], [], set()
    links = deque([prompt[str(node_id)]["inputs"].get(socket)])
    while links:
        link = links.popleft()
        if not is_link(link, prompt) or link[0] in seen:
            continue
        seen.add(link[0])
        class_type, inputs = prompt[link[0]]["class_type"], prompt[link[0]]["inputs"]
        node = f"{class_type} (node {link[0]})"
        if class_type == DEMO:
            files.append(ModelFile(f"the {inputs.get('part')}", node, None, part=inputs.get("part")))
            continue
        if class_type in _SWITCHES:
            inputs = _chosen(inputs, prompt)
            if inputs is None:
                undecided.append(f"what {node} hands on")
                continue
        files += [ModelFile(name, node, *found) for name, *found in _files(inputs, prompt, find)]
        undecided += [
            f"{name} of {node}"
            for name, value in inputs.items()
            if _FILE_NAME.search(name) and is_link(value, prompt) and _value(value, prompt) is None
        ]
        options = options_of(class_type, inputs)
        links.extend(value for name, value in inputs.items() if options.get(name, {}).get("type") not in _NO_MODEL)
    return Upstream(files, undecided)


def _chosen(inputs: Mapping, prompt: Mapping) -> dict | None:
    """What a switch hands on, None where that is not known. With one input alone it has no choice."""
    branches = {name: inputs[name] for name in ("on_true", "on_false") if name in inputs}
    if len(branches) < 2:
        return branches
    switch = _value(inputs.get("switch"), prompt)
    return None if switch is None else {"chosen": branches["on_true" if switch else "on_false"]}


def _value(value: Any, prompt: Mapping) -> Any:
    """A widget's value, its own or a Primitive node's; None where another node makes it."""
    while is_link(value, prompt):
        node = prompt[value[0]]
        value = node["inputs"].get("value") if node["class_type"].startswith("Primitive") else None
    return value


def _files(inputs: Mapping, prompt: Mapping, find: Callable) -> Iterator[tuple[str, str, bool]]:
    """Name, path and whether it is a LoRA of each file that counts; a stack's entries may be mappings of their own."""
    for key, value in inputs.items():
        if isinstance(value, Mapping):
            yield from _files({f"lora_{name}": each for name, each in value.items()}, prompt, find)
            continue
        value = _value(value, prompt)
        if not isinstance(value, str) or _OTHER_PART.search(key.lower()):
            continue
        found = find(value, "lora" in key.lower())
        if found is not None and _counts(key, found[0] == LORAS, inputs, prompt):
            yield value, found[1], found[0] == LORAS


def _counts(key: str, lora: bool, inputs: Mapping, prompt: Mapping) -> bool:
    """Whether no toggle switches a file off and, of a LoRA, not all of its strengths for the model are 0. In a stack
    the number in a widget's name says whose it is; a toggle without one is everybody's."""
    strengths = []
    for name, value in inputs.items():
        own, value = _number(name) == _number(key), _value(value, prompt)
        if (own or not _number(name)) and _TOGGLE.search(name.lower()) and value in (False, "Off", "off"):
            return False
        if own and lora and _STRENGTH.search(name.lower()) and "clip" not in name.lower():
            strengths += [value] if isinstance(value, (int, float)) else []
    return not strengths or any(strengths)


def _number(name: str) -> str:
    return "".join(re.findall(r"\d+", name)[-1:]).lstrip("0")
