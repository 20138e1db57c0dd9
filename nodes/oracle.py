"""Load an oracle and score images with it, or take scores from another pack."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import torch
from comfy_api.latest import io

from ..oracles import FAMILIES, load_oracle
from ..oracles.base import NoScore, Oracle, OracleError, check_images
from ..oracles.combine import CombinedOracle
from ..oracles.scores import Scores, image_id
from .batches import for_oracle, one_per_image, sizes_of, split
from .display import shown
from .folders import NONE, encoder_files, oracle_files, oracle_path
from .schema import schema
from .types import OracleSocket, ScoresSocket
from .upstream import host_options, settings_upstream

log = logging.getLogger(__name__)


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
    def fingerprint(self) -> str:
        return self.oracle.fingerprint

    def remarks(self, prompts: Sequence[str]) -> list[str]:
        return self.oracle.remarks(prompts)

    def __call__(
        self,
        images: torch.Tensor,
        prompts: Sequence[str],
        first: int = 0,
        on_progress: Callable[[int], None] | None = None,
    ) -> torch.Tensor:
        """Scores ``[B]`` (float32, CPU) of images ``[B, 3, H, W]`` in [0, 1]; in chunks that fit the free memory.

        first: the number of the first image, for error messages. on_progress: called with each chunk's count of images.
        Raises OracleError as the oracle does.
        """
        import comfy.model_management as management

        check_images(images, prompts, first)
        per_image = 4 * images[0].numel() * 4 + self.ACTIVATIONS
        management.load_models_gpu([self.patcher], memory_required=per_image, force_full_load=True)
        free = management.get_free_memory(self.patcher.load_device)
        chunk = int(max(1, min(len(images), 64, 0.5 * free // per_image)))
        scores = []
        for start in range(0, len(images), chunk):
            management.throw_exception_if_processing_interrupted()
            part = slice(start, start + chunk)
            try:
                scores.append(self.oracle(images[part], prompts[part], first + start))
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


class UnderstudyLoadOracle(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyLoadOracle",
            display_name="Understudy Load Oracle",
            description=(
                "Loads a model that scores images: ImageReward, HPSv2 and v2.1, PickScore, CLIPScore, LAION aesthetic "
                "v2, aesthetic v2.5. Files go into models/oracles."
            ),
            search_aliases=["clip score", "reward model", "image scorer", "aesthetic", "preference model", "pickscore"],
            inputs=[
                io.Combo.Input(
                    "oracle_name",
                    options=oracle_files(),
                    tooltip=(
                        "A file in models/oracles, as published or made by 'understudy oracle convert'; whole CLIPs in "
                        "models/clip_vision are CLIPScore oracles."
                    ),
                ),
                io.Combo.Input(
                    "family",
                    options=["auto", *FAMILIES],
                    default="auto",
                    tooltip=(
                        "How the file scores. auto tells it from the tensors, and where families share a layout, from "
                        "the file's metadata, hash or published name."
                    ),
                ),
                io.Combo.Input(
                    "encoder",
                    options=[NONE, *encoder_files()],
                    default=NONE,
                    optional=True,
                    tooltip=(
                        "The image encoder, where the file is only the head of an aesthetic predictor: CLIP ViT-L/14 "
                        "for LAION's v2, SigLIP so400m-patch14-384 for v2.5."
                    ),
                ),
            ],
            outputs=[OracleSocket.Output(id="oracle", tooltip="For Score Images, Keep Better and Combine Oracles.")],
        )

    @classmethod
    def execute(cls, oracle_name: str, family: str, encoder: str = NONE) -> io.NodeOutput:
        path = oracle_path(oracle_name)
        second = None if encoder == NONE else oracle_path(encoder)
        return io.NodeOutput(HostedOracle(load_oracle(path, family, dtype=_dtype(), encoder=second)))


class UnderstudyScoreImages(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyScoreImages",
            display_name="Understudy Score Images",
            description="Scores each image for its prompt; higher is better.",
            search_aliases=["rate images", "image quality", "clip score", "judge"],
            is_input_list=True,
            inputs=[
                OracleSocket.Input("oracle", tooltip="The model that scores: Load Oracle, or Load Demo."),
                io.Image.Input("images", tooltip="A batch, or a list of batches; each image gets a score of its own."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    tooltip="What the images should show: one prompt for all, or a list with one per image or batch.",
                ),
            ],
            outputs=[
                ScoresSocket.Output(
                    id="scores",
                    is_output_list=True,
                    tooltip="The scores with their images' identity and settings; one SCORES per batch that came in.",
                ),
                io.Float.Output(
                    id="values", is_output_list=True, tooltip="The plain numbers, one per image, as a list."
                ),
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, oracle: list, images: list, prompt: list) -> io.NodeOutput:
        import comfy.utils

        sizes = sizes_of(images)
        if not sizes or 0 in sizes:
            raise ValueError("there is a batch without images to score; connect at least one image")
        prompts = one_per_image(prompt, sizes, "prompts")
        settings = _settings(cls.hidden, ["images"])
        if isinstance(oracle[0], CombinedOracle):
            oracle[0].require(settings)
        progress = comfy.utils.ProgressBar(sum(sizes) * oracle[0].passes)
        scores = []
        for batch, texts in zip(images, split(prompts, sizes), strict=True):
            seen = sum(len(each.values) for each in scores)
            pictures = for_oracle(batch, range(seen, seen + len(batch)))
            values = tuple(oracle[0](pictures, texts, seen, progress.update).tolist())
            ids = tuple(image_id(picture) for picture in pictures)
            scores.append(Scores(values, ids, oracle[0].fingerprint, texts, settings, family=oracle[0].family))
        values = [value for batch in scores for value in batch.values]
        remarks = oracle[0].remarks(prompts)
        for remark in remarks:
            log.warning("Understudy: %s", remark)
        text = "\n".join([_listed(values, oracle[0].unit), *remarks])
        return io.NodeOutput(scores, values, ui=shown(text, cls.hidden.unique_id))


class UnderstudyScoresFromList(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyScoresFromList",
            display_name="Understudy Scores From List",
            description="Makes SCORES of any numbers, one per image, so that another pack's judge can decide.",
            search_aliases=["float list", "external score", "vlm judge"],
            is_input_list=True,
            inputs=[
                io.Float.Input("scores", force_input=True, tooltip="One number per image; higher is better."),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="The images that were scored: their count is checked, and Calibrate needs to know them.",
                ),
            ],
            outputs=[
                ScoresSocket.Output(
                    id="scores",
                    is_output_list=True,
                    tooltip="The numbers as SCORES: one per batch of images, or a single one without images.",
                )
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, scores: list, images: list | None = None) -> io.NodeOutput:
        settings = _settings(cls.hidden, ["images", "scores"])
        if images is None:
            sizes, ids = [len(scores)], ("",) * len(scores)
        else:
            sizes = sizes_of(images)
            ids = tuple(image_id(picture) for batch in images for picture in for_oracle(batch))
        if sum(sizes) != len(scores):
            raise ValueError(f"{len(scores)} scores for {sum(sizes)} images; expected one score per image")
        if not scores:
            raise OracleError("there are no scores; expected one number per image")
        for index, value in enumerate(scores):
            if math.isnan(value):
                raise OracleError(f"the score of image {index} is not a number (NaN); look at what scored it")
        batches = zip(split([float(value) for value in scores], sizes), split(ids, sizes), strict=True)
        made = [Scores(values, of, None, ("",) * len(values), settings) for values, of in batches]
        return io.NodeOutput(made, ui=shown(_listed(scores), cls.hidden.unique_id))


def _dtype() -> torch.dtype:
    """The dtype of an oracle on the host's device: half precision where the host finds it fast there.

    Not the host's ``text_encoder_dtype``: that is float16 even on a CPU, and float8 where the user asks for it, because
    the host's own layers cast their weights in use. Those of transformers compute in the dtype that they have.
    """
    import comfy.model_management as management

    device = management.get_torch_device()
    if management.should_use_fp16(device):
        return torch.float16
    return torch.bfloat16 if management.should_use_bf16(device) else torch.float32


def _settings(hidden, inputs: list[str]) -> dict:
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


def _listed(values: Sequence[float], unit: str = "") -> str:
    """The range of the scores, then each of them under its image's number, in rows of four."""
    heading = f"{len(values)} scores, {min(values):.3f} to {max(values):.3f}" + (f" ({unit})" if unit else "")
    numbered = [f"{index}: {value:.3f}" for index, value in enumerate(values)]
    return "\n".join([heading, *(", ".join(numbered[start : start + 4]) for start in range(0, len(numbered), 4))])
