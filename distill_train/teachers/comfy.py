"""Whatever the user's ComfyUI loads as a teacher."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from ...files import known_sha256
from ..config import SIZED, RecipeError, TeacherSettings
from ..host import BY_SIZE, Loaded, kind_of, open_host, side_of
from ..process import Discrete
from ..recompute import OutOfPlace
from .base import WaitingTeacher
from .precision import whole_precision
from .ragged import NUMBER, Row, alike, batch_of, rows_of, stays

GUIDANCE = 3.5  # what ComfyUI tells a network that takes a guidance scale where the graph says nothing
SMALLEST = 1e-3  # noise level that a flow's network is told at the data: the first of its 1000


class ComfyTeacher(WaitingTeacher):
    """A checkpoint or diffusion model as ComfyUI loads it, with the text encoders and the autoencoder of its loaders.

    Embeddings have the names that the host's ``extra_conds`` takes, and of each its sizes, as `ragged` has them. The
    network never sees padding: prompts of several lengths go through it apart. ``unet`` is a :class:`HostNetwork`.

    Raises FileNotFoundError, CheckpointError for files that ComfyUI does not know, and RecipeError for a ComfyUI or a
    family that cannot be distilled from.
    """

    keeps_lengths = True
    attention_block = "diffusion_model.middle_block.1.transformer_blocks.0.attn1"  # of its UNets

    def __init__(self, told: TeacherSettings, device: torch.device, dtype: torch.dtype):
        self.told, self.device, self.dtype = told, device, dtype
        self.host = open_host(told.comfyui, device)
        model = self.host.outline(told.comfy)
        self.kind, self.file, self.fingerprint = kind_of(model), told.comfy.name, known_sha256(told.comfy)
        self.process = self.host.process(model, told.shift)
        latent = model.latent_format
        self.latent_channels, self.frames = latent.latent_channels, latent.latent_dimensions == 3
        self.factor = getattr(latent, "spacial_downscale_ratio", 8)
        self.default_size = side_of(model)
        self.takes_guidance = bool(model.model_config.unet_config.get("guidance_embed"))
        if told.guidance is not None and not self.takes_guidance:
            raise RecipeError(f"teacher.guidance: {told.comfy} is {self.kind} without that input; leave it out")
        self._outline, self._clip, self._vae, self._nothing, self._rested = model, None, None, None, False

    @property
    def maker(self) -> str:
        parts = [self.fingerprint, *map(known_sha256, self.told.clip), self.told.clip_type]
        parts += [known_sha256(self.told.vae)] if self.told.vae else []
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    @cached_property
    def _loaded(self) -> Loaded:
        return self.host.load_model(self.told.comfy, self.dtype)

    @cached_property
    def unet(self) -> nn.Module:
        self._loaded.bring()
        return HostNetwork(self._loaded.model.diffusion_model, self._loaded)

    def outline(self) -> nn.Module:
        return HostNetwork(self._outline.diffusion_model)

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        frames = (1,) if self.frames else ()
        return (self.latent_channels, *frames, height // self.factor, width // self.factor)

    @torch.no_grad()
    def encode(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        vae, model = self._autoencoder(), self._outline
        # One by one, as autoencoders of videos take a batch for one video.
        with whole_precision(self.device):
            parts = [vae.encode(one[None].movedim(1, -1).cpu()) for one in pixels.float()]
            return model.process_latent_in(torch.cat(parts)).to(self.device, torch.float32)

    def decode(self, latents: Tensor, clamp: bool = True) -> Tensor:
        """Raises RecipeError for ``clamp=False``, as the host's decoding clamps, and gradients would end there."""
        if not clamp:
            raise RecipeError(
                "no gradients come through ComfyUI's autoencoder; name a TAESD decoder in settings.decoder"
            )
        vae, model = self._autoencoder(), self._outline
        with whole_precision(self.device):
            scaled = model.process_latent_out(latents.float().cpu())
            parts = [vae.decode(one[None]).float() for one in scaled]
        pixels = torch.cat([part[:, 0] if part.ndim == 5 else part for part in parts]).movedim(-1, 1)
        return pixels.clamp(0, 1).to(self.device)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        if self._rested:
            raise RuntimeError("the text encoders were let go of; embed what is needed before rest()")
        if self._clip is None:
            told, config = self.told, self._outline.model_config
            self._clip = self.host.load_clip(told.clip, told.clip_type, told.comfy, config)
        with whole_precision(self.device):
            return batch_of([self._row(prompt) for prompt in prompts])

    def _row(self, prompt: str) -> Row:
        ((states, others),) = self._clip.encode_from_tokens_scheduled(self._clip.tokenize(prompt))
        row = {"cross_attn": states.float()}
        for name, value in others.items():
            if isinstance(value, Tensor):
                row[name] = value.float() if value.is_floating_point() else value
            elif isinstance(value, (bool, int, float)):
                row[name + NUMBER] = torch.tensor(value)
            elif value is not None:
                raise RecipeError(
                    f"the text encoders of {self.kind} give {name}, a {type(value).__name__}, which cannot be cached"
                )
        return {name: value if stays(name) else value.to(self.device) for name, value in row.items()}

    def unconditional(self, count: int) -> dict[str, Tensor]:
        if self._nothing is None:
            (row,) = rows_of(self.embed([""]))
            if self.told.empty == "zeros":
                row = {name: torch.zeros_like(v) if v.is_floating_point() else v for name, v in row.items()}
            self._nothing = batch_of([row])
        return {name: value.expand(count, *value.shape[1:]) for name, value in self._nothing.items()}

    def separate(self, embeddings: dict[str, Tensor]) -> list[Row]:
        return rows_of(embeddings)

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Raises RecipeError for texts of which the host tells the network other things than of the empty one."""
        names = self.unconditional(1).keys()
        if other := [sorted(row) for row in rows if not names >= row.keys()]:
            raise RecipeError(f"the text encoders of {self.kind} give some prompts, not all, {', '.join(other[0])}")
        return batch_of(rows)

    def join(self, batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return batch_of([row for batch in batches for row in rows_of(batch)])

    def order(self, embeddings: Mapping[str, Tensor]) -> list[int]:
        return [at for places in alike(rows_of(embeddings)) for at in places]

    def sizes(self, height: int, width: int, count: int) -> dict[str, Tensor]:
        return {}  # the host reads them off the latents

    def call(self, unet: nn.Module, noisy: Tensor, t: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
        """t: of a flow the noise level times 1000. What is predicted follows from the x0 that the host works out."""
        discrete = isinstance(self.process, Discrete)
        time = t.long() if discrete else (t / self.process.timesteps).clamp(min=SMALLEST)
        alpha, sigma = self.process.level(time, noisy.ndim)
        # In the host's own scale, alpha is that of a flow, or 1.
        z, level = (noisy / alpha, sigma / alpha) if discrete else (noisy, sigma)
        rows, parts = rows_of(embeddings), {}
        for places in alike(rows):
            told = [self._told(rows[at]) for at in places]
            own_z, own_level = (torch.stack([each[at] for at in places]) for each in (z, level.flatten()))
            parts |= zip(places, unet(own_z, own_level, told), strict=True)
        x0 = torch.stack([parts[at] for at in range(len(rows))])
        return self.process.output(x0, (noisy - alpha * x0) / sigma, time)

    def _told(self, row: Row) -> dict:
        told = {}
        for name, value in row.items():
            number = name.endswith(NUMBER)
            told[name.removesuffix(NUMBER)] = value.item() if number else value
        if self.takes_guidance:
            told["guidance"] = GUIDANCE if self.told.guidance is None else self.told.guidance
        return told

    def rest(self) -> None:
        self.unconditional(1)
        self._clip, self._rested = None, True
        self.host.release()
        if "unet" in vars(self):
            self._loaded.bring()

    def metadata(self, network: nn.Module) -> dict[str, str]:
        said = {}
        if self.told.shift == SIZED:
            said = {"mu_low": f"{BY_SIZE.value.low:g}", "mu_high": f"{BY_SIZE.value.high:g}"}
        elif not isinstance(self.process, Discrete):
            said = {"shift": f"{self.process.shift:g}"}
        return said | ({"flux_guidance": f"{self._told({})['guidance']:g}"} if self.takes_guidance else {})

    def _autoencoder(self):
        if self._vae is None:
            self._vae = self.host.load_vae(self.told.vae, self.told.comfy, self._outline.model_config)
        return self._vae


class HostNetwork(nn.Module):
    """A network of the host's, ``diffusion_model``, under the names that its LoRA loader knows.

    Called with z [B, C, ...] and sigma [B] in the host's own scale, and for each sample what the host's ``extra_conds``
    takes, it returns x0 in float32. All samples have embeddings of the same sizes.
    """

    def __init__(self, network: nn.Module, loaded: Loaded | None = None):
        super().__init__()
        self.diffusion_model, self.loaded = network, loaded

    @property
    def is_unet(self) -> bool:
        """Whether its attentions are of a picture's places alone, on several levels."""
        return type(self.diffusion_model).__name__ == "UNetModel"

    def forward(self, z: Tensor, sigma: Tensor, told: Sequence[Mapping]) -> Tensor:
        with whole_precision(z.device), self.loaded.host.training(), OutOfPlace():
            return self.loaded.denoise(z, sigma, told)

    def train(self, mode: bool = True):
        return super().train(False)  # as the host runs it, which is what a student's users will do
