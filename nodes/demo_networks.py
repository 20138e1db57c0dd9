"""The embedded demo family in ComfyUI's own classes: UNetModel, TAESD, CLIP and ControlNet, filled through key maps.

The files have diffusers' layouts; nothing of diffusers is needed to read them here. All of it runs in float32: the
networks are small, and a demo should look the same everywhere.
"""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path

import torch

from ..demo_family.control import SceneControl, load_control
from ..demo_family.language import PromptError, parse, token_ids

log = logging.getLogger(__name__)

CONTROLS = {"student": "control_student.safetensors", "teacher": "control.safetensors"}
DEMO_FOLDER = Path(__file__).resolve().parents[1] / "demo_family"
PROMPT_ERROR = "understudy_prompt_error"  # conditioning key: why the text could not be read


def demo_file(name: str, folder: Path = DEMO_FOLDER) -> Path:
    """The path of one of the demo's files; FileNotFoundError says what to do if the installation lacks it."""
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: this copy of Understudy is incomplete; install the pack again")
    return path


def load_model(part: str, folder: Path = DEMO_FOLDER):
    """The student or teacher as ``(ModelPatcher, CLIP)``, ready for the host's sampler and text encode nodes."""
    weights, metadata = _read(demo_file(f"{part}.safetensors", folder))
    config = json.loads(metadata["config"])
    network = {key.removeprefix("unet."): value for key, value in weights.items() if key.startswith("unet.")}
    return _model_patcher(config, network), _clip(weights["text.weight"])


def load_vae(folder: Path = DEMO_FOLDER):
    """The autoencoder as the host's VAE object (TAESD; 64x64 pixels to 8x8x8 latents)."""
    import comfy.sd

    weights, _ = _read(demo_file("vae.safetensors", folder))
    return comfy.sd.VAE(sd=taesd_keys(weights), dtype=torch.float32)


def load_control_net(part: str, folder: Path = DEMO_FOLDER):
    """The ControlNet for outlines as the host's, for its Apply ControlNet nodes; either part's is for the teacher."""
    import comfy.controlnet
    import comfy.model_management

    network = HostedControl(load_control(demo_file(CONTROLS[part], folder)))
    device = comfy.model_management.get_torch_device()
    return comfy.controlnet.ControlNet(network, load_device=device, extra_conds=[])


# ----------------------------------------------------------------------------------------------------------------------
# Keys


def taesd_keys(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """diffusers' AutoencoderTiny keys as the host's TAESD keys.

    The host's decoder begins with its clamp as layer 0, which diffusers applies outside the list: hence the offset.
    """
    renamed = {"vae_scale": torch.tensor(1.0), "vae_shift": torch.tensor(0.0)}
    for key, value in weights.items():
        half, _, rest = key.partition(".layers.")
        layer, _, rest = rest.partition(".")
        renamed[f"taesd_{half}.{int(layer) + (half == 'decoder')}.{rest}"] = value
    return renamed


def unet_config(config: dict) -> dict:
    """A diffusers UNet2DConditionModel config as the arguments of the host's UNetModel.

    ValueError names what the host's class has no equal for.
    """
    channels = config["block_out_channels"]
    heads = config["attention_head_dim"]  # diffusers' historical name for the number of heads
    expected = {"norm_num_groups": 32, "act_fn": "silu", "flip_sin_to_cos": True, "freq_shift": 0, "norm_eps": 1e-5}
    other = {key: config[key] for key, value in expected.items() if config.get(key, value) != value}
    if other or not isinstance(heads, int) or any(width % channels[0] for width in channels):
        raise ValueError(
            f"the demo network cannot be expressed in ComfyUI's UNetModel: expected {expected}, one number of heads "
            f"and widths that are multiples of the first; got {other}, {heads} and {channels}"
        )
    layers = config["layers_per_block"]
    down = [int("CrossAttn" in block) for block in config["down_block_types"]]
    up = [int("CrossAttn" in block) for block in reversed(config["up_block_types"])]
    return {
        "image_size": config["sample_size"],
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": channels[0],
        "channel_mult": [width // channels[0] for width in channels],
        "num_res_blocks": [layers] * len(channels),
        "num_heads": heads,
        "use_spatial_transformer": True,
        "transformer_depth": [depth for depth in down for _ in range(layers)],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [depth for depth in up for _ in range(layers + 1)],
        "context_dim": config["cross_attention_dim"],
        "num_classes": "sequential",  # the host's name for a projection of the pooled text
        "adm_in_channels": config["projection_class_embeddings_input_dim"],
        "use_linear_in_transformer": config.get("use_linear_projection", False),
        "legacy": False,
    }


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key).float() for key in file.keys()}, file.metadata() or {}


# ----------------------------------------------------------------------------------------------------------------------
# Model


@functools.cache
def _model_classes():
    """The host's base classes with the demo's latents and its answer to a text that could not be read."""
    import comfy.model_base
    import comfy.supported_models_base

    class UnderstudyDemo(comfy.supported_models_base.BASE):
        unet_extra_config = {}

        def __init__(self, unet_config):
            super().__init__(unet_config)
            self.latent_format.latent_channels = unet_config["in_channels"]

    class DemoModel(comfy.model_base.BaseModel):
        def encode_adm(self, **kwargs):
            return kwargs["pooled_output"]

        def extra_conds(self, **kwargs):
            # Text encode nodes cannot know on which side of the guidance a text will stand; here it is known.
            error = kwargs.get(PROMPT_ERROR)
            if error and kwargs.get("prompt_type") != "negative":
                raise PromptError(error)
            if error:
                log.warning("Understudy demo, negative prompt ignored: %s", error)
            return super().extra_conds(**kwargs)

    return UnderstudyDemo, DemoModel


def _model_patcher(config: dict, weights: dict[str, torch.Tensor]):
    import comfy.model_base
    import comfy.model_management
    import comfy.model_patcher
    import comfy.utils

    UnderstudyDemo, DemoModel = _model_classes()
    arguments = unet_config(config)
    key_map = comfy.utils.unet_to_diffusers(arguments)
    unknown = sorted(set(weights) - set(key_map))
    if unknown:
        raise ValueError(f"keys of the demo network that ComfyUI's UNetModel has no place for: {', '.join(unknown)}")

    offload_device = comfy.model_management.unet_offload_device()
    model = DemoModel(UnderstudyDemo(arguments | {"dtype": torch.float32}), comfy.model_base.ModelType.V_PREDICTION)
    model.diffusion_model.load_state_dict({key_map[key]: value for key, value in weights.items()}, strict=True)
    return comfy.model_patcher.ModelPatcher(
        model.to(offload_device), load_device=comfy.model_management.get_torch_device(), offload_device=offload_device
    )


# ----------------------------------------------------------------------------------------------------------------------
# Text


class DemoTokenizer:
    """The demo's eight token ids in the shape in which the host hands tokens from tokenizer to encoder."""

    def __init__(self, embedding_directory=None, tokenizer_data=None):
        pass

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs) -> dict:
        """``{"understudy_demo": [[(id, 1.0), ...]]}``; empty and unreadable texts are the unconditional ids."""
        error, scene = None, None
        if text.strip():
            try:
                scene = parse(text)
            except PromptError as unreadable:
                error = str(unreadable)
        return {"understudy_demo": [[(token, 1.0) for token in token_ids(scene)]], PROMPT_ERROR: error}

    def state_dict(self) -> dict:
        return {}


@functools.cache
def _text_encoder_class():
    import comfy.model_management
    import comfy.ops

    class DemoTextEncoder(torch.nn.Module):
        """A table of word vectors, behind the methods that the host's CLIP object calls on its network."""

        def __init__(self, table, device=None, dtype=None, model_options=None):
            super().__init__()
            self.dtypes = {dtype}
            self.table = comfy.ops.manual_cast.Embedding(*table.shape, device=device, dtype=dtype)
            self.load_state_dict({"table.weight": table.to(device=device, dtype=dtype)})

        def encode_token_weights(self, tokens: dict):
            """Token ids to ``(conditioning [1, 8, width], pooled [1, 8 * width], extra conditioning)``."""
            ids = torch.tensor([[token for token, _ in row] for row in tokens["understudy_demo"]])
            cond = self.table(ids.to(self.table.weight.device), out_dtype=torch.float32)
            extra = {PROMPT_ERROR: tokens[PROMPT_ERROR]} if tokens[PROMPT_ERROR] else {}
            cond = cond.to(comfy.model_management.intermediate_device())
            return cond, cond.flatten(1), extra

        def set_clip_options(self, options: dict) -> None:
            """No layers to skip, and the table runs where it lies."""

        def reset_clip_options(self) -> None:
            """Nothing was set."""

    return DemoTextEncoder


def _clip(table: torch.Tensor):
    import comfy.sd
    import comfy.supported_models_base

    encoder = functools.partial(_text_encoder_class(), table)
    target = comfy.supported_models_base.ClipTarget(DemoTokenizer, encoder)
    return comfy.sd.CLIP(target, parameters=table.numel(), model_options={"dtype": torch.float32})


# ----------------------------------------------------------------------------------------------------------------------
# ControlNet


class HostedControl(torch.nn.Module):
    """A demo ControlNet, called as the host's ControlNet calls its network."""

    dtype = torch.float32

    def __init__(self, network: SceneControl):
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, x, hint, timesteps, context) -> dict[str, list[torch.Tensor]]:
        """What is added to the skips, the first one first, and to the middle. ValueError for another model's input."""
        config = self.network.config
        widths, expected = (x.shape[1], context.shape[-1]), (config["in_channels"], config["cross_attention_dim"])
        if widths != expected:
            raise ValueError(
                f"the demo's ControlNet is for the demo's own models, with {expected[0]} latent channels and texts of "
                f"{expected[1]} numbers a token; this model has {widths[0]} and {widths[1]}: connect the model of "
                "Load demo pair"
            )
        skips, middle = self.network(x, timesteps, context, hint)
        return {"output": skips, "middle": [middle]}
