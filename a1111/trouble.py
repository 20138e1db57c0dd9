"""What goes wrong in the host's hands: one sentence for the page and the pictures, and the student's pictures stay."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from traceback import clear_frames

from ..files import CheckpointError
from ..oracles.base import OracleError
from . import host
from .choices import RefusedChoice

log = logging.getLogger(__name__)
NO_NUMBERS = "the teacher made no numbers (NaN): try --no-half, or another teacher"
NO_PICTURE = "the teacher's VAE made no numbers (NaN): try --no-half-vae, or another VAE"
OUT_OF_MEMORY = "out of memory: choose fewer or smaller pictures a batch"
# CUDA and Apple; Windows' allocator; Linux' allocator.
OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


class NotRedone(RuntimeError):
    """The teacher's pass did not end: the student's pictures stay, and this says why."""


def say(p, text: str) -> None:
    """In the page below the pictures, and in the log."""
    log.warning("Understudy: %s", text)
    p.comment(f"Understudy: {text}")


def pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"


def sentence(error: BaseException) -> str:
    """One line for a user."""
    from modules import devices

    words = (str(error).splitlines() or [""])[0]
    if isinstance(error, getattr(devices, "NansException", ())):
        return NO_PICTURE if "VAE" in words else NO_NUMBERS  # it has no other word for which of the two
    if isinstance(error, MemoryError) or any(of in str(error) for of in OF_MEMORY):
        return OUT_OF_MEMORY
    return words if isinstance(error, ValueError) and words else f"{type(error).__name__}: {words}".rstrip(": ")


# Inside both of these runs what is not ours: the host, and through its callbacks and its replaced functions every
# extension that is installed. What that may raise is no list that could be written down (a damaged .safetensors is an
# Exception of its own kind and no RuntimeError), and the host prints and swallows whatever leaves a hook: the page
# would say nothing, and a picture "kept" that nobody decided on. So here, and nowhere else, any Exception counts: it
# is translated into an error of ours, or logged with its traceback and said. What stops a program is none and passes.


@contextmanager
def as_not_redone(doing: Callable[[], str]) -> Iterator[None]:
    """Whatever the host raises inside, as NotRedone. doing: what it was at, once it has failed."""
    try:
        yield
    except (NotRedone, RefusedChoice):
        raise
    except Exception as error:
        if stopped := host.cut_short():  # before the first step the host has no picture then, and fails on that
            raise NotRedone(stopped) from error
        reason = sentence(error)
        if reason not in (NO_NUMBERS, NO_PICTURE, OUT_OF_MEMORY):
            ours = isinstance(error, CheckpointError | OracleError)  # which say it all
            log.warning("Understudy: %s failed", doing(), exc_info=None if ours else error)
            reason = f"{doing()} failed: {reason}"
        clear_frames(error.__traceback__)  # which hold what filled the memory, and the student is to be loaded again
        raise NotRedone(reason) from error


def hook(method: Callable) -> Callable:
    """A job's hook: what goes wrong in it ends the job, and is said in the page, in texts still to be written, and in
    those of the pictures that waited to be redone."""

    @wraps(method)
    def guarded(job, *given) -> None:
        if job.failed:
            return
        try:
            method(job, *given)
        except Exception as error:
            log.exception("Understudy has an error")
            job.failed = f"stopped by an error, see the log: {sentence(error)}"
            say(job.p, job.failed)
            job.p.extra_generation_params["Understudy"] = job.failed
            with logged():
                job.give_up(job.failed)

    return guarded


@contextmanager
def logged() -> Iterator[None]:
    """What is still to be said after an error, and may meet the same one, such as a full disk."""
    try:
        yield
    except Exception:
        log.exception("Understudy could not say at each picture that it is not redone")


def unusable(latents, images: Sequence) -> list[str]:
    """Why each picture of a teacher cannot be used, "" for those that can.

    latents: [B, C, h, w], what it sampled; images: PIL. The host's own check for NaN looks at one number of a batch,
    and with ``--disable-nan-check`` at none: the picture is black then, be it by the sampling or by the VAE.
    """
    import torch

    def reason(latent, image) -> str:
        if not torch.isfinite(latent).all():
            return NO_NUMBERS
        black = not image.convert("RGB").getbbox()
        return NO_PICTURE if black else ""

    return [reason(latent, image) for latent, image in zip(latents, images, strict=True)]
