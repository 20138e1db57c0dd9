"""Activations of a network's blocks made again in the backward pass, also where its code writes in place.

Code that says ``x += y`` writes over what autograd has kept of x. Without recomputation PyTorch notices; within it the
gradients are silently wrong, as tensors are kept without their version, and a block's own input is another by then.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
from opcode import opname
from types import CodeType

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)
AUGMENTED = range(13, 26)  # operands of BINARY_OP that are += and its like (CPython 3.11 on; before they are opcodes)
PLAIN = {
    Tensor.add_: torch.add,
    Tensor.sub_: torch.sub,
    Tensor.mul_: torch.mul,
    Tensor.div_: torch.div,
}

Around = Callable[[], AbstractContextManager]


class OutOfPlace(TorchFunctionMode):
    """Within, ``x += y`` makes a new x, and so do ``-=``, ``*=`` and ``/=``, where gradients are to flow through them.

    For torch, ``x += y`` and ``x.add_(y)`` are the same call; but nobody may be relying on the former having changed
    the tensor itself, as it assigns its result. The latter is left as it is.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        plain = PLAIN.get(func)
        if plain is None or not torch.is_grad_enabled() or not any(_learns(operand) for operand in args[:2]):
            return func(*args, **kwargs)
        frame = sys._getframe(1)
        if not _is_augmented(frame.f_code, frame.f_lasti):
            return func(*args, **kwargs)
        return plain(*args, **kwargs).to(args[0].dtype)


def _learns(operand: object) -> bool:
    return isinstance(operand, Tensor) and operand.requires_grad


@cache
def _is_augmented(code: CodeType, place: int) -> bool:
    """Whether the instruction at that place is an augmented assignment."""
    name, operand = opname[code.co_code[place]], code.co_code[place + 1]
    return name.startswith("INPLACE_") or (name == "BINARY_OP" and operand in AUGMENTED)


def recompute_blocks(network: nn.Module, parameters: Sequence[nn.Parameter], as_now: Callable[[], Around]) -> None:
    """Have the blocks of a network keep only their inputs, and work again in the backward pass.

    parameters: all that train. as_now: gives what to enter when a block works again, so that it then is as it was. Of
    blocks that write in place in another way than :class:`OutOfPlace` knows, the first call raises RuntimeError.
    """
    proven: set[type] = set()
    for block in blocks_of(network):
        block.forward = partial(_recomputed, block.forward, parameters, as_now, proven, type(block))


def blocks_of(module: nn.Module, listed: bool = False) -> Iterator[nn.Module]:
    """The outermost modules with parts of their own that lie in lists or sequences of modules.

    listed: whether ``module`` is one of those.
    """
    for child in module.children():
        if isinstance(child, CONTAINERS):
            yield from blocks_of(child, listed=True)
        elif listed and any(child.children()):
            yield child
        else:
            yield from blocks_of(child)


def _recomputed(forward, parameters, as_now, proven, kind, *arguments, **named):
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    # Tables that a network passes from block to block change on the way.
    arguments = tuple(dict(value) if isinstance(value, dict) else value for value in arguments)
    named = {key: dict(value) if isinstance(value, dict) else value for key, value in named.items()}
    around = as_now()

    def work(*arguments, **named):
        with around(), OutOfPlace():
            return forward(*arguments, **named)

    if kind not in proven:
        _prove(work, parameters, kind, arguments, named)
        proven.add(kind)
    return checkpoint(work, *arguments, use_reentrant=False, preserve_rng_state=False, **named)


def _prove(work, parameters, kind, arguments, named) -> None:
    """Raises RuntimeError for a block that writes over what its gradient needs, or over its input.

    Outside of recomputation autograd notices the former.
    """
    given = [value for value in (*arguments, *named.values()) if isinstance(value, Tensor)]
    leaves = {id(value): value.detach().requires_grad_() for value in given if value.is_floating_point()}
    copies = {key: leaf.clone() for key, leaf in leaves.items()}  # as only what is no leaf may be written to

    def own(value):
        return copies.get(id(value), value)

    results = work(*map(own, arguments), **{key: own(value) for key, value in named.items()})
    results = results if isinstance(results, (tuple, list)) else (results,)
    learned = [result.float().sum() for result in results if _learns(result)]
    advice = f"{kind.__name__} cannot be recomputed, so set loop.checkpointing = false:"
    try:
        if learned:
            torch.autograd.grad(sum(learned), [*leaves.values(), *parameters], allow_unused=True)
    except RuntimeError as error:
        raise RuntimeError(f"{advice} {error}") from error
    if any(copy._version for copy in copies.values()):
        raise RuntimeError(f"{advice} it writes over its input")
