"""The node that lets the teacher redo the rejected images of a batch, and only those."""

from __future__ import annotations

from comfy_api.latest import io

from . import teacher_inputs
from .plain_take import PlainTake
from .schema import schema
from .teacher_settings import BY_TABLE, OWN
from .teaching import check_strength, rejections, teach
from .way_back import MODES

LAZY = ("model", "positive", "negative", "vae")


class UnderstudyTeacher(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        from comfy.samplers import KSampler

        return schema(
            node_id="UnderstudyTeacher",
            display_name="Teacher redo",
            description="Redoes the images whose score is below the threshold with the teacher model, each in its own "
            "noise. The others come out exactly as they came in, and if all pass, the teacher is not even loaded.",
            search_aliases=[
                "auto retry",
                "refine rejected",
                "adaptive sampler",
                "second pass",
                "conditional refine",
                "retry bad images",
                "redo bad images",
            ],
            advanced=["rollback_worst", "steps", "cfg", "sampler_name", "scheduler"],
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
                    "settings",
                    options=[BY_TABLE, OWN],
                    default=BY_TABLE,
                    tooltip="by the table: steps, cfg, sampler, scheduler and patch as published for the teacher, "
                    "found by its architecture, and with rollback_mode noise the way back for this student; the node "
                    "says which, and the widgets for them are not used. my own: the widgets, some of which may be "
                    "behind a button for advanced inputs.",
                ),
                io.Combo.Input(
                    "rollback_mode",
                    options=list(MODES),
                    default="noise",
                    tooltip="What rollback means. noise: the share of the noise in the variance, the same on every "
                    "model: 0.4 leaves 60 % of it to the picture. schedule: a fraction of the schedule, as KSampler's "
                    "denoise, which goes further back the more the model's schedule is shifted.",
                ),
                teacher_inputs.rollback(default=0.65),
                *teacher_inputs.strength(),
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
    def check_lazy_status(cls, images, scores, threshold, strategy=(), strength=(), **_):
        rejected = sum(rejections(images, scores, threshold), [])
        check_strength(threshold, strategy, strength)  # what is wrong is told before the teacher is loaded
        return list(LAZY) if any(rejected) else []

    @classmethod
    def execute(cls, images, scores, threshold, latent=None, mask=None, images_at_once=(0,), **inputs) -> io.NodeOutput:
        return teach(PlainTake, cls, images, scores, threshold, latent, mask, images_at_once, inputs)
