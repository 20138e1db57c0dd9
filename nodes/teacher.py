"""The node that lets the teacher redo the rejected images of a batch, and only those."""

from __future__ import annotations

from comfy_api.latest import io

from . import teacher_inputs
from .plain_take import PlainTake
from .schema import schema
from .teaching import rejections, teach

LAZY = ("model", "positive", "negative", "vae")


class UnderstudyTeacher(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        from comfy.samplers import KSampler

        return schema(
            node_id="UnderstudyTeacher",
            display_name="Understudy Teacher",
            description="Redoes the images whose score is below the threshold with the teacher model, each in its own "
            "noise. The others come out exactly as they came in, and if all pass, the teacher is not even loaded.",
            search_aliases=[
                "refine rejected",
                "adaptive sampler",
                "second pass",
                "conditional refine",
                "retry bad images",
            ],
            is_input_list=True,
            inputs=[
                *teacher_inputs.judged_images(),
                io.Model.Input("model", lazy=True, tooltip="The teacher. Loaded only if an image is rejected."),
                io.Conditioning.Input(
                    "positive",
                    lazy=True,
                    tooltip="What the images should show, from the teacher's own text encoder. One for all, or a "
                    "list with one for each entry of a list of images.",
                ),
                io.Conditioning.Input("negative", lazy=True, tooltip="What the images should not show."),
                teacher_inputs.vae(),
                *teacher_inputs.start(),
                io.Combo.Input(
                    "rollback_mode",
                    options=["schedule", "noise_variance"],
                    default="schedule",
                    tooltip="What rollback means. schedule: a fraction of the schedule, as KSampler's denoise. "
                    "noise_variance: the share of the noise in the variance, as in the paper's Algorithm 1.",
                ),
                teacher_inputs.rollback(default=0.7),
                io.Int.Input(
                    "steps", default=12, min=1, max=10000, tooltip="The teacher's steps for each rejected image."
                ),
                io.Float.Input(
                    "cfg",
                    default=7.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="The teacher's guidance scale.",
                ),
                io.Combo.Input(
                    "sampler_name", options=KSampler.SAMPLERS, default="dpmpp_2m", tooltip="The teacher's sampler."
                ),
                io.Combo.Input(
                    "scheduler", options=KSampler.SCHEDULERS, default="normal", tooltip="The teacher's noise schedule."
                ),
                *teacher_inputs.size_and_memory(),
                *teacher_inputs.seeds(),
            ],
            outputs=teacher_inputs.outputs(),
            hidden=teacher_inputs.hidden(),
        )

    @classmethod
    def check_lazy_status(cls, images, scores, threshold, **_):
        return list(LAZY) if any(sum(rejections(images, scores, threshold), [])) else []

    @classmethod
    def execute(cls, images, scores, threshold, latent=None, mask=None, images_at_once=(0,), **inputs) -> io.NodeOutput:
        return teach(PlainTake, cls, images, scores, threshold, latent, mask, images_at_once, inputs)
