"""Where a network looks in its picture: how much attention each place receives in one of its self-attentions."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from ...files import preview
from ...samplers.attention_guidance import column_sums
from ..config import RecipeError
from ..host import Parts
from ..recompute import blocks_of
from ..teachers import Teacher
from ..teachers.comfy import HostNetwork
from .classifier_free import Conditioning, Run
from .tokens import Tokens, find_tokens


class Recorder:
    """Keeps the column sums of an attention's maps, of as many passes as there are until they are taken."""

    def __init__(self):
        self.passes: list[Tensor] = []

    def note(self, q: Tensor, k: Tensor, heads: int) -> None:
        """q, k: [B, N, heads * d]."""
        self.passes.append(column_sums(q, k, heads))

    def take(self) -> Tensor:
        """[B, N], the rows of one pass below those of another."""
        sums, self.passes = torch.cat(self.passes), []
        return sums


class Map(ABC):
    """The map of a self-attention of a network."""

    @abstractmethod
    def recording(self, run: Run, z: Tensor, t: Tensor, given: Conditioning) -> AbstractContextManager[Recorder]:
        """Within, the maps of all passes of the network are kept; afterwards it is as before.

        run, z, t, given: how it will be called. Raises RecipeError where the map cannot be had.
        """


def map_of(teacher: Teacher, network: nn.Module, block: str | None) -> Map:
    """That of the block of the teacher's ``network``, be it an outline, or of the one in the middle.

    Raises RecipeError where the network has no such block, or none whose map is known here.
    """
    if not isinstance(network, HostNetwork) or network.is_unet:
        known = self_attentions(network)
        block = block or teacher.attention_block
        if block not in known:
            expected = f"expected one of {preview(known)}" if known else "it needs attention, so leave it out"
            raise RecipeError(f"[attention]: the teacher {teacher.file} has no self-attention {block!r}; {expected}")
        return ModuleMap(network, block)
    if block is not None and block not in dict(network.named_modules()):
        names = {module: name for name, module in network.named_modules()}
        found = [names[each] for each in blocks_of(network)]
        raise RecipeError(
            f"[attention]: the teacher {teacher.file} has no block {block!r}; expected one of {preview(found)}"
        )
    return TokenMap(teacher, network, block)


class ModuleMap(Map):
    """Of a UNet, of diffusers or of ComfyUI, whose self-attentions are modules of the picture's places alone."""

    def __init__(self, network: nn.Module, block: str):
        self.network, self.block = network, block

    @contextmanager
    def recording(self, *how) -> Iterator[Recorder]:
        attention, recorder = self.network.get_submodule(self.block), Recorder()

        def note(attention: nn.Module, hidden: Tensor) -> None:
            recorder.note(attention.to_q(hidden), attention.to_k(hidden), attention.heads)

        if not hasattr(attention, "set_processor"):
            hook = attention.register_forward_pre_hook(lambda attention, given: note(attention, given[0]))
            try:
                yield recorder
            finally:
                hook.remove()
            return
        before = attention.processor
        attention.set_processor(RecordingProcessor(before, note))
        try:
            yield recorder
        finally:
            attention.set_processor(before)


class RecordingProcessor:
    """Attention processor of diffusers' that does what another does. A hook would not do, of which a compiled block
    takes no notice."""

    def __init__(self, processor, note):
        self.processor, self.note = processor, note

    def __call__(self, attention: nn.Module, hidden_states: Tensor, *arguments, **options) -> Tensor:
        self.note(attention, hidden_states)
        return self.processor(attention, hidden_states, *arguments, **options)


class TokenMap(Map):
    """Of a transformer that ComfyUI runs: of the attention half-way through it, between the picture's tokens.

    Such a network has no level to look at, and often texts in the same attention, so this is our reading of SFERD,
    whose teachers are UNets: queries and keys are those of the picture alone. block: a part of the network, whose first
    such attention is looked at instead.
    """

    def __init__(self, teacher: Teacher, network: HostNetwork, block: str | None):
        self.teacher, self.network, self.block = teacher, network, block
        self.found: dict[tuple[int, ...], Tokens] = {}  # by the sizes of latents

    @contextmanager
    def recording(self, run: Run, z: Tensor, t: Tensor, given: Conditioning) -> Iterator[Recorder]:
        size, recorder = tuple(z.shape[-2:]), Recorder()
        if size not in self.found:
            self.found[size] = self._find(run, z, t, given)
        tokens = self.found[size]

        def watcher():
            """Of one pass."""
            seen = 0

            def watch(parts: Parts) -> None:
                nonlocal seen
                if seen == tokens.attention:
                    q, k = parts()
                    recorder.note(tokens.of_picture(q), tokens.of_picture(k), q.shape[1])
                seen += 1

            return watch

        with self.network.loaded.watched(watcher):
            yield recorder

    def _find(self, run: Run, z: Tensor, t: Tensor, given: Conditioning) -> Tokens:
        (first, *_) = self.teacher.separate(dict(given))
        one = self.teacher.collate([first])
        try:
            return find_tokens(self.network, self.block, lambda z: run(z, t[:1], one), z[:1])
        except ValueError as error:
            raise RecipeError(f"[attention]: the teacher {self.teacher.file}: {error}") from error


def self_attentions(network: nn.Module) -> list[str]:
    """The names of a UNet's self-attentions, be it of diffusers or of ComfyUI."""
    return [name for name, module in network.named_modules() if _is_self_attention(name, module)]


def _is_self_attention(name: str, module: nn.Module) -> bool:
    if not all(hasattr(module, part) for part in ("to_q", "to_k", "heads")):
        return False
    return not getattr(module, "is_cross_attention", not name.endswith(".attn1"))  # diffusers' say so themselves
