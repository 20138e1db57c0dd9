"""What a whole step of ``lcm`` takes on a full-size UNet: kernels, the bytes that they move, the most bytes held.

usage: python bench/train_steps.py prints what is held of Z-Image; train_speed.py --counts has all rows.

Counted on fake tensors like train_moves.py's passes, with its sizes and its meaning of a kernel: the trainer's own
step, by the recipe ``lcm-lora``, and the step of a plain loop with peft's adapters and a network for the teacher. What
is held begins with the networks, their adapters and the optimizer's state; the text encoders and the autoencoder are
gone by then. A fake CPU's kernels stand for a GPU's, so work memory within a kernel, a caching allocator's gaps and the
driver's own 0.5 GiB or so are not in it.
"""

import json
from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from train_moves import BASES, HALF, Moves, norms_as_on_cuda, plain, with_fake_weights, with_peft
from train_plain import PlainLoop
from understudy.distill_train.config import Recipe
from understudy.distill_train.data.batch import Batch
from understudy.distill_train.process import Discrete
from understudy.distill_train.run.command import find_recipe
from understudy.distill_train.run.memory import LiveTensors
from understudy.distill_train.teachers.precision import with_own_norms
from understudy.distill_train.teachers.stable_diffusion import StableDiffusionTeacher
from understudy.samplers.denoisers import scaled_linear


class FullSize(StableDiffusionTeacher):
    """Stable Diffusion's UNet with fake weights in half precision, and embeddings of the right shapes."""

    def __init__(self, base: str, adapted=plain):
        self.config, self.side = BASES[base]
        self.kind, self.file, self.fingerprint = {"SD 1.5": "sd1", "SDXL": "sdxl"}[base], base, "0" * 64
        self.device, self.guidance_width, self._ids = torch.device("cpu"), None, {}
        self.latent_channels, self.default_size = 4, 8 * self.side
        self.process = Discrete(scaled_linear().float())
        with unset_fake_temporarily(), torch.device("meta"):
            self.unet = adapted(self.outline().requires_grad_(False)).eval()
        with_fake_weights(self.unet)
        self._nothing = self.embed([""])

    def outline(self):
        from diffusers import UNet2DConditionModel

        with torch.device("meta"):
            return UNet2DConditionModel(**self.config)

    def embed(self, prompts):
        states = {"context": torch.randn(len(prompts), 77, self.config["cross_attention_dim"])}
        return states | ({"pooled": torch.randn(len(prompts), 1280)} if self.kind == "sdxl" else {})

    def batch(self, step: int, indices: range) -> Batch:
        """As a source of data."""
        latents = torch.randn(len(indices), self.latent_channels, self.side, self.side)
        size = self.default_size
        return Batch(latents, self.embed([""] * len(indices)), height=size, width=size)


class Plain:
    """The plain loop."""

    def __init__(self, base: str, recipe: Recipe):
        self.data = FullSize(base)
        student = FullSize(base, with_peft).unet.train()
        if recipe.loop.checkpointing:
            student.enable_gradient_checkpointing()
        _, nothing = self._part(1)
        self.loop = PlainLoop(self.data.unet, student, scaled_linear().float(), nothing, HALF)

    def held(self):
        return [*self.loop.teacher.parameters(), *self.loop.student.parameters()]

    def advance(self, parts: int, size: int) -> None:
        """A step of so many parts of so many samples."""
        self.loop.step([self._part(size) for _ in range(parts)])

    def _part(self, count: int):
        batch = self.data.batch(0, range(count))
        told = {"encoder_hidden_states": batch.embeddings["context"]}
        if sizes := self.data.sizes(batch.height, batch.width, count):
            told["added_cond_kwargs"] = {"text_embeds": batch.embeddings["pooled"], **sizes}
        return batch.latents, told


class Trained:
    """The trainer's own step."""

    def __init__(self, base: str, recipe: Recipe):
        from understudy.distill_train.methods import make_method
        from understudy.distill_train.run.processes import start_process
        from understudy.distill_train.run.training import Training

        teacher = FullSize(base)
        with_own_norms(teacher.unet)  # as the trainer reads it
        with unset_fake_temporarily():  # the outline is looked at
            method = make_method(recipe, teacher.device, teacher=teacher, source=teacher)
        method.make_student()  # as `prepare` does
        method.network.to = lambda *_: method.network  # fake weights cannot change places, and need not
        self.teacher, self.training = teacher, Training(method, start_process("cpu"))

    def held(self):
        averages = [self.training.ema, *self.training.method.averages()]
        return [
            *self.teacher.unet.parameters(),
            *self.training.network.parameters(),
            *(weight for average in averages for weight in average.weights),
        ]

    def advance(self, parts: int, size: int) -> None:
        self.training.settle(accumulate=parts, batch_size=parts * size)
        self.training.advance()


LOOPS = {"plain": Plain, "understudy": Trained}
BATCH = 12  # of the recipe

# What is compared: a loop, the size of a part, and whether activations are recomputed. Parts of 4, recomputed, are what
# the recipe said before it left them to be measured; then there were averages of 0.99 and 0.95 besides.
STEPS = {
    "SD 1.5": [("plain", 4, True), ("understudy", 4, True), ("understudy", 6, False), ("understudy", 12, False)],
    "SDXL": [("plain", 4, True), ("understudy", 1, True), ("understudy", 4, True), ("understudy", 6, True)],
}


def step(base: str, loop: str, size: int, recomputed: bool) -> dict:
    """A row, of a whole batch: kernels, GiB that they move, and the most GiB that are held in the meantime.

    All parts are alike, so two steps are counted, of one part and of two; the optimizer's state is there already.
    """
    changes = ("loop.accumulate=1", f"loop.checkpointing={str(recomputed).lower()}", "loop.precision=bf16")
    recipe, _ = find_recipe(Path("lcm-lora"), changes)
    with FakeTensorMode(), norms_as_on_cuda():
        trained, counts = LOOPS[loop](base, recipe), []
        with LiveTensors() as live:
            live.hold(trained.held())
            trained.advance(1, size)
            live.forget_peak()
            for parts in (1, 2):
                with Moves() as moved:
                    trained.advance(parts, size)
                counts.append((moved.kernels, moved.bytes / 2**30))
    parts = BATCH // size
    kernels, moved_gib = (one + (parts - 1) * (two - one) for one, two in zip(*counts, strict=True))
    row = {"base": base, "loop": loop, "parts": parts, "recomputed": recomputed, "kernels": kernels}
    return row | {"moved_gib": round(moved_gib, 1), "held_gib": round(live.peak / 2**30, 2)}


Z_IMAGE_RANKS = (32, 64)  # the second is the one of `understudy train init`


def z_image(rank: int = Z_IMAGE_RANKS[0], side: int = 1024, text: int = 256) -> dict:
    """The most GiB that a step of one picture holds of Z-Image's blocks, which are all but a fraction of its weights.

    A LoRA on attention and feed-forward, with AdamW; blocks are recomputed; frozen weights have 8 bits, as a host loads
    them, and are brought to half precision one layer at a time.
    """
    from diffusers.models.transformers.transformer_z_image import ZImageTransformerBlock
    from torch.utils.checkpoint import checkpoint
    from understudy.distill_train.students.adapters import Adapters

    width, heads, blocks = 3840, 30, 34  # refiners included
    places = (side // 16) ** 2 + text
    with torch.device("meta"):
        network = nn.ModuleList(ZImageTransformerBlock(n, width, heads, heads, 1e-5, True) for n in range(blocks))
        network.requires_grad_(False)
        adapters = Adapters(network)
        adapters.add("student", ("to_q", "to_k", "to_v", "to_out.0", "w1", "w2", "w3"), rank)
    with FakeTensorMode():
        with_fake_weights(network, adapters)
        optimizer = torch.optim.AdamW(adapters.parameters(), fused=True)
        told = None, torch.empty(1, places, width // heads // 2, dtype=torch.complex64), torch.randn(1, 256, dtype=HALF)
        with LiveTensors() as live:
            live.hold([*network.parameters(), *adapters.parameters()])
            for _ in range(2):
                live.forget_peak()
                x = torch.randn(1, places, width, dtype=HALF)
                with torch.autocast("cpu", HALF):
                    for block in network:
                        x = checkpoint(block, x, *told, use_reentrant=False)
                x.float().square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
    frozen = sum(weight.numel() for weight in network.parameters())
    row = {"base": "Z-Image, 8 bits", "frozen_billions": round(frozen / 1e9, 2), "rank": rank, "recomputed": True}
    return row | {"held_gib": round((live.peak - frozen) / 2**30, 2)}


if __name__ == "__main__":
    for rank in Z_IMAGE_RANKS:
        print(json.dumps(z_image(rank)), flush=True)
