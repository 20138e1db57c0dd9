"""Cut a batch down to some of its images, together with everything in conditioning and latents that carries a batch.

ComfyUI repeats a tensor of M entries to a batch of B images when it samples, by one of two rules. So the entry that
belongs to image i is found first, by the host's rule, and only then is the batch cut. No input is changed in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

# Keys of a conditioning's options whose tensors the host repeats cyclically (comfy.utils.repeat_to_batch_size) ...
CYCLIC = frozenset(
    {
        "cross_attn",
        "pooled_output",
        "attention_mask",
        "cross_attn_controlnet",
        "noise_concat",
        "reference_latents",
        "mask",
        "conditioning_llama3",
        "conditioning_mt5xl",
        "attention_mask_mt5xl",
        "conditioning_byt5small",
    }
)
# ... and those that it stretches over the batch (comfy.utils.resize_to_batch_size).
STRETCHED = frozenset({"concat_latent_image", "concat_mask", "concat_image"})
# These may have no batch: height and width of one mask for all images.
MASKS = frozenset({"mask", "concat_mask"})


def cyclic(image: int, entries: int, batch: int) -> int:
    """The entry, of ``entries``, that ``comfy.utils.repeat_to_batch_size`` gives to ``image`` of ``batch``."""
    return image % entries


def entry_of_image(image: int, entries: int, batch: int) -> int:
    """The entry, of ``entries``, that ``comfy.utils.resize_to_batch_size`` gives to ``image`` of ``batch``."""
    if batch <= 1 or entries == batch:
        return image
    if batch < entries:
        return min(round(image * (entries - 1) / (batch - 1)), entries - 1)
    return min(int((image + 0.5) * entries / batch), entries - 1)


def mask_per_image(mask: torch.Tensor, latents: Sequence[int]) -> torch.Tensor:
    """A noise mask [..., H, W] with its batch first and as many dimensions as latents of shape [B, C, (T,) h, w].

    For latents with frames the host reads a mask of fewer than 5 dimensions as the frames of one video. That holds here
    for a single latent; several images (T = 1) have a mask each, and so have B videos if there are B masks, not T.
    Returns what is left to the host as it is.
    """
    batch, frames = latents[0], latents[2] if len(latents) == 5 else 1
    if len(latents) == 4:
        return mask.reshape(-1, 1, *mask.shape[-2:])
    if len(latents) != 5 or mask.ndim == 5 or batch == 1:
        return mask
    masks = mask.reshape(-1, 1, 1, *mask.shape[-2:])
    return masks if frames == 1 or len(masks) == batch != frames else mask


def cond_masks_per_image(conds: list[dict], latent_size: Sequence[int]) -> list[dict]:
    """The same for the masks of a guider's conditioning, which the host takes for frames, too.

    latent_size: (T,) h, w.
    """
    if len(latent_size) != 3 or latent_size[0] != 1:
        return conds
    return [{**cond, "mask": cond["mask"][:, None]} if _has_masks(cond) else cond for cond in conds]


def _has_masks(options: Mapping) -> bool:
    return "mask" in options and options["mask"].ndim == 3 and options["mask"].shape[0] > 1


@dataclass
class Subset:
    """Some images of a batch: ``images`` are their places in it, ``batch`` is how many there are.

    One Subset cuts everything that belongs to one sampling run, so that a ControlNet which positive and negative share
    becomes one new ControlNet that both share, and guidance still runs as one batch.
    """

    images: Sequence[int]
    batch: int
    controls: dict[int, object] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return list(self.images) == list(range(self.batch))

    def tensor(self, tensor: torch.Tensor, rule: Callable[[int, int, int], int] = cyclic) -> torch.Tensor:
        """The images' entries along the first dimension; a single entry, which the host repeats, stays as it is."""
        entries = tensor.shape[0]
        return tensor if entries == 1 else tensor[[rule(i, entries, self.batch) for i in self.images]]

    def conditioning(self, conditioning: list, latent_size: Sequence[int] | None) -> list:
        """A ComfyUI conditioning ``[[tensor, options], ...]``, cut.

        latent_size: height and width of the latents, in which the area that the masks of the whole batch bound is found
        before the cut; None leaves that to who samples, of the masks that are left.
        """
        if self.whole:
            return conditioning
        return [[None if text is None else self.tensor(text), self._options(options, latent_size)]
                for text, options in conditioning]  # fmt: skip

    def conds(self, conds: list[dict], latent_size: Sequence[int]) -> list[dict]:
        """A conditioning as a guider of the host holds it, the text among the options, cut."""
        return conds if self.whole else [self._options(cond, latent_size) for cond in conds]

    def latent(self, latent: Mapping) -> dict:
        """A ComfyUI latent ``{"samples": ..., "noise_mask": ..., "batch_index": ...}``, cut."""
        if self.whole:
            return dict(latent)
        cut = dict(latent, samples=latent["samples"][list(self.images)])
        if "batch_index" in latent:
            cut["batch_index"] = [latent["batch_index"][i] for i in self.images]
        if "noise_mask" in latent:
            mask = mask_per_image(latent["noise_mask"], latent["samples"].shape)
            # Fewer dimensions than the latents': the frames of one video, the same for the whole batch.
            cut["noise_mask"] = self.tensor(mask) if mask.ndim == latent["samples"].ndim else mask
        return cut

    def control(self, control):
        """A ControlNet and the chain behind it, hints and extra inputs cut; the same object gives the same copy."""
        if control is None:
            return None
        if id(control) not in self.controls:
            cut = control.copy()
            hint, hints = control.cond_hint_original, 1
            if hasattr(control, "sub_idxs"):  # Advanced-ControlNet: it takes hint and masks by ``ad_params`` itself
                hints = self.batch
            elif hint is not None:
                hints = hint.shape[0]
                cut.cond_hint_original = self.tensor(hint)
            # The host repeats these to the hint first, and to the batch only together with it.
            cut.extra_concat_orig = [extra if extra.shape[0] == 1 else self._of_hint(extra, hints)
                                     for extra in control.extra_concat_orig]  # fmt: skip
            cut.extra_args = {name: self._value(name, value) for name, value in control.extra_args.items()}
            cut.set_previous_controlnet(self.control(control.previous_controlnet))
            self.controls[id(control)] = cut
        return self.controls[id(control)]

    def _of_hint(self, extra: torch.Tensor, hints: int) -> torch.Tensor:
        return extra[:1] if hints == 1 else extra[[i % hints % extra.shape[0] for i in self.images]]

    def _options(self, options: Mapping, latent_size: Sequence[int] | None) -> dict:
        if latent_size is not None and options.get("set_area_to_bounds") and "mask" in options:
            options = _bounds_of_whole_batch(options, latent_size)
        return {name: self._value(name, value) for name, value in options.items()}

    def _value(self, name: str, value):
        if name == "control":
            return self.control(value)
        if name == "model_conds":
            return {key: self._model_cond(cond) for key, cond in value.items()}
        if name.startswith("clip_vision_output") and hasattr(value, "penultimate_hidden_states"):
            cut = copy.copy(value)
            tensors = {key: each for key, each in vars(value).items() if torch.is_tensor(each)}
            vars(cut).update({key: self.tensor(each) for key, each in tensors.items()})
            return cut
        if isinstance(value, (list, tuple)) and value and all(torch.is_tensor(each) for each in value):
            return type(value)(self._value(name, each) for each in value)
        if not torch.is_tensor(value) or value.ndim < 2 or (name in MASKS and value.ndim == 2):
            return value
        if name in STRETCHED:
            return self.tensor(value, entry_of_image)
        # A key that is not known here carries the batch if its tensor is as long as the batch.
        return self.tensor(value) if name in CYCLIC or value.shape[0] == self.batch else value

    def _model_cond(self, cond):
        from comfy.conds import CONDConstant

        if isinstance(cond, CONDConstant):
            return cond
        if isinstance(cond.cond, list):
            return cond._copy_with([self.tensor(each) for each in cond.cond])
        return cond._copy_with(self.tensor(cond.cond))


def _bounds_of_whole_batch(options: Mapping, latent_size: Sequence[int]) -> dict:
    """``set_area_to_bounds`` is the area that all masks of the batch cover: found as the host does, before the cut."""
    from comfy.samplers import resolve_areas_and_cond_masks_multidim

    resolved = [dict(options)]
    resolve_areas_and_cond_masks_multidim(resolved, torch.Size(latent_size), options["mask"].device)
    return {**resolved[0], "set_area_to_bounds": False}
