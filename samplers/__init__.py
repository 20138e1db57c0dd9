"""The sampling maths: student samplers, solvers, noise per image, rollback and the adaptive algorithm. torch only."""

from .adaptive import Adaptive, adaptive
from .best_of import BestOf, best_of, seed_of_try
from .consistency import sample_consistency
from .denoisers import Counted, DiscreteDenoiser, FlowDenoiser, Guided, Prediction, scaled_linear
from .noise import PerImageBrownianNoise, PerImageNoise, image_seeds, initial_noise
from .one_step import sample_one_step
from .rollback import noise_variance, schedule_fraction, sigma_to_variance, variance_to_sigma
from .schedules import (
    SCHEDULES,
    consistency_sigmas,
    flux2_sigmas,
    given_sigmas,
    grid_sigmas,
    karras_sigmas,
    last_consistency_steps,
    last_steps,
    normal_sigmas,
    timestep_sigmas,
    trailing_sigmas,
)
from .solvers import sample_dpmpp_2m, sample_euler
from .tcd import sample_tcd

__all__ = [
    "SCHEDULES",
    "Adaptive",
    "BestOf",
    "Counted",
    "DiscreteDenoiser",
    "FlowDenoiser",
    "Guided",
    "PerImageBrownianNoise",
    "PerImageNoise",
    "Prediction",
    "adaptive",
    "best_of",
    "consistency_sigmas",
    "flux2_sigmas",
    "given_sigmas",
    "grid_sigmas",
    "image_seeds",
    "initial_noise",
    "karras_sigmas",
    "last_consistency_steps",
    "last_steps",
    "noise_variance",
    "normal_sigmas",
    "sample_consistency",
    "sample_dpmpp_2m",
    "sample_euler",
    "sample_one_step",
    "sample_tcd",
    "scaled_linear",
    "schedule_fraction",
    "seed_of_try",
    "sigma_to_variance",
    "timestep_sigmas",
    "trailing_sigmas",
    "variance_to_sigma",
]
