"""Exported ControlNets in ComfyUI's stock loader: every key finds its place, and it answers as diffusers' does."""

import inspect
import json
import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from understudy.distill_train.exports.base import open_base
from understudy.distill_train.exports.controlnet import controlnet_shapes
from understudy.distill_train.exports.export import export
from understudy.distill_train.exports.kind import Trained
from understudy.distill_train.exports.kinds import KINDS
from understudy.pipelines.single_file import read_single_file

from ..distill_train.students import make_run
from . import checkpoints
from .inside import failures

SDXL = {
    "block_out_channels": [320, 640, 1280],
    "layers_per_block": 2,
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
# Under diffusers' names the host knows a ControlNet by its depths and takes its widths as known: so these are of true
# width. Of SDXL it knows a smaller one, too.
UNETS = {
    "sd1": {
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    },
    "sdxl": SDXL
    | {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
    },
    "sdxl-mid": SDXL
    | {
        "down_block_types": ["DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 1, 1],
    },
}


# The middle's transformers are as deep as the last level's.
BATCH, SIDE, WORDS = 2, 8, 7
KIND = {kind.name: kind for kind in KINDS}
CONTROLNETS = [name for name, kind in KIND.items() if "control" in kind.trained]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A folder as inside_controlnet.py reads it."""
    folder = tmp_path_factory.mktemp("controlnets")
    for name in ("controlnet", "answers"):
        (folder / name).mkdir()
    small = checkpoints.models() / "checkpoints" / checkpoints.CHECKPOINT
    bases = {name: base_folder(folder / "bases" / name, config) for name, config in UNETS.items()}
    made(folder, "sd1", small, read_single_file(small).unet, "controlnet")
    made(folder, "sd1", bases["sd1"], UNETS["sd1"], "controlnet-diffusers")
    made(folder, "sdxl", bases["sdxl-mid"], UNETS["sdxl-mid"], "controlnet")
    shapes = {f"{kind} {to}": true_shapes(kind, bases[kind], to) for kind in ("sd1", "sdxl") for to in CONTROLNETS}
    (folder / "shapes.json").write_text(json.dumps(shapes))
    return folder


def base_folder(folder, config):
    """A pipeline of which an export reads the names and shapes alone; the weights are a file full of holes."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    unet.save_config(folder / "unet")
    header, end = {}, 0
    for key, value in unet.state_dict().items():
        start, end = end, end + value.numel()
        header[key] = {"dtype": "U8", "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with open(folder / "unet" / "weights.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    parts = ["text_encoder", "scheduler", *["text_encoder_2"] * (config["cross_attention_dim"] == 2048)]
    for part, name in [(part, "config.json") for part in parts] + [("", "model_index.json")]:
        (folder / part).mkdir(exist_ok=True)
        (folder / part / name.replace("config", f"{part}_config" if part == "scheduler" else "config")).write_text("{}")
    return folder


def encoder(config):
    """Arguments of diffusers' ControlNetModel beside such a UNet."""
    from diffusers import ControlNetModel

    return {key: config[key] for key in inspect.signature(ControlNetModel.__init__).parameters.keys() & config.keys()}


def made(folder, kind, base, config, to):
    """An export of random weights, and what diffusers makes of those."""
    from diffusers import ControlNetModel

    with torch.device("meta"):
        net = ControlNetModel(**encoder(config))
    net.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(17)
    with torch.no_grad():
        for key, value in net.named_parameters():
            if value.ndim == 1:
                value.fill_(float(key.endswith("weight")))
            else:
                gain = 2 if "cond_embedding" in key else 1  # what the activations take away, as no norm gives it back
                value.uniform_(-1, 1, generator=generator).mul_(gain * math.sqrt(3 / value[0].numel()))
    net.half().eval()
    run = make_run(folder / f"{kind}-{to}", base, kind, "control", net.state_dict())
    name = f"{kind}-{to}.safetensors"
    export(run, to, base=base, out=folder / "controlnet" / name)
    (run / "exports" / "student.safetensors").unlink()
    call = drawn(net.config)
    added = {"text_embeds": call["pooled"], "time_ids": call["ids"]} if kind == "sdxl" else None
    with torch.no_grad():
        skips, middle = net.float()(
            call["scaled"],
            call["t"],
            encoder_hidden_states=call["context"],
            controlnet_cond=call["hint"],
            added_cond_kwargs=added,
            return_dict=False,
        )
    answers = {f"answer.{place}": value for place, value in enumerate((*skips, middle))}
    save_file(call | answers, folder / "answers" / name)


def drawn(config):
    """What a ControlNet is called with; for SDXL as diffusers and as ComfyUI have it."""
    from diffusers.models.embeddings import get_timestep_embedding

    generator = torch.Generator().manual_seed(18)
    call = {
        "scaled": torch.randn(BATCH, 4, SIDE, SIDE, generator=generator),
        "t": torch.tensor([700, 200]),
        "context": torch.randn(BATCH, WORDS, config.cross_attention_dim, generator=generator),
        "hint": torch.rand(BATCH, 3, 8 * SIDE, 8 * SIDE, generator=generator),
    }
    if config.addition_embed_type is None:
        return call
    pooled = torch.randn(BATCH, 1280, generator=generator)
    ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(BATCH, -1).contiguous()
    sizes = get_timestep_embedding(ids.flatten(), 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    return call | {"pooled": pooled, "ids": ids, "y": torch.cat([pooled, sizes.view(BATCH, -1)], dim=1)}


def true_shapes(kind, folder, to):
    """Names and shapes of an export."""
    base = open_base(folder)
    weights = {key: torch.empty(shape, device="meta") for key, shape in controlnet_shapes(base).items()}
    return KIND[to].contents(Trained(folder, SimpleNamespace(base=kind), weights, base)).expected


def test_every_key_has_a_place_and_the_answers_are_diffusers(host, cases):
    failed = failures(host, "inside_controlnet.py", cases, count=7)
    assert not failed, failed
