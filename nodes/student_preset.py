"""A few-step student's sampling in parts, for graphs that sample with the host's own nodes."""

from __future__ import annotations

from comfy_api.latest import io

from .display import shown
from .noise import runs_as_batch, with_noise_per_image
from .schema import schema
from .student import prepared_student, preset_inputs


class UnderstudyStudentPreset(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyStudentPreset",
            display_name="Student preset",
            description="A preset's model, sampler, noise levels and guidance for SamplerCustomAdvanced and its like.",
            search_aliases=["LCM", "few step", "turbo", "sigmas", "SamplerCustomAdvanced", "scheduler"],
            inputs=[
                io.Model.Input("model", tooltip="The student; for LCM-LoRA a checkpoint with that LoRA applied."),
                io.Latent.Input(
                    "latent_image",
                    tooltip="What will be sampled: some presets go by its size, and noise by its batch_index.",
                ),
                *preset_inputs(),
            ],
            outputs=[
                io.Model.Output("model", tooltip="The student with its preset's patch, for a guider."),
                io.Sampler.Output(
                    "sampler",
                    tooltip="The preset's sampler. What noise it puts back is each image's own, by its place and the "
                    "seed of the noise: use it for this latent_image.",
                ),
                io.Sigmas.Output("sigmas", tooltip="The noise levels, from the one that denoise leaves."),
                io.Float.Output("cfg", tooltip="The guidance scale, for a guider: the file's or the one set here."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def execute(cls, model, latent_image, preset, steps, cfg, denoise) -> io.NodeOutput:
        ready = prepared_student(cls.hidden, model, latent_image, preset, steps, cfg, denoise)
        model, name, sampler, sigmas, cfg = ready.prepared
        latent, said = ready.latent, ready.said
        batch = len(latent["samples"])
        if batch > 1 and not runs_as_batch(name, sampler, "noise_mask" in latent):
            said.append(
                f"{name} samples a batch as one: an image comes out otherwise than alone. Student sampler runs it "
                "image by image."
            )
        own = with_noise_per_image(name, sampler, None, latent.get("batch_index", range(batch)))
        ui = shown("\n".join(said), cls.hidden.unique_id) if said else None
        return io.NodeOutput(model, own, sigmas, cfg, ui=ui)
