"""Which settings made the images: node classes and widgets upstream of a socket, less what changes every run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..oracles.settings import BATCH_SIZE

_TEXTS = ("text", "texts", "prompt", "prompts")
_PREFIXES = ("filename_prefix", "file_prefix")
# Widgets that came later: at this value a graph is the same as without them.
_ABSENT = [("settings_from", "none")]


def settings_upstream(
    prompt: Mapping[str, Mapping],
    node_id: str,
    inputs: Iterable[str],
    options_of: Callable[[str], Mapping[str, Mapping]] = lambda class_type: {},
) -> dict[str, Any]:
    """The settings of everything that feeds ``inputs`` of node ``node_id``.

    prompt: the graph in API format, ``{id: {"class_type": ..., "inputs": {name: widget value or [id, output]}}}``.
    options_of: a node class's declared options by input name (``{"text": {"multiline": True}}``).

    Returns a flat ``{"KSampler.steps": 4, "KSampler.latent_image": "EmptyLatentImage[0]", ...}``: the same for two
    graphs that differ only in node ids, seeds, texts, batch sizes and file prefixes. Classes that occur twice are
    numbered in the order in which they are met. Links into seeds, texts and batch sizes are not followed: nodes that
    only make those do not count.
    """
    labels: dict[str, str] = {}
    settings: dict[str, Any] = {}

    def visit(link: list) -> str:
        identity, output = str(link[0]), link[1]
        if identity not in labels:
            labels[identity] = _label(prompt[identity]["class_type"], labels.values())
            record(identity)
        return f"{labels[identity]}[{output}]"

    def record(identity: str) -> None:
        class_type = prompt[identity]["class_type"]
        options = options_of(class_type)
        for name, value in sorted(prompt[identity]["inputs"].items()):
            if not changes_every_run(name, value, options.get(name, {})) and (name, value) not in _ABSENT:
                settings[f"{labels[identity]}.{name}"] = visit(value) if is_link(value, prompt) else value

    for name in inputs:
        value = prompt[str(node_id)]["inputs"].get(name)
        if is_link(value, prompt):
            settings[name] = visit(value)
    return settings


def in_the_demo_s_words(settings: dict[str, Any]) -> dict[str, Any]:
    """A graph that makes images as ``understudy demo`` does, in that command's settings; any other graph as it is.

    The calibration that the pack ships was made by the command, which knows no nodes.
    """
    sampler = "UnderstudyStudentSampler"
    same = {
        "UnderstudyLoadDemo.part": "student",
        "EmptyLatentImage.width": 64,
        "EmptyLatentImage.height": 64,
        f"{sampler}.model": "UnderstudyLoadDemo[0]",
        f"{sampler}.preset": "demo",
        f"{sampler}.denoise": 1,
        f"{sampler}.latent_image": "EmptyLatentImage[0]",
        "VAEDecode.samples": f"{sampler}[0]",
        "VAEDecode.vae": "UnderstudyLoadDemo[2]",
        "images": "VAEDecode[0]",
    }
    texts = {f"{sampler}.positive", f"{sampler}.negative", "CLIPTextEncode.clip", "CLIPTextEncode#2.clip"}
    free = {f"{sampler}.steps", f"{sampler}.cfg"}
    of_text = {"CLIPTextEncode[0]", "CLIPTextEncode#2[0]", "UnderstudyLoadDemo[1]"}
    rest = {key: value for key, value in settings.items() if key not in texts | free}
    if rest != same or any(settings.get(key, "UnderstudyLoadDemo[1]") not in of_text for key in texts):
        return settings
    # The demo preset samples without guidance whatever its cfg says.
    return {"steps": settings[f"{sampler}.steps"], "cfg": 1.0, "sampler": "consistency"}


def is_link(value: Any, prompt: Mapping[str, Mapping]) -> bool:
    """Whether an input's value in API format is a link ``[node id, output index]``."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], int) and str(value[0]) in prompt


def changes_every_run(name: str, value: Any, options: Mapping) -> bool:
    """Seeds, texts, batch sizes and file prefixes: they differ between images that come from the same settings."""
    name = name.lower()
    seed = name == "seed" or name.endswith("_seed")
    prompt = name.startswith("text_") and not name.startswith("text_encoder")  # which is a model
    text = name in _TEXTS or prompt or name.endswith(("_text", "_prompt"))
    written = options.get("multiline") and isinstance(value, (str, list))  # as a widget or by a link
    return bool(seed or text or written or name == BATCH_SIZE or name in _PREFIXES)


def host_options(class_type: str) -> dict[str, Mapping]:
    """The options of each input of a node class, as the host's registry declares them."""
    import nodes

    declared = nodes.NODE_CLASS_MAPPINGS[class_type].INPUT_TYPES()
    inputs = {**declared.get("required", {}), **declared.get("optional", {})}
    return {name: spec[1] for name, spec in inputs.items() if len(spec) > 1}


def settings_of_graph(hidden, inputs: list[str]) -> dict:
    """What made the images, read from the graph; a node that another node expanded to is found as well."""
    return settings_upstream(_Graph(hidden.dynprompt), hidden.unique_id, inputs, host_options)


class _Graph:
    """The host's graph, nodes made at run time included, as the mapping that ``settings_upstream`` reads."""

    def __init__(self, dynprompt):
        self.dynprompt = dynprompt

    def __getitem__(self, node_id: str):
        return self.dynprompt.get_node(node_id)

    def __contains__(self, node_id: str) -> bool:
        return self.dynprompt.has_node(node_id)


def _label(class_type: str, taken: Iterable[str]) -> str:
    same = sum(label.split("#")[0] == class_type for label in taken)
    return f"{class_type}#{same + 1}" if same else class_type
