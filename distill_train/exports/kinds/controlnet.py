"""A ControlNet in the layout that most programs read: of SD 1.x the original one, of SDXL diffusers' names."""

from __future__ import annotations

from ..kind import Contents, Kind, Trained

PREFIX = "control_model."


def contents(trained: Trained) -> Contents:
    from ...teachers.architectures import ARCHITECTURES
    from ..controlnet import by_diffusers, original_controlnet_names

    named = by_diffusers(trained)
    if not ARCHITECTURES[trained.student.base].original_controlnets:
        return named
    names = {key: PREFIX + name for key, name in original_controlnet_names(trained.base).items()}
    return Contents(
        {names[key]: value for key, value in named.tensors.items()},
        {names[key]: shape for key, shape in named.expected.items()},
    )


KIND = Kind(
    name="controlnet",
    folder="controlnet",
    node="Load ControlNet Model",
    architectures=("sd1", "sdxl"),
    trained=("control",),
    usual_for=("control",),
    contents=contents,
    against="a ControlNet of the base",
    completes=True,
    modelspec="/controlnet",
)
