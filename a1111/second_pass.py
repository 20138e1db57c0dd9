"""The teacher's pass: the host's own image to image over all pictures to be redone, each in its own noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from . import control, host
from .choices import SAME, Choices
from .sources import Picture, pixels_of
from .teacher import NotRedone, teacher_pass

SOFT_INPAINTING = "Soft inpainting enabled"  # the key of the host's own script for it


class Redone(NamedTuple):
    """pixels: [3, H, W] in [0, 1], one for each picture, before its frame. sigma: where the teacher started.

    without: what the job had and the teacher had not.
    """

    pixels: list[torch.Tensor]
    sigma: float
    without: tuple[str, ...] = ()


def redo(p, choices: Choices, pictures: Sequence[Picture]) -> Redone:
    """The pictures after the teacher, in one pass. p: the student's processing. Raises NotRedone."""
    from modules import devices, processing, shared

    if host.interrupted():
        raise NotRedone("interrupted")
    if p.extra_generation_params.get(SOFT_INPAINTING):
        raise NotRedone("soft inpainting lays its overlay by what the student changed; switch it off to redo pictures")
    same = choices.teacher == SAME or host.is_loaded(host.checkpoint_title(choices.teacher))
    script, failed = control.script_of(p), {"none"}
    shared.state.textinfo = f"Understudy: the teacher redoes {len(pictures)} pictures"
    with host.undisturbed(), control.set_aside(p, script):
        q = teacher_pass(p, choices, pictures, same)
        shared.state.job_count += q.n_iter
        if script is not None and choices.control:
            failed = control.give(q, p, script)
        try:
            processed = processing.process_images(q)
        except devices.NansException as error:
            raise NotRedone("the teacher made numbers that are none (NaN)") from error
        except torch.cuda.OutOfMemoryError as error:
            raise NotRedone("out of memory; choose a smaller batch size") from error
        except NotRedone:
            raise
        except (RuntimeError, OSError, ValueError, KeyError, AttributeError) as error:
            raise NotRedone(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
        finally:
            q.close()
            if not same:
                host.load_chosen_checkpoint()
            host.set_as_the_job_has_it(p)
            shared.state.textinfo = None
    if host.interrupted():
        raise NotRedone("interrupted")
    made = processed.images[processed.index_of_first_image :][: len(pictures)]
    without = [*_refiner(p), *(["ControlNet"] if script is not None and choices.control and failed else [])]
    return Redone([pixels_of(image) for image in made], q.start, tuple(without))


def _refiner(p) -> list[str]:
    """The user's refiner takes over from the student: in the teacher's steps it would undo the teacher's work."""
    chosen = getattr(p, "refiner_checkpoint", None)
    return ["the refiner"] if chosen not in (None, "", "None", "none") else []
