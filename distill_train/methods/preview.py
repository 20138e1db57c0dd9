"""A look at a student: its pictures at 1, 2 and 4 steps beside the teacher's, from the same noise."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from ...oracles.prompt_syntax import prompts_to_read
from ...samplers.consistency import sample_consistency
from ...samplers.denoisers import Guided
from ...samplers.noise import PerImageNoise, initial_noise
from ...samplers.schedules import trailing_sigmas
from ...samplers.solvers import sample_dpmpp_2m
from ..config import RecipeError, Samples
from ..data.batch import Source
from ..guidance import Conditioning
from ..teachers import Teacher
from ..teachers.precision import whole_precision

STEPS = (1, 2, 4)
Around = Callable[[Callable, Tensor], Callable]  # (denoiser, sigmas) -> what takes the denoiser's place


class Preview:
    """Called with a network that has the student's averaged weights: the grid, a row for each prompt, and figures.

    The columns are the student at ``steps`` and the teacher, after the condition where there is one. With an oracle the
    figures are its mean score of each.

    sample: ``(network, noise, given, steps) -> latents``, a student as it is meant to be sampled; :meth:`consistency`,
    :meth:`multistep` and :meth:`ddim` are what methods share for that. teaching: within it, the network is the
    teacher's.
    """

    def __init__(
        self,
        settings: Samples,
        teacher: Teacher,
        device: torch.device,
        sample: Callable[[nn.Module, Tensor, Conditioning, int], Tensor],
        teaching: Callable[[], AbstractContextManager[nn.Module]],
        steps: Sequence[int] = STEPS,
    ):
        self.settings, self.teacher, self.device, self.sample, self.teaching = (
            settings,
            teacher,
            device,
            sample,
            teaching,
        )
        self.steps, self.hints = steps, None
        self.taught: Tensor | None = None
        self.embeddings: dict[str, Tensor] = {}
        self.sides = (settings.size or teacher.default_size,) * 2  # height and width in pixels
        self.oracle = None

    def prepare(self) -> None:
        """Embed the prompts, as the text encoders do not stay, and load the oracle. Raises what loading it does."""
        self.embeddings = self.teacher.embed(self.prompts)
        if self.settings.oracle is not None:
            from ...oracles import load_oracle

            self.oracle = load_oracle(self.settings.oracle, self.settings.oracle_family)

    def show_conditions_of(self, source: Source) -> None:
        """Show the first samples' conditions, with the prompts of the recipe or else with their own captions."""
        batch = source.batch(0, range(len(self.prompts))).to(self.device)
        if self.settings.size not in (None, batch.height, batch.width):
            raise RecipeError(
                f"samples.size is {self.settings.size}, but the first condition pictures have {batch.width}x"
                f"{batch.height} pixels, and so have the samples; leave it out"
            )
        if not self.settings.prompts:
            if self.oracle is not None:
                raise RecipeError("samples.oracle scores by prompts; name samples.prompts, one for each row")
            self.embeddings = batch.embeddings
        self.hints, self.sides = batch.extras["condition"], (batch.height, batch.width)

    @property
    def pictures(self) -> tuple[str, ...]:
        """The headings of what was sampled."""
        return (*(f"student@{n}" for n in self.steps), "teacher")

    @property
    def columns(self) -> tuple[str, ...]:
        return self.pictures if self.hints is None else ("hint", *self.pictures)

    @property
    def prompts(self) -> tuple[str, ...]:
        return self.settings.prompts or self.teacher.examples

    def __call__(self, network: nn.Module) -> tuple[Tensor, dict[str, float]]:
        teacher = self.teacher
        height, width = self.sides
        count = len(self.prompts)
        shape = teacher.latent_shape(height, width)
        noise = initial_noise(self.settings.seed, range(count), shape, self.device)
        given = {**self.embeddings, **teacher.sizes(height, width, count)}
        if self.hints is not None:
            given["condition"] = self.hints
        columns = []
        for steps in self.steps:
            columns.append(self._pixels(self.sample(network, noise, given, steps)))
        if self.taught is None:
            self.taught = self._pixels(self.teach(noise, given))
        columns.append(self.taught)
        with whole_precision(self.device):  # an oracle has a precision of its own
            figures = self._scores(columns)
        teacher.rest()
        if self.hints is not None:
            columns.insert(0, self.hints.clamp(0, 1).float().cpu())
        return torch.stack(columns, dim=1).flatten(0, 1), figures

    def denoiser(self, network: nn.Module, latents: Tensor):
        """A network of the teacher's kind for the pack's samplers, and for latents [B, C, ..., h, w] of this size."""
        teacher = self.teacher

        def call(x: Tensor, t: Tensor, **given) -> Tensor:
            return teacher.call(network, x, t, given).float()

        return teacher.process.denoiser(call, latents.shape[-2:])

    def consistency(
        self,
        network: nn.Module,
        noise: Tensor,
        given: Conditioning,
        steps: int,
        intervals: int,
        spacing: str = "trailing",
        cfg: float = 1.0,
        around: Around | None = None,
    ) -> Tensor:
        """Latents of multistep consistency sampling on the timesteps of the distillation."""
        sigmas = self.grid_levels(steps, noise.shape[-2:], intervals, spacing)
        fresh = self.fresh_noise(noise)
        return self._sampled(network, noise, given, sigmas, cfg, around, noise_sampler=fresh)

    def grid_levels(self, steps: int, size: Sequence[int], intervals: int, spacing: str = "trailing") -> Tensor:
        """The noise levels [steps + 1] of :meth:`consistency`: evenly chosen from the grid of the distillation, and 0.

        size: height and width of the latents.
        """
        process = self.teacher.process
        grid = process.grid(intervals, spacing, size).flip(0)
        chosen = grid[[j * intervals // steps for j in range(steps)]]
        return torch.cat([process.sigmas(chosen), torch.zeros(1)])

    def ddim(
        self,
        network: nn.Module,
        noise: Tensor,
        given: Conditioning,
        times: Tensor,
        cfg: float = 1.0,
        around: Around | None = None,
    ) -> Tensor:
        """Latents of DDIM through falling times, the last being the data; of a flow this is Euler's method."""
        return self._sampled(network, noise, given, self.teacher.process.sigmas(times), cfg, around, stochastic=False)

    def multistep(self, network: nn.Module, noise: Tensor, given: Conditioning, times: Tensor) -> Tensor:
        """Latents of multistep consistency sampling through falling times, the last being the data."""
        sigmas = self.teacher.process.sigmas(times)
        return self._sampled(network, noise, given, sigmas, 1.0, None, noise_sampler=self.fresh_noise(noise))

    def _sampled(self, network: nn.Module, noise, given: Conditioning, sigmas, cfg, around, **options) -> Tensor:
        model, sigmas = self.denoiser(network, noise), sigmas.to(noise.device)
        if around is not None:
            model = around(model, sigmas)
        x = model.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), max_denoise=True)
        options["noise_scaling"] = model.noise_scaling
        if cfg == 1:
            return sample_consistency(model, x, sigmas, dict(given), **options)
        arguments = {"cond": dict(given), "uncond": {**given, **self.teacher.unconditional(len(noise))}}
        return sample_consistency(Guided(model, cfg), x, sigmas, arguments, **options)

    def fresh_noise(self, noise: Tensor) -> PerImageNoise:
        """The noise that a stochastic sampler puts back, the same in every preview."""
        return PerImageNoise(self.settings.seed, range(len(noise)), noise.shape[1:], noise.device)

    def teach(self, noise: Tensor, given: dict[str, Tensor]) -> Tensor:
        """Latents that the teacher makes of noise."""
        with self.teaching() as network:
            return self.dpmpp(network, noise, given, self.settings.teacher_steps)

    def dpmpp(self, network: nn.Module, noise: Tensor, given: Conditioning, steps: int) -> Tensor:
        """Latents of DPM-Solver++ 2M under the teacher's guidance."""
        model = self.denoiser(network, noise)
        sigmas = trailing_sigmas(model, steps).to(noise.device)
        x = model.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), max_denoise=True)
        arguments = {"cond": dict(given), "uncond": {**given, **self.teacher.unconditional(len(noise))}}
        return sample_dpmpp_2m(Guided(model, self.settings.teacher_cfg), x, sigmas, arguments)

    def _pixels(self, latents: Tensor) -> Tensor:
        return self.teacher.decode(latents).float().cpu()

    def _scores(self, columns: list[Tensor]) -> dict[str, float]:
        if self.oracle is None:
            return {}
        self.oracle.network.to(self.device)
        texts = prompts_to_read(self.prompts).texts
        scores = [self.oracle(images, texts).mean().item() for images in columns]
        self.oracle.network.to("cpu")  # between grids the training needs the room
        return {f"score {name}": score for name, score in zip(self.pictures, scores, strict=True)}
