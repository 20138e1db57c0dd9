"""The user's ComfyUI as a library, in this process: the only module that imports it, and nothing of it is changed."""

import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch.overrides import TorchFunctionMode

from ..files import CheckpointError, preview, read_header
from ..samplers.presets import ARCHITECTURES
from ..samplers.presets.settings import BySize, Mu
from .config import SIZED, RecipeError
from .devices import brought
from .process import Discrete, Flow, Process

OLDEST = (0, 8, 0)
# From here on ComfyUI can be told that it trains, and then leaves out kernels without a backward pass. Before, the
# networks of Stable Diffusion and SD 3 have none.
FLAGGED = (0, 14, 0)
UNFLAGGED = ("UNetModel", "OpenAISignatureMMDITWrapper")
PACK = Path(__file__).parents[1]
BY_SIZE = Mu(BySize(0.5, 1.15))  # a shift as the host's node ModelSamplingFlux sets it by default
SIDES = {"SD15": 512}  # of a family's pictures in pixels, by its class or one that it is made of; 1024 of all others
PIXELS = 8  # of a latent's side, as ComfyUI's sampling reckons for every family
# Of the families whose pictures are made from a picture too, or are none: part of what the host calls them.
PICTURE_FIRST = (
    r"I2V|pix2pix|Inpaint|Control|Camera|Vace|HuMo|S2V|Animate|SVD|SV3D|Zero123|Upscaler|Lotus|SeedVR|Refiner|_SR_|SCAIL|"
    "FlowRVS|WanDancer|Stable_Cascade_B"
)
# And in names of files, as an edit model may have the same network as its family's others.
EDITS = r"kontext|(?<![a-z])(?:edit|inpaint|inpainting|fill|redux)(?![a-z])"


def host_folder(given: Path | None = None) -> Path:
    """ComfyUI's folder: the given one, COMFYUI_PATH, or the one in whose custom_nodes this pack lies.

    Raises RecipeError where there is none, or it is older than what is supported.
    """
    if given is None and "COMFYUI_PATH" in os.environ:
        given = Path(os.environ["COMFYUI_PATH"])
    if given is None and PACK.parent.name == "custom_nodes":
        given = PACK.parents[1]
    if given is None:
        raise RecipeError("teacher.comfy needs ComfyUI: say where it is with --comfyui DIR or COMFYUI_PATH")
    folder = given.expanduser().resolve()
    if not (folder / "comfy" / "sd.py").is_file() or not (folder / "comfyui_version.py").is_file():
        raise RecipeError(f"{given} is no ComfyUI; expected the folder that holds its main.py and its folder comfy")
    if (version := host_version(folder)) < OLDEST:
        raise RecipeError(f"the ComfyUI in {given} is {_text(version)}; expected {_text(OLDEST)} or newer")
    return folder


def host_version(folder: Path) -> tuple[int, ...]:
    """That of the ComfyUI in a folder."""
    said = (folder / "comfyui_version.py").read_text(encoding="utf-8")
    return tuple(int(part) for part in re.search(r"__version__ = \"([\d.]+)", said)[1].split("."))


def open_host(given: Path | None, device: torch.device) -> "Host":
    """ComfyUI, as :func:`host_folder` finds it, to work on a device. Raises RecipeError, also for a lacking module."""
    folder = host_folder(given)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        from comfy.cli_args import args
    except ImportError as error:
        raise _lacking(folder, error) from error
    # Read when the rest is imported. As a library it parses no command line, so nothing else is set.
    args.cpu = device.type == "cpu"
    args.use_pytorch_cross_attention = args.disable_xformers = True
    try:
        import comfy.model_detection
        import comfy.model_management
        import comfy.sd  # noqa: F401 - all that other methods import, so that what it lacks is named here
    except ImportError as error:
        raise _lacking(folder, error) from error
    return Host(folder, device)


def _lacking(folder: Path, error: ImportError) -> RecipeError:
    return RecipeError(
        f"the ComfyUI in {folder} needs the Python module {error.name}, which {sys.executable} has not: run this with "
        f"ComfyUI's own Python, to which `PYTHON -m pip install -e {PACK}[train]` adds what training needs"
    )


class Host:
    """ComfyUI on a device. Its own files stay as they are, and so do the weights that it loads."""

    def __init__(self, folder: Path, device: torch.device):
        self.folder, self.device, self.version = folder, device, host_version(folder)

    def outline(self, file: Path) -> nn.Module:
        """What a checkpoint or diffusion model is to ComfyUI, its ``BaseModel``, on torch's meta device.

        Raises FileNotFoundError, CheckpointError for a file that it does not know, and RecipeError for a model that
        cannot be distilled here.
        """
        import comfy.model_detection
        import comfy.ops
        import comfy.utils

        # Mapped from the disk, so that only what is looked at is read; in the order of ComfyUI's own loader.
        weights, metadata = comfy.utils.convert_old_quants(*self._read(file))
        prefix = comfy.model_detection.unet_prefix_from_state_dict(weights)
        if own := comfy.utils.state_dict_prefix_replace(weights, {prefix: ""}, filter_keys=True):
            weights, metadata = comfy.utils.convert_old_quants(own, metadata=metadata)
        config = comfy.model_detection.model_config_from_unet(weights, "", metadata=metadata)
        if config is None:
            raise CheckpointError(
                f"{file}: ComfyUI finds no diffusion model in it; expected one, or a checkpoint with one"
            )
        config.set_inference_dtype(torch.float32, None)
        config.custom_operations = comfy.ops.disable_weight_init  # whose layers have weights before any is loaded
        model = config.get_model(weights, "", device=torch.device("meta"))
        self._require_trainable(file, model)
        return model

    def _read(self, file: Path) -> tuple[dict[str, Tensor], dict | None]:
        import comfy.utils

        read_header(file)  # raises
        if file.suffix.lower() not in (".safetensors", ".sft"):
            raise CheckpointError(f"{file}: expected a name that ends in .safetensors, as ComfyUI goes by it")
        return comfy.utils.load_torch_file(str(file), return_metadata=True)

    def files(self, kind: str) -> list[Path]:
        """The safetensors files of a kind of models, as "vae", in ComfyUI's folders and in those of its user's own."""
        folders = self._models_folders
        names = [name for name in folders.get_filename_list(kind) if name.endswith(".safetensors")]
        return [Path(folders.get_full_path_or_raise(kind, name)) for name in names]

    def place(self, kind: str) -> Path:
        """The folder for a new model of that kind."""
        return Path(self._models_folders.get_folder_paths(kind)[0])

    @cached_property
    def _models_folders(self):
        """ComfyUI's module for them, which knows by then what extra_model_paths.yaml adds."""
        import folder_paths
        from utils.extra_config import load_extra_path_config

        extra = self.folder / "extra_model_paths.yaml"
        if extra.is_file():
            load_extra_path_config(str(extra))
        return folder_paths

    def text_encoder(self, file: Path) -> str | None:
        """What ComfyUI recognises a text encoder's file as, a name in its ``TEModel``; None for anything else."""
        import comfy.sd

        try:
            weights, _ = self._read(file)
        except CheckpointError:
            return None  # whoever loads it will be told
        found = comfy.sd.detect_te_model(weights)
        return found and found.name

    def in_8_bits(self, file: Path) -> bool:
        """Whether weights of a model's file are quantised."""
        return _in_8_bits(self._read(file)[0])

    def unmatched(self, model: nn.Module, lora: Mapping[str, Tensor]) -> list[str]:
        """What of a LoRA's file ComfyUI's own loader would leave out: keys without a place in a ``BaseModel``, and
        places that the change does not fit."""
        import comfy.lora
        import comfy.lora_convert

        weights = model.state_dict()
        places = comfy.lora.model_lora_keys_unet(model, {})
        found = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(lora)), places, log_missing=False)
        loaded = set().union(*(adapter.loaded_keys for adapter in found.values()))
        misfits = [place for place, adapter in found.items() if not _fits(adapter, weights.get(place))]
        return sorted({*lora} - loaded) + misfits

    def _require_trainable(self, file: Path, model: nn.Module) -> None:
        kind = kind_of(model)
        if re.search(PICTURE_FIRST, kind) or re.search(EDITS, file.stem, re.IGNORECASE):
            raise RecipeError(
                f"{file} is {kind} to ComfyUI and takes a picture beside the text, which is not distilled yet; "
                "expected a model that makes pictures from text alone"
            )
        if model.latent_format.latent_dimensions not in (2, 3):
            raise RecipeError(f"{file} is {kind} to ComfyUI; expected a model that makes pictures")
        network = type(model.diffusion_model).__name__
        if self.version < FLAGGED and network not in UNFLAGGED:
            raise RecipeError(
                f"{file} is {kind} to ComfyUI, which can train it from {_text(FLAGGED)} on; the one in {self.folder} "
                f"is {_text(self.version)}"
            )

    def process(self, model: nn.Module, shift: float | str | None = None) -> Process:
        """The diffusion process of a ``BaseModel``; shift: of a flow, in the place of its own, `SIZED` as `BY_SIZE`.

        Raises RecipeError for one that is none of ours, and for a shift where there is none.
        """
        import comfy.model_sampling as known

        sampling = model.model_sampling
        if isinstance(sampling, known.CONST) and getattr(sampling, "noise_scale", 1.0) == 1:
            if isinstance(sampling, known.ModelSamplingFlux):
                sized = _shift_by_size(model) if shift == SIZED else shift
                return Flow(sized or float(torch.tensor(sampling.shift).exp()), self.device)
            if type(sampling).__bases__[0] is known.ModelSamplingDiscreteFlow:
                if shift == SIZED:
                    raise RecipeError(f"teacher.shift is {SIZED!r}; {kind_of(model)} has one for all, so set a number")
                return Flow(shift or sampling.shift, self.device)
        if type(sampling).__bases__[0] is known.ModelSamplingDiscrete:
            prediction = {known.EPS: "epsilon", known.V_PREDICTION: "v_prediction"}.get(type(sampling).__bases__[1])
            if shift is not None:
                raise RecipeError(
                    f"teacher.shift is for flows; {kind_of(model)} predicts {prediction}, so leave it out"
                )
            if prediction is not None:
                squared = 1 / (1 + sampling.sigmas.double().square())
                return Discrete(squared.to(self.device), prediction)
        how = ", ".join(base.__name__ for base in type(sampling).__bases__)
        raise RecipeError(f"{kind_of(model)} is sampled by {how} in ComfyUI; expected eps, v or a flow")

    def load_model(self, file: Path, dtype: torch.dtype) -> "Loaded":
        """The diffusion model in a file, frozen, in ``dtype``. Weights in 8 bits are held and computed in what ComfyUI
        finds right for them: they stay so, but for float8 without scales where there is room for more."""
        import comfy.sd

        weights, metadata = self._read(file)
        options = {} if _in_8_bits(weights) else {"dtype": dtype}
        patcher = comfy.sd.load_diffusion_model_state_dict(weights, model_options=options, metadata=metadata)
        return Loaded(self, patcher)

    def load_clip(self, files: Sequence[Path], clip_type: str, checkpoint: Path, config):
        """The text encoders in files, or without any in a checkpoint, of which config is the ``model_config``.

        Raises RecipeError for an unknown type, or where there are none, and CheckpointError for a file that is none.
        """
        import comfy.sd

        types = [each.name.lower() for each in comfy.sd.CLIPType]
        if clip_type not in types:
            raise RecipeError(f"teacher.clip_type is {clip_type!r}; expected one of {preview(types, len(types))}")
        for file in files:
            weights, _ = self._read(file)
            # The second is the layout that ComfyUI converts before it looks.
            if comfy.sd.detect_te_model(weights) is None and "transformer.resblocks.0.ln_1.weight" not in weights:
                raise CheckpointError(f"teacher.clip {file}: ComfyUI finds no text encoder in it")
        if files:
            return comfy.sd.load_clip([str(file) for file in files], None, comfy.sd.CLIPType[clip_type.upper()])
        if not any(key.startswith(tuple(config.text_encoder_key_prefix)) for key in read_header(checkpoint).shapes):
            raise RecipeError(
                f"{checkpoint} has no text encoders; name their files, e.g. --set teacher.clip='[\"FILE\"]'"
            )
        nothing = {"output_vae": False, "output_clipvision": False, "output_model": False}
        return comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_clip=True, **nothing)[1]

    def load_vae(self, file: Path | None, checkpoint: Path, config):
        """The autoencoder in a file, or without one in a checkpoint, in float32; config: its ``model_config``.

        Raises RecipeError where there is none.
        """
        import comfy.sd
        import comfy.utils

        weights, metadata = self._read(file or checkpoint)
        if file is None:
            own = {prefix: "" for prefix in config.vae_key_prefix}
            weights = comfy.utils.state_dict_prefix_replace(weights, own, filter_keys=True)
            weights = config.process_vae_state_dict(weights)
        vae = comfy.sd.VAE(sd=weights, metadata=metadata, dtype=torch.float32) if weights else None
        if vae is None or vae.first_stage_model is None:
            raise RecipeError(
                f"{file or checkpoint} has no autoencoder that ComfyUI knows; name its file, --set teacher.vae=FILE"
            )
        return vae

    def release(self) -> None:
        """Have none of what ComfyUI has loaded in the device's memory."""
        import comfy.model_management

        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()

    @contextmanager
    def training(self) -> Iterator[None]:
        """Within, ComfyUI leaves out kernels without a backward pass, where it has a flag for that.

        Networks that do not ask for the flag, as Anima's, have :class:`PlainKernels` instead, which is to be entered
        before `recompute.OutOfPlace`: that looks at who calls it.
        """
        import comfy.model_management as management

        before = getattr(management, "in_training", None)
        if before is None:
            yield
            return
        management.in_training = True
        try:
            with PlainKernels() if torch.is_grad_enabled() else nullcontext():
                yield
        finally:
            management.in_training = before


class PlainKernels(TorchFunctionMode):
    """Within, comfy_kitchen's operators, which have no backward pass, are worked out by its own code in plain torch
    where gradients are to flow through them."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if isinstance(func, (OpOverload, OpOverloadPacket)) and torch.is_grad_enabled():
            library, name, *_ = str(func).split(".")
            if library == "comfy_kitchen" and any(isinstance(each, Tensor) and each.requires_grad for each in args):
                from comfy_kitchen.backends import eager

                return getattr(eager, name)(*args, **kwargs)
        return func(*args, **kwargs)


Parts = Callable[[], tuple[Tensor, Tensor]]  # queries and keys of an attention, each [B, heads, N, d]
Watch = Callable[[Parts], None]


class Loaded:
    """A diffusion model that ComfyUI has loaded: ``model`` is its ``BaseModel``."""

    def __init__(self, host: Host, patcher):
        self.host, self.patcher, self.model = host, patcher, patcher.model
        self._watcher: Callable[[], Watch] | None = None

    def bring(self) -> None:
        """Have all of it in the device's memory; ComfyUI makes room for others by moving it away."""
        import comfy.model_management

        comfy.model_management.load_models_gpu([self.patcher], force_full_load=True)

    def denoise(self, z: Tensor, sigma: Tensor, told: Sequence[Mapping]) -> Tensor:
        """x0 at z, sigma [B] in ComfyUI's scale, in float32; within `Host.training`.

        told: of each sample what ``extra_conds`` takes.
        """
        conds = [self._conds(one[None], given) for one, given in zip(z, told, strict=True)]
        given = {name: first.concat([other[name] for other in conds[1:]]) for name, first in conds[0].items()}
        tensors = {name: brought(value, z.device) for name, value in given.items() if isinstance(value, Tensor)}
        return self.model.apply_model(z, sigma, **given | tensors | self._watching())

    @contextmanager
    def watched(self, watcher: Callable[[], Watch]) -> Iterator[None]:
        """Within, each pass has a ``watcher()`` of its own, which is called at each attention that the network lets
        ComfyUI's users override, in their order, with what gives its queries and keys."""
        before, self._watcher = self._watcher, watcher
        try:
            yield
        finally:
            self._watcher = before

    def _watching(self) -> dict:
        """As ``transformer_options`` has it."""
        if self._watcher is None:
            return {}
        watch = self._watcher()

        def override(attend, q, k, v, heads, *others, **options):
            watch(lambda: _by_heads(q, k, heads, **options))
            return attend(q, k, v, heads, *others, **options)

        return {"transformer_options": {"optimized_attention_override": override}}

    def _conds(self, z: Tensor, told: Mapping) -> dict:
        """What the network is told of one sample, by its own names, as ComfyUI's sampling asks for it."""
        height, width = z.shape[-2:]
        size = {"height": height * PIXELS, "width": width * PIXELS}
        conds = self.model.extra_conds(noise=z, device=z.device, prompt_type="positive", **size, **told)
        if "c_concat" in conds:
            raise RecipeError(f"{kind_of(self.model)} takes a picture beside the text, which is not distilled yet")
        return {name: cond.process_cond(batch_size=1, area=None) for name, cond in conds.items()}


def _by_heads(q: Tensor, k: Tensor, heads: int, skip_reshape: bool = False, scale: float | None = None, **_):
    """Queries and keys [B, heads, N, d], whose products want the usual scale, of what ComfyUI's attention is given."""
    if not skip_reshape:
        q, k = (x.unflatten(-1, (-1, q.shape[-1] // heads)).transpose(1, 2) for x in (q, k))
    if scale is not None:
        q = q * (scale * q.shape[-1] ** 0.5)
    return q, k if k.shape[1] == heads else k.repeat_interleave(heads // k.shape[1], dim=1)


def kind_of(model: nn.Module) -> str:
    """What ComfyUI calls the family of a ``BaseModel``: the class of its config, as "SDXL", "Flux" or "WAN21_T2V"."""
    return type(model.model_config).__name__


def side_of(model: nn.Module) -> int:
    """Of the pictures of a ``BaseModel``'s family, in pixels."""
    return next((SIDES[each.__name__] for each in type(model.model_config).__mro__ if each.__name__ in SIDES), 1024)


def _shift_by_size(model: nn.Module) -> Callable[[int, int], float]:
    """The shift for latents of a height and a width. Raises RecipeError for a family whose latents are unknown here."""
    known = ARCHITECTURES.get(kind_of(model))
    if known is None:
        raise RecipeError(f"teacher.shift is {SIZED!r}, for which {kind_of(model)} is not known here; set a number")
    return lambda height, width: math.exp(BY_SIZE.at(known.latent.tokens(height, width)))


def _fits(adapter, weight: Tensor | None) -> bool:
    """Whether the product of a LoRA's factors, as ComfyUI's loader holds them, has a weight's shape."""
    up, down, *_ = adapter.weights
    return weight is not None and weight.shape == (len(up), *down.shape[1:])


def _in_8_bits(weights: Mapping[str, Tensor]) -> bool:
    return any(weight.element_size() == 1 for weight in weights.values() if weight.ndim > 1)


def _text(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
