"""Pairs of real models: a student that people use, and the teacher that shares its latents.

How they are sampled is by the table of ``samplers/presets``; a graph says nothing of it but the student's steps. Their
order is that of the official templates' use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...samplers.presets import STUDENTS, TEACHERS, way_back
from .. import model_files as published
from ..block import Block
from ..blocks import adaptive_sampler
from ..cards import REDONE
from ..graph import Graph, Look
from ..layout import WHOLE, columns
from ..loading import Loading, lora_on_checkpoint, lora_on_network, oracle, two_checkpoints, two_networks
from ..model_files import ModelFile, in_words
from ..notes import OF_AN_APP
from ..notes import files as listed

COUNT, SHARE = 4, 0.25
APP = "Understudy 18 - Z-Image-Turbo as an app"
PROMPT = "a red fox in a yellow raincoat reads a newspaper on a park bench, photograph"
ABOUT = """
**{student}** makes {count} images in {steps} steps each, **ImageReward** scores them, and **{teacher}** redoes the \
worst quarter in {teacher_steps} steps at cfg {cfg:g}, from noise {noise:.2f}. The others stay as they are, bit for bit.

Get the files, press **Run**. Steps, cfg, sampler, shift and the way back are those published for these models; you \
need not set any.{remark}

- ComfyUI {host} or later
- {size} of files; ComfyUI moves student and teacher in and out of the card's memory, so they need not fit into it \
together
- an image costs {cost} evaluations of the network, one that is redone {teacher_cost} more: {mean:g} on average

{files}
"""


@dataclass(frozen=True)
class Pair:
    """A student and its teacher, each with its key in the table. host: the oldest that has both. remark: what else a
    user should know. sampling: of Student sampler, where files' names do not say it."""

    number: int
    name: str
    student: str
    teacher: str
    teacher_name: str
    loading: Loading
    host: str
    side: int = 1024
    remark: str = ""
    sampling: Mapping = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"Understudy {self.number} - {self.name}"

    @property
    def files(self) -> list[ModelFile]:
        return [*self.loading.files, published.IMAGE_REWARD]

    @property
    def steps(self) -> int:
        """The student's: what its file's name says, or what is usual."""
        row = STUDENTS[self.student]
        return next((row.steps_of(each.name) for each in self.files if row.match(each.name)), None) or row.steps

    @property
    def cost(self) -> int:
        return self.steps * (2 if self.sampling.get("cfg", 1) > 1 else 1)

    @property
    def teacher_cost(self) -> int:
        row = TEACHERS[self.teacher]
        return row.steps * (2 if row.cfg > 1 else 1)

    def note(self) -> str:
        row = TEACHERS[self.teacher]
        return ABOUT.format(
            student=self.name,
            teacher=self.teacher_name,
            count=COUNT,
            steps=self.steps,
            teacher_steps=row.steps,
            cfg=row.cfg,
            noise=way_back(STUDENTS[self.student], row),
            remark=self.remark and f" {self.remark}",
            host=self.host,
            size=in_words(sum(each.bytes for each in self.files)),
            cost=self.cost,
            teacher_cost=self.teacher_cost,
            mean=self.cost + SHARE * self.teacher_cost,
            files=listed(self.files),
        )

    def graph(self) -> Graph:
        return self._graph(self.title)

    def app(self) -> Graph:
        """The same in the front end's app mode: prompt, seed, share and the receipt, and no nodes."""
        graph = self._graph(APP, f"{OF_AN_APP}\n\n")
        block, receipt = graph.node(self.block.name), graph.node("Receipt")
        graph.open_as_app([(block, "prompt"), (block, "share"), (block, "seed")], [receipt])
        return graph

    @property
    def block(self) -> Block:
        named = {"name": f"Adaptive {self.student}"} if self.sampling else {}
        return adaptive_sampler(**named, **self.sampling)

    def _graph(self, name: str, first: str = "") -> Graph:
        """first: what its note says before all else."""
        graph = Graph(name)
        read, left, middle, right = columns(graph, 220, 220, 230, 310)
        read.note("Read me", first + self.note().strip(), WHOLE)
        judge, loaded = oracle(left), self.loading.into(left)
        block = middle.add(
            self.block,
            **loaded._asdict(),
            oracle=judge,
            prompt=PROMPT,
            seed=7,
            steps=self.steps,
            share=SHARE,
            width=self.side,
            height=self.side,
            count=COUNT,
            save="all",
        )
        right.add("PreviewImage", Look("Receipt", height=WHOLE), images=block["receipt"])
        return graph

    def drawn(self) -> tuple[list[tuple[str, str]], list[str]]:
        """Lines and stars of its card."""
        row = TEACHERS[self.teacher]
        lines = [
            ("student", f"{self.name}, {self.steps} steps"),
            ("oracle", "ImageReward"),
            ("teacher", self.teacher_name),
            ("redoes", f"the worst in {row.steps} steps, cfg {row.cfg:g}"),
        ]
        return lines, REDONE


PAIRS = (
    Pair(
        number=10,
        name="Z-Image-Turbo",
        student="z-image-turbo",
        teacher="z-image",
        teacher_name="Z-Image",
        loading=two_networks(
            published.Z_IMAGE_TURBO, published.Z_IMAGE, published.Z_IMAGE_TEXTS, "lumina2", published.Z_IMAGE_VAE
        ),
        host="0.23.0",
    ),
    Pair(
        number=11,
        name="Krea 2 Turbo",
        student="krea2-turbo",
        teacher="krea2-raw",
        teacher_name="Krea 2 RAW",
        loading=two_networks(
            published.KREA_TURBO, published.KREA_RAW, published.KREA_TEXTS, "krea2", published.KREA_VAE
        ),
        host="0.26.0",  # the first with its text encoder among CLIPLoader's types
        remark="RAW is a model to train on, so it may make an image worse: the oracle says which of the two stays.",
    ),
    Pair(
        number=12,
        name="Qwen-Image Lightning",
        student="qwen-image-lightning",
        teacher="qwen-image",
        teacher_name="Qwen-Image 2512",
        loading=lora_on_network(
            published.QWEN_2512, published.QWEN_2512_LIGHTNING, published.QWEN_TEXTS, "qwen_image", published.QWEN_VAE
        ),
        host="0.8.0",
        side=1328,
    ),
    Pair(
        number=13,
        name="FLUX.2 klein",
        student="flux2-klein",
        teacher="flux2-klein-base",
        teacher_name="FLUX.2 klein base",
        loading=two_networks(
            published.KLEIN, published.KLEIN_BASE, published.KLEIN_TEXTS, "flux2", published.KLEIN_VAE
        ),
        host="0.11.0",  # the first whose Empty Latent Image has the size that it says for FLUX.2, too
        remark="Both are of 4B; the 9B models need another text encoder.",
    ),
    Pair(
        number=14,
        name="SDXL Lightning",
        student="sdxl-lightning",
        teacher="sdxl",
        teacher_name="SDXL",
        loading=lora_on_checkpoint(published.SDXL, published.SDXL_LIGHTNING),
        host="0.8.0",
        remark="Any other SDXL checkpoint will do as well.",
    ),
    Pair(
        number=15,
        name="SDXL with DMD2",
        student="dmd2",
        teacher="sdxl",
        teacher_name="SDXL",
        loading=lora_on_checkpoint(published.SDXL, published.SDXL_DMD2),
        host="0.8.0",
        remark="Any other SDXL checkpoint will do as well. DMD2's licence, CC BY-NC 4.0, is for non-commercial use.",
    ),
    Pair(
        number=16,
        name="FLUX.1 schnell",
        student="flux1-schnell",
        teacher="flux1-dev",
        teacher_name="FLUX.1 dev",
        loading=two_checkpoints(published.SCHNELL, published.DEV),
        host="0.8.0",
        remark="dev's own licence is for non-commercial use.",
    ),
    Pair(
        number=17,
        name="SD 1.5 with LCM LoRA",
        student="LCM-LoRA",
        teacher="sd15",
        teacher_name="SD 1.5",
        loading=lora_on_checkpoint(published.SD15, published.SD15_LCM),
        host="0.8.0",
        side=512,
        remark="The LoRA's file does not say what it is, so the student's *preset*, in the block, does.",
        sampling={"preset": "LCM-LoRA", "cfg": 1.8},
    ),
)
TEMPLATES = (*(pair.graph for pair in PAIRS), PAIRS[0].app)
CARDS = {pair.title: pair.drawn() for pair in PAIRS} | {APP: PAIRS[0].drawn()}
