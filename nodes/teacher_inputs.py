"""What Teacher redo and Teacher redo (advanced) take and give alike; each is declared here once."""

from __future__ import annotations

from comfy_api.latest import io

from ..samplers.decisions import BY_STRATEGY
from .types import ReceiptSocket, ScoresSocket, ThresholdSocket
from .way_back import BY_SCORE, FIXED


def judged_images() -> list:
    return [
        io.Image.Input("images", tooltip="The student's images, as a batch or a list."),
        ScoresSocket.Input("scores", tooltip="One score for each image, in the same order."),
        ThresholdSocket.Input("threshold", tooltip="Images that score below this go to the teacher."),
    ]


def vae():
    return io.Vae.Input("vae", lazy=True, tooltip="The teacher's VAE: rejected images cross to the teacher in pixels.")


def start() -> list:
    """What the teacher starts from, what may change of it, and how."""
    return [
        io.Latent.Input(
            "latent",
            optional=True,
            tooltip="The student's latents, as a batch or a list. They give each image its seed, its place in "
            "the batch (for the noise) and its noise mask; with start_from 'latent' also what the teacher "
            "starts from.",
        ),
        io.Mask.Input(
            "mask",
            optional=True,
            tooltip="What may change of an image: one mask for all, or one for each. Where it is 0, a redone image "
            "keeps its pixels bit for bit.",
        ),
        io.Combo.Input(
            "start_from",
            options=["images", "latent"],
            default="images",
            tooltip="images: encode the rejected images with the teacher's VAE, which always works. latent: "
            "take the student's latents as they are, if both models share one latent space.",
        ),
        io.Combo.Input(
            "strategy",
            options=list(BY_STRATEGY),
            default="refine",
            tooltip="refine: put noise on the student's image and let the teacher denoise it. regenerate: let "
            "the teacher make the image anew, from the noise that the student started from.",
        ),
    ]


def rollback(default: float):
    return io.Float.Input(
        "rollback",
        default=default,
        min=0.01,
        max=1.0,
        step=0.01,
        tooltip="How far a refined image goes back towards noise. High changes more of the composition.",
    )


def strength() -> list:
    """Whether all refined images go equally far back."""
    return [
        io.Combo.Input(
            "strength",
            options=[FIXED, BY_SCORE],
            default=FIXED,
            tooltip="fixed: all images go back as far as rollback says. by score: from rollback at the "
            "threshold to rollback_worst at the worst score of the threshold's calibration, which it needs.",
        ),
        io.Float.Input(
            "rollback_worst",
            default=0.9,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="Strength by score: how far back an image with the worst score goes.",
        ),
    ]


def size_and_memory() -> list:
    return [
        io.Float.Input(
            "upscale_by",
            default=1.0,
            min=1.0,
            max=4.0,
            step=0.05,
            round=0.01,
            tooltip="Redo the rejected images this many times as large, then bring them back to their own size. "
            "The latent output keeps the larger size. Starts from images.",
        ),
        io.Int.Input(
            "images_at_once",
            default=0,
            min=0,
            max=4096,
            tooltip="The most images that the teacher samples together, for small cards; it changes no picture. 0: "
            "as many as the largest batch that came in.",
        ),
    ]


def seeds() -> list:
    return [
        io.Combo.Input(
            "seed_from",
            options=["latent", "widget"],
            default="latent",
            tooltip="latent: the seed that Student sampler or Best of n students made the image with, which its latent "
            "carries; for images where it carries none, the seed below, and the node says so. widget: the "
            "seed below for all.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=False,
            tooltip="For images whose seed does not come with the latent. With the student's own seed each is "
            "redone in its own starting noise.",
        ),
    ]


def outputs() -> list:
    return [
        io.Image.Output("images", is_output_list=True, tooltip="All images in their order, the rejected ones redone."),
        io.Boolean.Output("refined", is_output_list=True, tooltip="For each image, whether the teacher redid it."),
        ReceiptSocket.Output(
            "receipt", tooltip="Decisions, network evaluations (counted; a ControlNet's not) and seconds."
        ),
        io.Latent.Output(
            "latent",
            is_output_list=True,
            tooltip="The teacher's latents of the redone images alone, with their places in the batch; one for each "
            "batch that came in. What is connected here does not run for batches in which nothing was redone.",
        ),
    ]


def hidden() -> list:
    return [io.Hidden.dynprompt, io.Hidden.unique_id]
