"""Stable Diffusion 1.x and SDXL as teachers, from a single file or a diffusers folder."""

import hashlib
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from ...files import known_sha256
from ...pipelines.checkpoint import Checkpoint, open_checkpoint
from ...pipelines.folder_files import fingerprint, has_fingerprint
from ...pipelines.stable_diffusion import (
    TextEncoder,
    repeated,
    run_unet,
    text_states,
    time_ids,
    too_long,
    zero_terminal_snr,
)
from ...pipelines.student_request import quiet_libraries
from ...pipelines.vae import vae_files
from ..config import WINDOW, RecipeError
from ..process import Discrete
from .base import FromPath, WaitingTeacher
from .padding import MASK, pad
from .precision import laid_out, whole_precision, with_own_norms

WHOLE, TILE = 768, 512  # pixels: the largest side that is decoded at once, and of the tiles of a larger picture
PREDICTION = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


class StableDiffusionTeacher(WaitingTeacher, FromPath):
    """Embeddings are ``context`` [B, 77, D] and, for SDXL, ``pooled`` [B, P]; SDXL's size is ``time_ids`` [B, 6].

    Where long prompts are read in windows, ``context`` is [B, 77 n, D], with a "mask" that says how much of it is a
    prompt's own: what is shorter than others of its batch is repeated, as ComfyUI does, and not padded.

    Text encoders run in float32, in which they are asked once; UNet and embeddings meet in the UNet's precision.

    The autoencoder runs in float32, as SDXL's overflows in half precision. It decodes large pictures in tiles, but
    encodes them whole, as from tiles other latents would be learned. It and the text encoders come to the device when
    they are used; the latter are let go of by :meth:`rest`, after which `embed` raises RuntimeError.

    Text encoders and UNet are read from the checkpoint when they are first asked for, so that whoever embeds first, and
    rests, never has both in memory.
    """

    windows = 1  # of WINDOW tokens each, that are read of a prompt

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        prediction: str = "auto",
        zero_snr: bool = False,
        empty: str = "auto",
    ):
        told = {name: short for short, name in PREDICTION.items()}
        facts = checkpoint.facts(told.get(prediction))
        self.checkpoint, self.dtype = checkpoint, dtype
        self.vae_file = checkpoint.vae
        self.device, self.path, self.file = device, checkpoint.path, checkpoint.path.name
        self.fingerprint = fingerprint(checkpoint.path)
        self.kind = checkpoint.architecture.kind
        self.process = Discrete(facts.alphas_cumprod, PREDICTION[facts.prediction])
        if zero_snr and self.process.prediction == "epsilon":
            raise RecipeError(
                f"teacher.zero_snr: {checkpoint.path} is taken for a model that predicts eps, which where all is noise "
                "says nothing of the picture; set teacher.prediction = v_prediction, too"
            )
        if zero_snr and not self.process.zero_snr:
            self.process = Discrete(zero_terminal_snr(facts.alphas_cumprod), self.process.prediction)
        self.vae = checkpoint.load_vae()
        self.latent_channels = self.vae.config.latent_channels
        self.default_size = checkpoint.architecture.default_size
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.vae.tile_sample_min_size, self.vae.tile_latent_min_size = TILE, TILE // self.factor
        self.empty_is_zero = facts.empty_negative_is_zero if empty == "auto" else empty == "zeros"
        self.guidance_width = facts.guidance_width
        self._texts: tuple[TextEncoder, ...] | None = None
        self._nothing: dict[str, Tensor] | None = None
        self._ids: dict[tuple[int, int], Tensor] = {}

    @classmethod
    def load(cls, path, device, dtype, vae, prediction, zero_snr, empty):
        quiet_libraries()
        return cls(open_checkpoint(path, vae), device, dtype, prediction, zero_snr, empty)

    @cached_property
    def unet(self) -> nn.Module:
        return laid_out(with_own_norms(self.checkpoint.load_unet(self.dtype)), self.device).to(self.device)

    def outline(self) -> nn.Module:
        return self.checkpoint.outline_unet()

    @property
    def texts(self) -> tuple[TextEncoder, ...]:
        """The text encoders; none after :meth:`rest`."""
        if self._texts is None:
            self._texts = self.checkpoint.load_texts(self.text_dtype)
        return self._texts

    @property
    def maker(self) -> str:
        if self.vae_file is None:
            return self.fingerprint
        parts = [self.fingerprint, *map(known_sha256, vae_files(self.vae_file))]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def is_of(self, said: str) -> bool:
        return has_fingerprint(self.path, said)

    def read_texts_as(self, clip_skip: int | None, max_tokens: int) -> None:
        layers = min(text.network.config.num_hidden_layers for text in self.texts) if clip_skip else 0
        if clip_skip and clip_skip > layers:
            raise RecipeError(f"teacher.clip_skip is {clip_skip}; a text encoder of {self.file} has {layers} layers")
        self.clip_skip, self.windows, self._nothing = clip_skip, max_tokens // WINDOW, None
        self.padded = ("context", MASK) if self.windows > 1 else ()

    @property
    def text_plan(self) -> tuple:
        plan = super().text_plan
        # Nothing of what is as it was trained, so that caches of earlier versions serve.
        return (*plan, self.clip_skip, self.windows) if self.clip_skip or self.windows > 1 else plan

    def too_long(self, prompts: Sequence[str]) -> str:
        said = too_long(self.texts, prompts, self.windows)
        return said and f"{said} (teacher.max_tokens: {self.windows * WINDOW}; a multiple of {WINDOW} reads more)"

    @torch.no_grad()
    def encode(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        with whole_precision(self.device):
            posterior = self._at_hand(self.vae).encode(pixels.to(self.device).float() * 2 - 1).latent_dist
        latents = posterior.mode() if generator is None else posterior.sample(generator)
        return latents * self.vae.config.scaling_factor

    def decode(self, latents: Tensor, clamp: bool = True) -> Tensor:
        vae = self._at_hand(self.vae)
        # One at a time: decoding is where memory peaks, and a batch makes it no faster.
        with whole_precision(self.device):
            scaled = latents.to(self.device).float() / vae.config.scaling_factor
            # Unclamped pixels are to train through, which needs every tile's activations at the same time.
            if clamp and max(scaled.shape[-2:]) * self.factor > WHOLE:
                vae.enable_tiling()
            parts = [vae.decode(one[None]).sample for one in scaled]
            vae.disable_tiling()
        pixels = torch.cat(parts) / 2 + 0.5
        return pixels.clamp(0, 1) if clamp else pixels

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        if not self.texts:
            raise RuntimeError("the text encoders were let go of; embed what is needed before rest()")
        for text in self.texts:
            self._at_hand(text.network)
        return text_states(self.texts, prompts, self.device, self.clip_skip, self.windows)

    def unconditional(self, count: int) -> dict[str, Tensor]:
        if self._nothing is None:
            states = self.embed([""])
            self._nothing = {key: torch.zeros_like(v) for key, v in states.items()} if self.empty_is_zero else states
        return {key: value.expand(count, *value.shape[1:]) for key, value in self._nothing.items()}

    def _as_long(self, parts, dim):
        if not self.padded:
            return super()._as_long(parts, dim)
        contexts = [row.transpose(0, dim) for row in repeated([part["context"].transpose(0, dim) for part in parts])]
        return [{**part, "context": row} for part, row in zip(pad(parts, (MASK,), dim), contexts, strict=True)]

    def sizes(self, height: int, width: int, count: int) -> dict[str, Tensor]:
        if self.unet.config.addition_embed_type != "text_time":
            return {}
        if (height, width) not in self._ids:  # to bring them to a GPU anew in every step would wait for it
            self._ids[height, width] = time_ids((height, width), 1, self.device)
        return {"time_ids": self._ids[height, width].expand(count, -1)}

    def call(self, unet: nn.Module, noisy: Tensor, t: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
        inputs = {key: value.to(noisy.dtype) for key, value in embeddings.items() if key != MASK}
        return run_unet(self.under_condition(unet, inputs), noisy, t, self.guidance_width, **inputs)

    def with_guidance_input(self, width: int) -> nn.Module:
        from diffusers import UNet2DConditionModel

        self.guidance_width = width
        # Not from_config, which takes back what a config says was a default.
        config = {key: value for key, value in self.unet.config.items() if not key.startswith("_")}
        network = UNet2DConditionModel(**config | {"time_cond_proj_dim": width})
        network.load_state_dict(self.unet.state_dict(), strict=False)
        nn.init.zeros_(network.time_embedding.cond_proj.weight)
        return network.to(self.device)

    def rest(self) -> None:
        self.unconditional(1)
        self._texts = ()
        self.vae.to("cpu")

    def _at_hand(self, network: nn.Module) -> nn.Module:
        return network.to(self.device)
