"""The Teacher for guiders and schedules that no KSampler has."""

from __future__ import annotations

from comfy_api.latest import io

from . import teacher_inputs
from .guided_take import ROLLBACK_MODES, GuidedTake
from .schema import schema
from .teaching import check_strength, rejections, teach

LAZY = ("guider", "sampler", "sigmas", "vae")


class UnderstudyTeacherAdvanced(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyTeacherAdvanced",
            display_name="Teacher redo (advanced)",
            description="Redoes the images whose score is below the threshold, as Teacher redo does, with a "
            "guider, sampler and sigmas of your own, as SamplerCustomAdvanced takes them.",
            search_aliases=["refine rejected custom sampler", "teacher guider sigmas", "conditional refine advanced"],
            advanced=["rollback_worst"],
            is_input_list=True,
            inputs=[
                *teacher_inputs.judged_images(),
                io.Guider.Input(
                    "guider",
                    lazy=True,
                    tooltip="The teacher's model, conditioning and guidance. Its conditioning is cut to the rejected "
                    "images; if none is rejected, nothing of it is even loaded.",
                ),
                io.Sampler.Input("sampler", lazy=True, tooltip="The teacher's sampler."),
                io.Sigmas.Input(
                    "sigmas",
                    lazy=True,
                    tooltip="The teacher's whole schedule, from pure noise to 0; a refined image takes the part of it "
                    "that rollback says.",
                ),
                io.Noise.Input(
                    "noise",
                    lazy=True,
                    optional=True,
                    tooltip="Noise in place of the seeds below. It is made for the student's whole batch, and each "
                    "image takes its own. Without it each image has the noise of its seed.",
                ),
                teacher_inputs.vae(),
                *teacher_inputs.start(),
                io.Combo.Input(
                    "rollback_mode",
                    options=list(ROLLBACK_MODES),
                    default=ROLLBACK_MODES[0],
                    tooltip="Which part of sigmas a refined image takes. noise: from where the noise makes up the "
                    "share rollback of the variance. schedule: the last steps, the fraction rollback of all. as "
                    "given: all.",
                ),
                teacher_inputs.rollback(default=0.4),
                *teacher_inputs.strength(),
                *teacher_inputs.size_and_memory(),
                *teacher_inputs.seeds(),
            ],
            outputs=teacher_inputs.outputs(),
            hidden=teacher_inputs.hidden(),
        )

    @classmethod
    def check_lazy_status(cls, images, scores, threshold, strategy=(), strength=(), **inputs):
        rejected = sum(rejections(images, scores, threshold), [])
        check_strength(threshold, strategy, strength)
        if not any(rejected):
            return []
        return [*LAZY, *(["noise"] if "noise" in inputs else [])]  # the host refuses one that is not connected

    @classmethod
    def execute(
        cls, images, scores, threshold, latent=None, mask=None, images_at_once=(0,), noise=(None,), **inputs
    ) -> io.NodeOutput:
        inputs["noise"] = noise
        return teach(GuidedTake, cls, images, scores, threshold, latent, mask, images_at_once, inputs)
