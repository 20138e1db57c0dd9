"""The teacher's pass: the host's own image to image over all pictures to be redone, each in its own noise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from . import control, host, trouble
from .choices import SAME, Choices
from .counting import count_for
from .sources import SOFT_INPAINTING, Picture, is_soft, pixels_of
from .teacher import teacher_pass
from .trouble import NotRedone, as_not_redone, unusable

NO_CHECKPOINT = (None, "", "None", "none", "Use same checkpoint")


class Redone(NamedTuple):
    """pixels: [3, H, W] in [0, 1] before their frames, one for each picture; unusable: why not, "" for good ones.

    sigma: where the teacher started. without: what the job had and the teacher had not. evaluations: of the network for
    each, None where they are not known. seconds: that loading the student's checkpoint again took, None where another
    one was never loaded.
    """

    pixels: list[torch.Tensor]
    unusable: list[str]
    sigma: float
    without: tuple[str, ...] = ()
    evaluations: float | None = None
    seconds: float | None = None


def redo(p, choices: Choices, pictures: Sequence[Picture]) -> Redone:
    """The pictures after the teacher, in one pass. p: the student's processing. Raises NotRedone."""
    from modules import processing

    if stopped := host.interrupted():
        raise NotRedone(stopped)
    if is_soft(p):
        raise NotRedone(SOFT_INPAINTING)
    script, failed, seconds = control.script_of(p), set(), None
    if script is not None and (why := control.objection(p, script, choices.control)):
        raise NotRedone(why)
    # Asked now: during the pass the teacher is the loaded one.
    same = choices.teacher == SAME or host.is_loaded(host.checkpoint_title(choices.teacher))
    q = teacher_pass(p, choices, pictures, same)
    counted = count_for(q)
    text = f"Understudy: the teacher redoes {trouble.pictures(len(pictures))}"
    undisturbed = host.undisturbed(q.override_settings)
    with host.shown_pass(choices.steps, text, q.n_iter), undisturbed, control.set_aside(p, script):
        try:
            if script is not None and choices.control:
                failed = control.give(q, p, script)
            with as_not_redone(lambda: "the teacher's pass" if same or q.begun else f"loading {choices.teacher}"):
                processed = processing.process_images(q)
        finally:
            q.close()
            with as_not_redone(lambda: "loading the student's checkpoint again"):
                if not same:
                    began = time.monotonic()
                    host.load_chosen_checkpoint(p, broken=not q.begun)
                    seconds = time.monotonic() - began
                host.apply_to_network(p)
    made = processed.images[processed.index_of_first_image :][: len(pictures)]
    if (stopped := host.cut_short()) or len(made) < len(pictures):
        raise NotRedone(stopped or host.interrupted() or "the host made no picture")
    without = [*_left_out(p, choices), *(["ControlNet"] if failed else [])]
    evaluations = None if counted.each is None else counted.each / q.n_iter
    pixels = [pixels_of(image) for image in made]
    return Redone(pixels, unusable(q.latents, made), q.start, tuple(without), evaluations, seconds)


def _left_out(p, choices: Choices) -> list[str]:
    """Of what a job can have for a part of its steps.

    The user's refiner takes over from the student: in the teacher's steps it would undo the teacher's work. Hires fix
    may have a checkpoint and prompts of its own; the teacher has the job's, since the oracle scores by those.
    """
    has = {"the refiner": getattr(p, "refiner_checkpoint", None) not in NO_CHECKPOINT}
    if getattr(p, "enable_hr", False):
        own = getattr(p, "hr_checkpoint_name", None) not in NO_CHECKPOINT
        has["the hires checkpoint"] = own and choices.teacher == SAME
        has["the hires prompts"] = (p.hr_prompt, p.hr_negative_prompt) != (p.prompt, p.negative_prompt)
    return [name for name, there in has.items() if there]
