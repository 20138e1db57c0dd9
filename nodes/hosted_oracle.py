"""An oracle whose network ComfyUI loads and offloads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..oracles.base import NoScore, Oracle, check_images


class HostedOracle:
    """An oracle whose network ComfyUI loads and offloads; called as the oracle itself is."""

    # One picture's activations in the largest CLIP, generously; the pictures themselves come on top.
    ACTIVATIONS = 64 * 2**20
    passes = 1  # how often it looks at each image

    def __init__(self, oracle: Oracle):
        import comfy.model_management
        import comfy.model_patcher

        self.oracle = oracle
        # The patcher sets `device` on its model, which a transformers network does not allow: hence the list.
        self.patcher = comfy.model_patcher.ModelPatcher(
            torch.nn.ModuleList([oracle.network]),
            load_device=comfy.model_management.get_torch_device(),
            offload_device=comfy.model_management.unet_offload_device(),
        )

    @property
    def family(self) -> str:
        return self.oracle.family

    @property
    def unit(self) -> str:
        return self.oracle.unit

    @property
    def reads_prompts(self) -> bool:
        return self.oracle.reads_prompts

    @property
    def fingerprint(self) -> str:
        return self.oracle.fingerprint

    @property
    def against(self) -> str | None:
        return self.oracle.against

    def require_count(self, images: int) -> None:
        self.oracle.require_count(images)

    def remarks(self, prompts: Sequence[str]) -> list[str]:
        return self.oracle.remarks(prompts)

    def __call__(
        self,
        images: torch.Tensor,
        prompts: Sequence[str],
        places: Sequence[int] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> torch.Tensor:
        """Scores ``[B]`` (float32, CPU) of images ``[B, 3, H, W]`` in [0, 1]; in chunks that fit the free memory.

        places: the images' numbers among all; None: 0, 1, 2 ... on_progress: called with each chunk's count of images.
        Raises OracleError as the oracle does.
        """
        import comfy.model_management as management

        check_images(images, prompts, places)
        places = range(len(images)) if places is None else places
        per_image = 4 * images[0].numel() * 4 + self.ACTIVATIONS
        management.load_models_gpu([self.patcher], memory_required=per_image, force_full_load=True)
        free = management.get_free_memory(self.patcher.load_device)
        chunk = int(max(1, min(len(images), 64, 0.5 * free // per_image)))
        scores = []
        for start in range(0, len(images), chunk):
            management.throw_exception_if_processing_interrupted()
            part = slice(start, start + chunk)
            try:
                scores.append(self.oracle(images[part], prompts[part], places[part]))
            except NoScore as error:
                raise NoScore(error.reason, error.image, error.prompt, self._advice()) from error
            if on_progress is not None:
                on_progress(len(scores[-1]))
        return torch.cat(scores)

    def _advice(self) -> str:
        """What to do where a score is no number: ComfyUI has no widget for the precision that it chooses."""
        if all(weights.dtype == torch.float32 for weights in self.oracle.network.parameters()):
            return "look at what made the image"
        return "start ComfyUI with --force-fp32, or look at what made the image"
