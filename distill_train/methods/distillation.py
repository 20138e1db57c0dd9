"""What the distillation methods share: teacher, student, data, guidance, previews and the export."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from ...files import preview, save_tensors
from ...files.student_file import levels_text
from ..config import RecipeError
from ..data.batch import Batch, Source
from ..data.randomness import Draws
from ..guidance import AttentionGuidance, ClassifierFree, Conditioning, map_of
from ..students import STUDENTS, Student, student_kind
from ..students.control import CHANNELS
from ..students.ema import Ema
from ..students.written import cast, check
from ..teachers import Teacher, WaitingTeacher, open_teacher
from ..teachers.precision import DTYPES, autocast
from .base import TABLES, Method, Shardable
from .flow_usage import flow_usage
from .preview import STEPS, Preview


class Distillation(Method, Shardable):
    """A student that matches a target made with its teacher. Subclasses say what target, in :meth:`batch_loss`.

    teacher, source: given instead of the recipe's own, which are then not loaded. bases: of a method whose student is
    under a condition picture, what of the network under the ControlNet may train; empty for all others. asks_teacher:
    whether the target is made with :meth:`teach`, or may be. fixed_steps: whether its students know the noise levels of
    their steps alone, between which schedulers of hosts go, so that their files say them.
    """

    reads = TABLES
    open_ended = True
    guidance_width: int | None = None
    trains: ClassVar[tuple[str, ...]] = ("full", "lora")  # which kinds of student
    bases: ClassVar[tuple[str, ...]] = ()
    asks_teacher: ClassVar[bool] = True
    shown_steps: ClassVar[tuple[int, ...]] = STEPS
    fixed_steps: ClassVar[bool] = False

    def __init__(self, settings, recipe, device, teacher: Teacher | None = None, source: Source | None = None):
        super().__init__(settings, recipe, device)
        self._require_student()
        if teacher is None:
            if recipe.teacher is None:
                raise RecipeError(f"{recipe.method} needs a [teacher] with its path, e.g. --set teacher.path=FILE")
            if source is None:
                check_data(recipe.data)
                if bool(self.bases) != bool(recipe.data.get("condition")):
                    self._ask_for_conditions()
            teacher = open_teacher(recipe.teacher, device, self._kind.starts_in(DTYPES[recipe.loop.precision]))
        self.teacher, self.source = teacher, source
        self.process, self.guidance = teacher.process.to(device), ClassifierFree(teacher.unconditional, teacher.join)
        self.preview = Preview(recipe.samples, teacher, device, self.sample, self._teaching, self.shown_steps)
        if isinstance(teacher, WaitingTeacher):
            self._require_fitting(teacher.outline())
        else:
            self.make_student()

    def _teaching(self) -> AbstractContextManager[nn.Module]:
        return self.student.teaching()  # of a student that may not be made yet

    @property
    def _kind(self) -> type[Student]:
        return student_kind(self.recipe)

    @property
    def hosted(self) -> bool:
        """Whether ComfyUI loads the teacher."""
        return self.recipe.teacher is not None and self.recipe.teacher.comfy is not None

    def _require_fitting(self, outline: nn.Module) -> None:
        """Raises RecipeError or CheckpointError for what :meth:`make_student` would refuse when all data is encoded."""
        self._kind.require(self.teacher, outline, self.recipe.student)
        if self.recipe.attention:
            map_of(self.teacher, outline, self.recipe.attention.block)

    def make_student(self) -> None:
        """The student, and what stands beside it; of the teacher it needs the UNet.

        Where that waits, :meth:`prepare` comes to it when every text is embedded and the text encoders are gone.
        """
        torch.manual_seed(self.recipe.seed)  # initial weights, whatever was made or found in the cache before
        frozen = DTYPES[self.recipe.loop.precision]
        self.student = self._kind(self.teacher, self.recipe.student, frozen, self.guidance_width)
        self.network = self.student.network
        if self.recipe.loop.checkpointing is True:
            self.save_memory()
        if self.recipe.loop.compile:
            self.student.compile_blocks()
        settings = self.recipe.attention
        self.attention = settings and AttentionGuidance(self.guidance, self.teacher, settings)

    def target_average(self) -> Ema:
        """A new average of what trains, by ``settings.target_ema``, which lies where the recipe wants averages."""
        return Ema(self.network, self.settings.target_ema, warmup=False, offload=self.recipe.loop.ema_offload)

    def save_memory(self) -> None:
        self.student.save_memory()

    def prepare(self, directory: Path) -> None:
        self.preview.prepare()
        if self.source is None:
            self.source = self.make_source(directory.parent / "cache")
        if self.bases:
            self._require_conditions()
            self.preview.show_conditions_of(self.source)
        self.teacher.rest()
        if isinstance(self.teacher, WaitingTeacher):
            self.make_student()
        self._require_numbers()

    def _require_student(self) -> None:
        """Raises RecipeError for a kind of student, or a guidance of its teacher, that the method does not have."""
        student, method = self.recipe.student, self.recipe.method
        if student.train not in self.trains:
            raise RecipeError(f"{method} with student.train = {student.train}; expected {' or '.join(self.trains)}")
        if self.bases and student.base not in self.bases:
            raise RecipeError(f"{method} with student.base = {student.base}; expected {' or '.join(self.bases)}")
        if self.hosted and student.train != "lora":
            raise RecipeError(
                f"student.train = {student.train}: of what ComfyUI loads a LoRA trains, which its loaders take for "
                "every family; set student.train = lora, or for SD 1.x and SDXL teacher.path"
            )
        if self.hosted and self.guidance_width is not None:
            raise RecipeError(
                "settings.embed_guidance adds an input to the network, for which ComfyUI's have no place; leave it "
                "out, or for SD 1.x and SDXL set teacher.path and student.train = full"
            )
        if self.recipe.attention and not self.asks_teacher:
            raise RecipeError(f"{method} asks no guided teacher while it learns; leave [attention] out")
        if self.guidance_width is not None and not self._kind.adds_inputs:
            able = " or ".join(name for name, other in STUDENTS.items() if other.adds_inputs)
            raise RecipeError(f"settings.embed_guidance adds an input to the UNet; use it with student.train = {able}")

    def _require_conditions(self) -> None:
        """Raises RecipeError for data without condition pictures of a ControlNet's kind."""
        batch = self.source.batch(0, range(1))
        condition, expected = batch.extras.get("condition"), (1, CHANNELS, batch.height, batch.width)
        if condition is None:
            self._ask_for_conditions()
        if tuple(condition.shape) != expected:
            raise RecipeError(f"the data's condition pictures are {tuple(condition.shape)}; expected {expected}")

    def _ask_for_conditions(self) -> NoReturn:
        if not self.bases:
            raise RecipeError(f"{self.recipe.method} reads no condition pictures; leave data.condition out")
        raise RecipeError(
            f"{self.recipe.method} needs a condition picture for each sample: data of the kind folder, webdataset or "
            "scenes, with data.condition"
        )

    def make_source(self, cache: Path) -> Source:
        """The data that the recipe names: rendered scenes for the demo family, or what distill_train.data reads."""
        settings = self.recipe.data
        if settings.get("kind") == "scenes":
            from accelerate import PartialState

            from ..demo.source import SceneSource

            with PartialState().main_process_first():
                return SceneSource.of_settings(settings, self.teacher, self.recipe, cache)
        from .. import data

        return data.make_source(settings, self.teacher, self.recipe, cache)

    @torch.no_grad()
    def _require_numbers(self) -> None:
        """Raises RecipeError for a teacher whose weights or answers are no numbers, as no learning rate would help."""
        teacher, times = self.teacher, self.process.times(torch.tensor([1e-3, 1.0], device=self.device), (8, 8))
        given = {key: value[:1].repeat_interleave(2, 0) for key, value in self.preview.embeddings.items()}
        side = 8 * teacher.factor
        noise = Draws(self.recipe.seed, range(2), self.device).normal("check", teacher.latent_shape(side, side))
        with self.student.teaching() as network, autocast(self.device, self.recipe.loop.precision):
            if broken := [key for key, weight in network.named_parameters() if not _are_numbers(weight)]:
                raise RecipeError(f"the teacher {teacher.file} has weights that are no numbers: {preview(broken)}")
            given |= teacher.sizes(side, side, 2)
            if self.bases:
                given["condition"] = noise.new_zeros(2, CHANNELS, side, side)
            output = teacher.call(network, noise, self.process.network_time(times), given)
            if self.attention:  # whose map may be one that cannot be had, which is said here
                with self.attention.map.recording(partial(self._output, network), noise, times, given):
                    pass
        if not output.isfinite().all():
            raise RecipeError(
                f"the teacher {teacher.file} answers with what is no number in loop.precision = "
                f"{self.recipe.loop.precision}; if that is fp16, take bf16 or fp32, else the file is damaged"
            )

    def loss(self, network: nn.Module, step: int) -> Tensor:
        size = self.recipe.loop.batch_size
        return self.part_loss(network, step, range(step * size, (step + 1) * size))

    def part_loss(self, network: nn.Module, step: int, indices: range) -> Tensor:
        return self.batch_loss(network, *self.drawn(step, indices))

    def drawn(self, step: int, indices: range) -> tuple[Batch, Draws]:
        """Those samples of a step's batch that have these global indices, and what is random about them."""
        batch = self.source.batch(step, indices).to(self.device)
        return batch, Draws(self.recipe.seed, indices, self.device, step)

    def require_parts(self, parts: int) -> None:
        pass  # every sample has a loss of its own

    def require_shards(self) -> None:
        if not self._kind.shardable:
            raise RecipeError(
                "FSDP shares a network's training weights among processes, and with student.train = "
                f"{self.recipe.student.train} they are few; launch without its configuration (accelerate launch "
                "--num_processes N), which gives each process a whole copy"
            )

    @property
    def keeps_averages(self) -> bool:
        return getattr(self.settings, "target_ema", 0) > 0  # known before the student is made

    def names(self, step: int, indices: range) -> Sequence[str]:
        return self.source.batch(step, indices).names

    @abstractmethod
    def batch_loss(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """The mean loss of a batch; ``draws`` belong to its samples."""

    def conditioning(self, batch: Batch) -> dict[str, Tensor]:
        """What the networks are told besides z and t."""
        sizes = self.teacher.sizes(batch.height, batch.width, len(batch.latents))
        condition = {"condition": batch.extras["condition"]} if self.bases else {}
        return {**batch.embeddings, **sizes, **condition}

    def denoise(self, network: nn.Module, z: Tensor, t: Tensor, given: Conditioning) -> tuple[Tensor, Tensor]:
        """(x0, eps) that a network of the teacher's kind gives at z, t, in float32."""
        return self.process.x0_and_eps(self._output(network, z, t, given), z, t)

    def denoise_guided(
        self, network: nn.Module, z: Tensor, t: Tensor, given: Conditioning, cfg: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """The same under guidance. cfg: a scale or [B]; 1 is no guidance."""
        return self.process.x0_and_eps(self.guidance(partial(self._output, network), z, t, given, cfg), z, t)

    def teach(self, z: Tensor, t: Tensor, given: Conditioning, cfg: Tensor | float) -> tuple[Tensor, Tensor]:
        """(x0, eps) of the guided teacher at z, t; by its attention too, where the recipe asks for it."""
        with self.student.teaching() as teacher:
            if self.attention:
                return self.attention(partial(self._output, teacher), self.process, z, t, given, cfg)
            return self.denoise_guided(teacher, z, t, given, cfg)

    def _output(self, network: nn.Module, z: Tensor, t: Tensor, given: Conditioning) -> Tensor:
        return self.teacher.call(network, z, self.process.network_time(t), given).float()

    def measure(self, network: nn.Module):
        return self.preview(network)

    @property
    def headings(self) -> tuple[str, ...]:
        return self.preview.columns

    @property
    def columns(self) -> int:
        return len(self.headings)

    @abstractmethod
    def sample(self, network: nn.Module, noise: Tensor, given: Conditioning, steps: int) -> Tensor:
        """Latents that the student makes of noise in some steps, as it is meant to be sampled; for previews."""

    @abstractmethod
    def usage(self) -> dict[str, str]:
        """For the export's metadata: recommended ``steps``, ``guidance``, ``sampler`` and ``scheduler``."""

    def levels(self, steps: int, size: Sequence[int]) -> Tensor:
        """The noise levels [steps + 1] that :meth:`sample` goes through, for an export; uniform in time here.

        size: height and width of the latents.
        """
        places = torch.arange(steps, -1, -1, device=self.device) / steps
        return self.process.sigmas(self.process.times(places, size))

    def export(self, network: nn.Module, path: Path) -> None:
        self.export_sharded(network, path, write=True)

    def export_sharded(self, network: nn.Module, path: Path, write: bool) -> None:
        weights, expected = self.student.exported()
        if write:
            weights = cast(weights, DTYPES[self.recipe.student.dtype])
            readable = partial(check, expected=expected, base=self.teacher.file)
            save_tensors(weights, path, self.metadata(), check=readable)

    def metadata(self) -> dict[str, str]:
        """Texts that say what an export is, what it was made from and how to use it."""
        return {
            "understudy_method": self.recipe.method,
            "base": self.teacher.kind,
            "teacher_sha256": self.teacher.fingerprint,
            "teacher_file": self.teacher.file,
            "prediction": self.process.prediction,
            "licence": "a derivative of the teacher; the teacher's licence applies to it",
            **({"terminal_snr": "zero"} if self.process.zero_snr else {}),
            **({"clip_skip": f"{self.teacher.clip_skip}"} if self.teacher.clip_skip else {}),
            **({"attention_guidance": f"{self.attention.settings.weight:g}"} if self.attention else {}),
            **self._usage(),
            **self.student.metadata(),
        }

    def _usage(self) -> dict[str, str]:
        usage, flow = self.usage(), self.process.prediction == "flow"
        if "steps" not in usage or not (flow or self.fixed_steps):
            return usage
        size = [side // self.teacher.factor for side in self.preview.sides]
        levels = self.levels(int(usage["steps"]), size)
        if flow:
            return flow_usage(usage, self.process, levels, size)
        return {**usage, "sigmas": levels_text(levels.tolist())}

    def state_dict(self) -> dict[str, Any]:
        return {"averages": [average.state_dict() for average in self.averages()], "learns_from": self._learns_from()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        now = self._learns_from()
        before = state.get("learns_from", now)  # earlier checkpoints did not say it
        if self.teacher.is_of(before["teacher"]):
            before = {**before, "teacher": now["teacher"]}
        keys = [what for what in before | now if before.get(what) != now.get(what)]
        different = [f"{what} ({before.get(what)}, now {now.get(what)})" for what in keys]
        if different:
            raise RecipeError(
                f"the run began with something else in the place of its {' and '.join(different)}; put that back, or "
                "start a new run"
            )
        for average, saved in zip(self.averages(), state["averages"], strict=True):
            average.load_state_dict(saved)

    def _learns_from(self) -> dict[str, str | None]:
        """What other steps would follow from; a source of one's own need not say it."""
        made_of = {"teacher": self.teacher.fingerprint, "data": getattr(self.source, "fingerprint", None)}
        return made_of | self.student.learns_from()


def check_data(settings: Mapping[str, Any]) -> None:
    """Raises RecipeError for a wrong [data]; reads nothing of it."""
    from .. import data
    from ..demo.source import read_settings as read_scenes

    (read_scenes if settings.get("kind") == "scenes" else data.read_settings)(settings)


def _are_numbers(weight: Tensor) -> bool:
    """Whether all values are. Of float8, in which a host may hold a base, torch can say so of a copy only."""
    return bool((weight.bfloat16() if weight.dtype.itemsize == 1 else weight).isfinite().all())
