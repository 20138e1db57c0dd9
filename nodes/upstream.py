"""Which settings made the images: node classes and widgets upstream of a socket, less what changes every run."""

from __future__ import annotations

import math
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..oracles.settings import BATCH_SIZE, flat

_TEXTS = ("text", "texts", "prompt", "prompts")
_PREFIXES = ("filename_prefix", "file_prefix")
# Multiline widgets whose text is a way of making images: a formula, a shader.
_CODE = ("expression", "fragment_shader")
_PLACES = (BATCH_SIZE, "batch_index")  # how many images there are, and which of them
# The same of the host's own nodes, and what they load, where neither name nor declaration tells.
_OF_THE_HOST = (
    "LatentFromBatch.length",
    "ImageFromBatch.length",
    "RepeatLatentBatch.amount",
    "RepeatImageBatch.amount",
    "LoadLatent.latent",
    "LoadImageDataSetFromFolder.folder",
    "LoadImageTextDataSetFromFolder.folder",
)
# Widgets that hold what a camera or a canvas made.
_CAPTURED = ("WEBCAM", "AUDIO_RECORD", "LOAD_3D", "LOAD_3D_ANIMATION")
_NUMBERS = ("INT", "FLOAT")
# Widgets that came later: at this value a graph is the same as without them.
_ABSENT = [("settings_from", "none")]
_UNKNOWN = "an object that no settings can tell: "


def settings_upstream(
    prompt: Mapping[str, Mapping],
    node_id: str,
    inputs: Iterable[str],
    options_of: Callable[[str, Mapping], Mapping[str, Mapping]] = lambda class_type, inputs: {},
) -> dict[str, Any]:
    """The settings of everything that feeds ``inputs`` of node ``node_id``.

    prompt: the graph in API format, ``{id: {"class_type": ..., "inputs": {name: widget value or [id, output]}}}``.
    options_of: what a node class declares of the inputs that a node has, its type among it
    (``{"text": {"type": "STRING", "multiline": True}}``).

    Returns a flat ``{"KSampler.steps": 4, "KSampler.latent_image": "EmptyLatentImage[0]", ...}``: the same for two
    graphs that differ only in what :func:`changes_every_run`. Classes that occur twice are numbered in the order in
    which they are met. Links into seeds, texts, uploads and batch sizes are not followed: nodes that only make those do
    not count.
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
        class_type, inputs = prompt[identity]["class_type"], prompt[identity]["inputs"]
        options = options_of(class_type, inputs)
        for name, value in sorted(inputs.items()):
            if not changes_every_run(class_type, name, options.get(name, {})) and (name, value) not in _ABSENT:
                settings[f"{labels[identity]}.{name}"] = visit(value) if is_link(value, prompt) else as_json(value)

    for name in inputs:
        value = prompt[str(node_id)]["inputs"].get(name)
        if is_link(value, prompt):
            settings[name] = visit(value)
        elif unknown({name: as_json(value)}):
            settings[name] = as_json(value)
    return settings


def demo_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """A graph that makes images as ``understudy demo`` does, in that command's settings; any other graph as it is.

    The calibration that the pack ships was made by the command, which knows no nodes.
    """
    sampler = "UnderstudyStudentSampler"
    same = {
        "UnderstudyLoadDemo.part": "student",
        "EmptyLatentImage.width": 64,
        "EmptyLatentImage.height": 64,
        f"{sampler}.model": "UnderstudyLoadDemo[0]",
        f"{sampler}.denoise": 1,
        f"{sampler}.latent_image": "EmptyLatentImage[0]",
        "VAEDecode.samples": f"{sampler}[0]",
        "VAEDecode.vae": "UnderstudyLoadDemo[2]",
        "images": "VAEDecode[0]",
    }
    texts = {f"{sampler}.positive", f"{sampler}.negative", "CLIPTextEncode.clip", "CLIPTextEncode#2.clip"}
    free = {f"{sampler}.steps", f"{sampler}.cfg", f"{sampler}.preset"}
    of_text = {"CLIPTextEncode[0]", "CLIPTextEncode#2[0]", "UnderstudyLoadDemo[1]"}
    rest = {key: value for key, value in settings.items() if key not in texts | free}
    chosen = settings.get(f"{sampler}.preset") in ("demo", "auto")
    if rest != same or not chosen or any(settings.get(key, "UnderstudyLoadDemo[1]") not in of_text for key in texts):
        return settings
    cfg = settings.get(f"{sampler}.cfg", 1)
    cfg = 1.0 if cfg == 1 else cfg  # the front end's 1 is the command's 1.0
    return {"steps": settings[f"{sampler}.steps"], "cfg": cfg, "sampler": "consistency"}


def is_link(value: Any, prompt: Mapping[str, Mapping]) -> bool:
    """Whether an input's value in API format is a link ``[node id, output index]``."""
    linked = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)
    return linked and value[0] in prompt


def changes_every_run(class_type: str, name: str, options: Mapping) -> bool:
    """Whether an input differs between images that come from the same settings: seeds, texts, uploaded and captured
    pictures, batch sizes and places in a batch, file prefixes.

    Told by what the class declares (``options``), and by name where it declares no more than a number or a text. Names
    may have a path before them and a number behind, as in ``model.seed`` and ``prompts.prompt_2``.
    """
    kind = options.get("type")
    if f"{class_type}.{name}" in _OF_THE_HOST or kind in _CAPTURED:
        return True
    if any(key.endswith("upload") and value for key, value in options.items()):
        return True
    name = re.sub(r"_?\d+$", "", name.rpartition(".")[2].lower())
    if options.get("multiline"):
        return name not in _CODE
    chosen = kind in ("COMBO", "BOOLEAN")
    seed = name == "seed" or name.endswith("_seed") or bool(options.get("control_after_generate"))
    prompt = name.startswith("text_") and not name.startswith("text_encoder")  # which is a model
    text = name in _TEXTS or prompt or name.endswith(("_text", "_prompt"))
    return name in (*_PLACES, *_PREFIXES) or (not chosen and (seed or (text and kind not in _NUMBERS)))


def as_json(value: Any) -> Any:
    """A widget's value as JSON knows it. A node that makes others at run time may put a tensor or another object there,
    for which stands that what made it is :func:`not known <unknown>`."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    return f"{_UNKNOWN}{type(value).__name__}"


def unknown(settings: Mapping) -> list[str]:
    """The settings that hold an object itself, of which a later run could not tell whether it was made as this one."""
    return [key for key, value in flat(settings).items() if _UNKNOWN in str(value)]


def host_options(class_type: str, inputs: Mapping) -> dict[str, dict]:
    """What the host's registry declares of each input of a node that has these, nested ones by their dotted names."""
    from comfy_api.latest import _io, io

    import nodes

    node_class = nodes.NODE_CLASS_MAPPINGS[class_type]
    declared = node_class.INPUT_TYPES()
    if issubclass(node_class, io.ComfyNode):
        declared, *_ = _io.get_finalized_class_inputs(declared, inputs)
    hands_on = any(kind in _NUMBERS for kind in node_class.RETURN_TYPES)
    found = {}
    for name, (kind, *rest) in {**declared.get("required", {}), **declared.get("optional", {})}.items():
        options = dict(rest[0]) if rest and isinstance(rest[0], Mapping) else {}
        if hands_on:  # a number is then what others take it for, and nobody follows it to a seed
            options.pop("control_after_generate", None)
        found[name] = {**options, "type": "COMBO" if isinstance(kind, list) else kind}
    return found


def settings_of_graph(hidden, inputs: list[str]) -> dict:
    """What made the images, read from the graph; a node that another node expanded to is found as well."""
    return settings_upstream(_Graph(hidden.dynprompt), hidden.unique_id, inputs, host_options)


def settings_of_own_images(hidden) -> dict:
    """What a node behind this one would read from the graph for the images that are this node's first output."""
    return settings_upstream(_graph_with(hidden, {"images": [hidden.unique_id, 0]}), _BEHIND, ["images"], host_options)


def settings_of_a_student(hidden, student: Iterable[str]) -> dict:
    """What it would read if this node were a Student sampler, whose inputs ``student`` are, and a VAE Decode."""
    own = hidden.dynprompt.get_node(hidden.unique_id)["inputs"]
    sampler = {name: own[name] for name in student if name in own}
    graph = _graph_with(
        hidden,
        {"images": [f"{_BEHIND} decode", 0]},
        decode=("VAEDecode", {"samples": [f"{_BEHIND} sampler", 0], "vae": own["vae"]}),
        sampler=("UnderstudyStudentSampler", sampler),
    )
    return settings_upstream(graph, _BEHIND, ["images"], host_options)


_BEHIND = "understudy: behind"  # an id that no node of a graph has


def _graph_with(hidden, inputs: Mapping, **nodes: tuple[str, Mapping]) -> ChainMap:
    """The host's graph with a node behind it that has these inputs, and others for it to be behind of."""
    more = {f"{_BEHIND} {name}": {"class_type": kind, "inputs": own} for name, (kind, own) in nodes.items()}
    return ChainMap({_BEHIND: {"inputs": inputs}, **more}, _Graph(hidden.dynprompt))


def graph_of(hidden) -> Mapping[str, Mapping]:
    """The host's graph of a node's hidden inputs."""
    return _Graph(hidden.dynprompt)


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
