"""Which tokens of a transformer's attentions are its picture's: those that are others where only the picture is.

Networks have texts before or after the picture, and padding behind it, and some let texts attend to themselves first.
Two passes that differ in the picture alone show it, whatever the family: until the first attention over both, no text
has seen the picture.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..host import Parts
from ..teachers.comfy import HostNetwork

PADDED = 32  # of which the picture's tokens may be made a multiple by further ones, as Z-Image's are
SAME = 1e-3  # of the largest key: apart by less is rounding


@dataclass(frozen=True)
class Tokens:
    """attention: which of those of a pass is looked at, counted from 0. first: the place of the picture's first token,
    from the end where texts are before it, so that it holds for texts of any length. count: of its tokens."""

    attention: int
    first: int
    count: int

    def of_picture(self, x: Tensor) -> Tensor:
        """Of queries or keys [B, heads, N, d] those of the picture, [B, count, heads * d]."""
        first = self.first % x.shape[2]
        return x[:, :, first : first + self.count].transpose(1, 2).flatten(2)


@dataclass
class _Seen:
    """One attention of a pass: its number of tokens, its first head's keys [N, d], whether it is in the block asked
    for; ``across``: its keys are not of what its queries are of, as far as their numbers tell."""

    tokens: int
    keys: Tensor
    inside: bool
    across: bool


def find_tokens(network: HostNetwork, block: str | None, run: Callable[[Tensor], object], z: Tensor) -> Tokens:
    """Those of latents of z's size [1, C, ...], and the attention of the one half-way through the network, or of
    ``block``, a name of one of its modules.

    run: calls the network. Raises ValueError where the network lets nobody look, or the tokens cannot be told apart.
    """
    one, other = (_seen(network, block, run, each) for each in (z, -z))
    changed = [_changed(a.keys, b.keys) for a, b in zip(one, other, strict=True)]
    ours = [at for at, each in enumerate(one) if not each.across and changed[at].any()]
    if not ours:
        raise ValueError("ComfyUI shows nobody a self-attention over its picture, so leave the table out")
    inside = [at for at in ours if one[at].inside]
    if block is not None and not inside:
        raise ValueError(f"its part {block!r} shows no self-attention over the picture; name a block that has one")
    # Without a name those of the blocks, not of parts before them that look at the picture alone.
    counts = Counter(one[at].tokens for at in ours)
    tokens = max(counts, key=lambda number: (counts[number], number)) if block is None else one[inside[0]].tokens
    alike = [at for at in ours if one[at].tokens == tokens]
    first, count = _run_of(changed[alike[0]], z.shape[-2:])
    return Tokens(alike[len(alike) // 2] if block is None else inside[0], first, count)


def _seen(network: HostNetwork, block: str | None, run: Callable[[Tensor], object], z: Tensor) -> list[_Seen]:
    found, inside = [], []

    def watch(parts: Parts) -> None:
        q, k = parts()
        found.append(_Seen(k.shape[2], k[0, 0].clone(), bool(inside), q.shape[2] != k.shape[2]))

    hooks = []
    if block is not None:
        part = network.get_submodule(block)
        hooks.append(part.register_forward_pre_hook(lambda *_: inside.append(True)))
        hooks.append(part.register_forward_hook(lambda *_: inside.clear()))
    try:
        with network.loaded.watched(lambda: watch):
            run(z)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _changed(one: Tensor, other: Tensor) -> Tensor:
    """Of which tokens keys [N, d] are others: bool [N]."""
    apart = (one.float() - other.float()).abs().amax(dim=1)
    return (apart > SAME * one.float().abs().max()).cpu()


def _run_of(changed: Tensor, sides: tuple[int, int]) -> tuple[int, int]:
    """(first, count) as `Tokens` has them."""
    places = changed.nonzero().flatten().tolist()
    first, length, total = places[0], len(places), len(changed)
    rows, columns = sides
    while rows * columns > length:  # so many latents a token, as patches are squares of 2 or 4 places
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    count = rows * columns
    whole = places == list(range(first, first + length))
    padded = -(-count // PADDED) * PADDED
    if not whole or length not in (count, padded) or (first and first + length < total):
        raise ValueError(
            f"which of {total} tokens are the picture's cannot be told; {length} change with latents of "
            f"{sides[0]}x{sides[1]}, so leave the table out"
        )
    return (first - total if first else 0), count
