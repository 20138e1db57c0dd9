"""How an error leaves a node: as a built-in type.

ComfyUI shows an error's type with its module before the message, which for a type of the pack's own is a path. What the
types say among ourselves stays: the error is the cause of the one that leaves.
"""

from __future__ import annotations

import functools

PACK = __package__.rpartition(".")[0]
# What the host calls while a graph runs. Not validate_inputs, whose signature it reads, and which returns its refusals.
CALLED = ("execute", "check_lazy_status", "fingerprint_inputs")
BASES = (ValueError, RuntimeError, OSError)  # of the pack's error types


def with_builtin_errors(node_class: type) -> type:
    """The class, whose methods that the host calls raise ValueError, OSError ... where they raised the pack's own."""
    for name in CALLED:
        written = next((each for each in node_class.__mro__ if name in vars(each)), None)
        if written is not None and _is_ours(written):
            setattr(node_class, name, classmethod(_translating(vars(written)[name].__func__)))
    return node_class


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith(f"{PACK}.")


def _translating(method):
    @functools.wraps(method)
    def call(*args, **kwargs):
        try:
            return method(*args, **kwargs)
        except BASES as error:
            if not _is_ours(type(error)):
                raise  # the host knows some of its own and of the libraries': it tells a lack of memory by the type
            builtin = next(base for base in type(error).__mro__ if base.__module__ == "builtins")
            raise builtin(str(error)).with_traceback(error.__traceback__) from error

    return call
