"""Apply a student's gradient predictor."""

from __future__ import annotations

from comfy_api.latest import io

from .folders import NO_PREDICTOR, PREDICTORS, not_there, predictor_files, predictor_path
from .schema import schema


class UnderstudyApplyGradientPredictor(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyApplyGradientPredictor",
            display_name="Apply gradient predictor",
            description=(
                "Moves a student's pictures towards what they are to mean, with a file that 'understudy train' makes "
                "for that student (SFERD). Files go into models/understudy_predictors."
            ),
            search_aliases=["SFERD", "semantic gradient", "student correction"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The student that the file was trained for: a UNet, with its LoRA if it is one."
                ),
                io.Combo.Input(
                    "predictor_name",
                    options=predictor_files() or [NO_PREDICTOR],
                    tooltip="A file in models/understudy_predictors, of the recipes sferd-predictor and sferd-prior.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    tooltip="How far pictures are moved: 1 is as trained, 0 is not at all.",
                ),
                io.Float.Input(
                    "until",
                    default=0.7,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="The part of the steps, from the first on, in which it acts. The first step always has it.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="What the pictures are to mean: one for all of them, or one for each. Without it, each has "
                    "a meaning drawn by its own seed for the prompt. Needs vae.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="The student's, with which the image is read."),
            ],
            outputs=[io.Model.Output(id="model", tooltip="The student under its predictor, for any sampler.")],
        )

    @classmethod
    def validate_inputs(cls, predictor_name=None):
        """A file that is not there is refused before anything runs, with the ones that are."""
        known = predictor_files()
        if predictor_name is None or predictor_name in known:  # None: linked, or absent
            return True
        fetch = "'understudy train sferd-predictor', then sferd-prior, make one for a student"
        return not_there(predictor_name, known, PREDICTORS, "the file", fetch)

    @classmethod
    def execute(cls, model, predictor_name: str, strength: float, until: float, image=None, vae=None) -> io.NodeOutput:
        from ..predictor import read_predictor
        from .predicted import meaning_of, predicted, require_fit

        predictor = read_predictor(predictor_path(predictor_name))
        require_fit(model, predictor, predictor_name)
        if (image is None) != (vae is None):
            missing = "vae" if vae is None else "image"
            raise ValueError(f"Apply gradient predictor lacks {missing}: connect image and vae, or neither.")
        z = None if image is None else meaning_of(model, predictor, image, vae)
        if z is None and predictor.prior is None:
            raise ValueError(
                f"{predictor_name} has no prior to draw a meaning from: connect image and vae, or take the file of the "
                "recipe sferd-prior."
            )
        return io.NodeOutput(predicted(model, predictor, strength, until, z))
