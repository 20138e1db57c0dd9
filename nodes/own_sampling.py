"""A row's patch of a MODEL, and the patch that the MODEL came with: which holds, and what to say."""

from __future__ import annotations

import torch

from ..samplers.boundary import TIMESTEP_SCALING, latent_consistency
from ..samplers.presets import ARCHITECTURES
from ..samplers.presets.settings import X0, Lcm, Mu, Patch, Sampling, Shift
from ..samplers.schedules import GRID, grid_sigmas

PATCHED = "model_sampling"


def with_row_s_patch(model, patch: Patch | None, architecture: str | None, tokens: int):
    """The MODEL as a row has it patched, or as its user did where that says something else."""
    if isinstance(patch, Lcm):
        return model if _is_host_s_lcm(model, patch) else with_boundary_scaling(model, patch.scaling, patch.grid)
    return model if PATCHED in model.object_patches else patched(model, patch, architecture, tokens)


def kept_patch(row: Sampling, model, architecture: str | None, tokens: int) -> str | None:
    """What to say where the MODEL's own patch stays in place of the row's; None where both come to the same."""
    own = model.object_patches.get(PATCHED)
    if own is None or isinstance(row.patch, Lcm):
        return None
    if row.patch is None and (architecture is None or not isinstance(ARCHITECTURES[architecture].time, Shift | Mu)):
        return None  # of Stable Diffusion a patch says what the network predicts, which a row leaves open
    if row.patch is None and not isinstance(row.schedule, str):
        return None  # its noise levels are given
    bare = model.clone()
    del bare.object_patches[PATCHED]
    wanted = patched(bare, row.patch, architecture, tokens).get_model_object(PATCHED)
    if same_sampling(own, wanted):
        return None
    return (
        f"The model is patched to {_said(own)}, which is kept, but {row.key} is made for {_said(wanted)}: take that "
        "patch off for it."
    )


def with_boundary_scaling(model, scaling: float = TIMESTEP_SCALING, grid: int = GRID):
    """A clone of the MODEL that samples as a latent consistency model: c_skip and c_out of Luo et al. 2023, for models
    that predict eps, v or x0, with the noise levels that the model has. Raises ValueError for other models."""
    from comfy.model_sampling import EPS, V_PREDICTION, ModelSamplingDiscrete
    from comfy.model_sampling import X0 as HOST_S_X0
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscreteDistilled

    own = model.get_model_object(PATCHED)
    if not isinstance(own, ModelSamplingDiscrete) or not isinstance(own, EPS):
        raise ValueError(
            f"the model samples as {type(own).__mro__[1].__name__}, but LCM students predict noise, v or x0 in "
            "discrete time: choose another preset or model."
        )
    # All are EPS by inheritance.
    prediction = next(kind for kind in (V_PREDICTION, HOST_S_X0, EPS) if isinstance(own, kind))

    class LatentConsistency(ModelSamplingDiscreteDistilled, prediction):
        original_timesteps = grid

        def calculate_denoised(self, sigma, model_output, model_input):
            x0 = super().calculate_denoised(sigma, model_output, model_input)
            return latent_consistency(model_input, x0, self.timestep(sigma), scaling)

    sampling = LatentConsistency(model.model.model_config)
    if len(own.sigmas) == sampling.num_timesteps:  # ModelSamplingDiscrete may have changed them, to zero SNR
        sampling.set_sigmas(grid_sigmas(own.sigmas, grid))
    clone = model.clone()
    clone.add_object_patch(PATCHED, sampling)
    return clone


def patched(model, patch: Patch | None, architecture: str | None, tokens: int):
    """As the host's own nodes patch it."""
    from comfy_extras import nodes_model_advanced as host

    if isinstance(patch, Shift):
        return host.ModelSamplingSD3().patch(model, patch.value, ARCHITECTURES[architecture].multiplier)[0]
    if isinstance(patch, Mu):
        mu = patch.at(tokens)  # the same at both ends of the node's own interpolation
        return host.ModelSamplingFlux().patch(model, mu, mu, 1024, 1024)[0]
    return host.ModelSamplingDiscrete().patch(model, "x0", False)[0] if isinstance(patch, X0) else model


def _is_host_s_lcm(model, patch: Lcm) -> bool:
    """Whether the MODEL comes from the host's ModelSamplingDiscrete set to lcm, on the same grid."""
    from comfy_extras.nodes_model_advanced import LCM

    return isinstance(model.object_patches.get(PATCHED), LCM) and patch == Lcm()


def same_sampling(one, other) -> bool:
    """Whether two of the host's samplings have the same noise levels and read a network in the same way."""
    half = torch.tensor(0.5)
    return (
        len(one.sigmas) == len(other.sigmas)
        and torch.allclose(one.sigmas.cpu(), other.sigmas.cpu(), rtol=1e-4)
        and torch.isclose(one.timestep(half).float(), other.timestep(half).float()).item()
        and _prediction(one) is _prediction(other)
    )


def _prediction(sampling) -> type:
    from comfy import model_sampling as host

    kinds = (host.V_PREDICTION, host.X0, host.CONST, host.EPS)  # EPS last, which some of the others inherit from
    return next((kind for kind in kinds if isinstance(sampling, kind)), type(sampling))


def _said(sampling) -> str:
    from comfy.model_sampling import ModelSamplingFlux

    if not hasattr(sampling, "shift"):
        return _prediction(sampling).__name__
    return f"{'mu' if isinstance(sampling, ModelSamplingFlux) else 'shift'} {sampling.shift:g}"
