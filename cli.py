"""The `understudy` command. Each subcommand reads its options, calls one function, and shows what came out."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

try:
    import typer
    from typer.core import TyperGroup
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed: {sys.executable} -m pip install typer rich")

from .distill_train.exports.kinds import choices
from .oracles import FAMILIES

FAMILY = f"auto, which asks the file, or {', '.join(FAMILIES)}."


class Commands(TyperGroup):
    """Among them some of two words, as ``train init`` beside ``train RECIPE``."""

    def resolve_command(self, ctx, args):
        two_words = " ".join(args[:2])
        return super().resolve_command(ctx, [two_words, *args[2:]] if two_words in self.commands else args)


app = typer.Typer(
    name="understudy",
    cls=Commands,
    help="A fast student makes the image, an oracle scores it, a slow teacher redoes only what needs it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


# What commands import where they need it, and what pip calls it. A ComfyUI has most of it, and not all.
_NAMES = "accelerate diffusers numpy psutil pydantic rich safetensors scipy tomli torch transformers".split()
PACKAGES = {name: name for name in _NAMES} | {"PIL": "Pillow"}

Predictor = Annotated[
    Path | None,
    typer.Option(
        help="SFERD's gradient predictor of the student, a file of 'understudy train sferd-prior'. It acts for the "
        "first 70 % of the steps, and on the only one."
    ),
]

LiteralPrompts = Annotated[
    bool,
    typer.Option(
        "--literal-prompts",
        help="The oracle reads weights (x:1.3), BREAK, <lora:...>, embedding:x and \\( as text; else without them.",
    ),
]


Strength = Annotated[
    float | None,
    typer.Option(
        help="How much of the schedule an edited picture goes through, above 0 to 1, where nothing of it is left; 0.6 "
        "without. With N steps, more than N/(N+1) counts as 1."
    ),
]


@app.command()
def demo(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROMPT]...", help="Scenes, each in quotes; 16 built-in ones without any."),
    ] = None,
    count: Annotated[int | None, typer.Option(help="Images to make; prompts repeat. Without it one each.")] = None,
    percentile: Annotated[
        float | None, typer.Option(help="Send about this many percent to the teacher, 0 to 100; 30 without.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Send so many that an image takes at most this many network evaluations on average."),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="refine: the teacher goes on from the student's image. regenerate: from its noise.")
    ] = "refine",
    seed: Annotated[int, typer.Option(help="Seed of the first image; each next one adds 1.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for grid.png, report.json and the images.")] = Path(
        "understudy-demo"
    ),
    init_image: Annotated[
        Path | None,
        typer.Option(
            help="Edit this picture, or a folder's, one for each prompt; --percentile is then the worst part of 16."
        ),
    ] = None,
    strength: Strength = None,
    control: Annotated[
        Path | None,
        typer.Option(help="Outline to follow, white lines on black, or a folder's; given as --init-image is."),
    ] = None,
):
    """Student, oracle and teacher at work on small scenes: CPU only, nothing to download."""
    from .pipelines.console import show, show_remark
    from .pipelines.demo import demo as run
    from .pipelines.given_pictures import strength_of

    report = run(
        prompts or (),
        count,
        percentile,
        budget,
        strategy,
        seed,
        out,
        init_image,
        strength_of(init_image, strength),
        control,
        show_remark,
    )
    if report is not None:
        show(report, out)


@app.command()
def generate(
    student: Annotated[Path, typer.Option(help="Fast model: a diffusers folder or a checkpoint file.")],
    teacher: Annotated[Path, typer.Option(help="Slow model: a diffusers folder or a checkpoint file.")],
    oracle: Annotated[Path, typer.Option(help="The oracle's file; see 'understudy oracle'.")],
    prompts: Annotated[
        Path, typer.Option(help="One prompt per line, or a .csv, .tsv, .json or .jsonl with a column prompt.")
    ],
    student_lora: Annotated[Path | None, typer.Option(help="LoRA to add to the student, e.g. an LCM-LoRA.")] = None,
    predictor: Predictor = None,
    vae: Annotated[
        Path | None,
        typer.Option(
            help="Autoencoder in the place of the student's own, and of the teacher's where that is of the same "
            "architecture: a file, or a folder of diffusers."
        ),
    ] = None,
    teacher_vae: Annotated[
        Path | None, typer.Option(help="Autoencoder in the place of the teacher's own, whatever --vae says.")
    ] = None,
    oracle_family: Annotated[str, typer.Option(help=f"What the oracle is: {FAMILY}")] = "auto",
    encoder: Annotated[
        Path | None, typer.Option(help="Image encoder of an oracle that is only the head of an aesthetic predictor.")
    ] = None,
    percentile: Annotated[
        float | None,
        typer.Option(help="Redo images below this percentile of --calibration: about this many percent, 0 to 100."),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Redo images that score below this.")] = None,
    worst_fraction: Annotated[
        float | None,
        typer.Option(help="Redo the worst part of each batch of two or more, 0 to 1; 0.3 without any of the five."),
    ] = None,
    worst_n: Annotated[int | None, typer.Option(help="Redo so many of each batch, the worst of it.")] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            help="Redo so many, by --calibration, that an image takes at most this many network evaluations on "
            "average, student and teacher together."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="The student's own scores, a file: read by --percentile and --budget, else this run's are added to "
            "it. For these two also a published table's name, as 'ImageReward, LCM-SDXL at 4 steps (published)'."
        ),
    ] = None,
    student_steps: Annotated[int, typer.Option(help="Steps of the student.")] = 4,
    student_cfg: Annotated[float, typer.Option(help="Guidance of the student; 1 is none.")] = 1.0,
    student_sampler: Annotated[str, typer.Option(help="consistency, euler or dpmpp_2m.")] = "consistency",
    teacher_steps: Annotated[int, typer.Option(help="Steps that the teacher executes.")] = 12,
    teacher_cfg: Annotated[float, typer.Option(help="Guidance of the teacher; 1 is none.")] = 7.5,
    teacher_sampler: Annotated[str, typer.Option(help="dpmpp_2m or euler.")] = "dpmpp_2m",
    scheduler: Annotated[str, typer.Option(help="The teacher's: karras, normal or trailing.")] = "karras",
    strategy: Annotated[
        str, typer.Option(help="refine: the teacher goes on from the student's image. regenerate: from its noise.")
    ] = "refine",
    rollback: Annotated[float, typer.Option(help="How far refine goes back towards noise, 0 to 1.")] = 0.41,
    rollback_mode: Annotated[
        str,
        typer.Option(
            help="What rollback is. noise: the noise's share of the variance, so that 0.4 leaves 60 % of it to the "
            "picture. schedule: a fraction of the schedule."
        ),
    ] = "noise",
    size: Annotated[
        str, typer.Option(help="512, or width and height as in 768x512; the student's own without it.")
    ] = "",
    negative: Annotated[str, typer.Option(help="Negative prompt, for models with guidance.")] = "",
    init_image: Annotated[
        Path | None,
        typer.Option(
            help="Edit this picture, or those of a folder: one for each line of --prompts in order, or by the column "
            "image of a table."
        ),
    ] = None,
    strength: Strength = None,
    likeness: Annotated[
        str | None,
        typer.Option(help="How alike each image is to its --init-image goes into the report: ssim, or a CLIP's file."),
    ] = None,
    likeness_min: Annotated[
        float | None,
        typer.Option(
            help="Redo images that are less alike than this, whatever the oracle says. Of the same picture, ssim is 1 "
            "and a CLIP's 100."
        ),
    ] = None,
    control: Annotated[
        Path | None, typer.Option(help="Picture for --controlnet, or a folder of them; given as --init-image is.")
    ] = None,
    controlnet: Annotated[
        Path | None,
        typer.Option(help="ControlNet of student and teacher: a file, diffusers' or original, or a diffusers folder."),
    ] = None,
    teacher_controlnet: Annotated[
        Path | None, typer.Option(help="ControlNet of the teacher, where it needs another than the student.")
    ] = None,
    control_strength: Annotated[float, typer.Option(help="How strongly ControlNets count.")] = 1.0,
    literal_prompts: LiteralPrompts = False,
    seed: Annotated[int, typer.Option(help="Seed of the first image; each next one adds 1.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Images that the student draws at once.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            help="Of student and teacher: float32, float16 or bfloat16; auto is float16 on CUDA, else float32. The "
            "oracle is float32."
        ),
    ] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for grid.png, report.json and the images.")] = Path(
        "understudy-generate"
    ),
):
    """Adaptive sampling with SD 1.x and SDXL checkpoints of your own, offline.

    On several GPUs: accelerate launch -m understudy.cli generate ...
    """
    from .pipelines.console import show, show_remark
    from .pipelines.generate import Choice, Pictures, Request
    from .pipelines.generate import generate as run
    from .pipelines.given_pictures import strength_of
    from .pipelines.model import StudentPlan, TeacherPlan

    strength = strength_of(init_image, strength)
    report = run(
        Request(
            student=student,
            teacher=teacher,
            oracle=oracle,
            prompts=prompts,
            out=out,
            student_plan=StudentPlan(student_steps, student_cfg, student_sampler, strength),
            teacher_plan=TeacherPlan(
                teacher_steps,
                teacher_cfg,
                teacher_sampler,
                scheduler,
                strategy,
                rollback,
                rollback_mode,
                strength=strength,
            ),
            pictures=Pictures(
                init_image, control, controlnet, teacher_controlnet, control_strength, likeness, likeness_min
            ),
            choice=Choice(percentile, threshold, worst_fraction, worst_n, budget, calibration),
            student_lora=student_lora,
            predictor=predictor,
            vae=vae,
            teacher_vae=teacher_vae,
            oracle_family=oracle_family,
            encoder=encoder,
            size=size,
            negative=negative,
            literal_prompts=literal_prompts,
            seed=seed,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
        ),
        show_remark,
    )
    if report is not None:
        show(report, out)


@app.command()
def calibrate(
    student: Annotated[Path, typer.Option(help="Fast model: a diffusers folder or a checkpoint file.")],
    oracle: Annotated[Path, typer.Option(help="The oracle's file; see 'understudy oracle'.")],
    prompts: Annotated[
        Path,
        typer.Option(
            help="One prompt per line, or a .csv, .tsv, .json or .jsonl with a column prompt; they are taken in turn."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The calibration (.json); one that is there is added to.")],
    count: Annotated[int, typer.Option("-n", "--count", help="Images in all.")] = 500,
    student_lora: Annotated[Path | None, typer.Option(help="LoRA to add to the student, e.g. an LCM-LoRA.")] = None,
    predictor: Predictor = None,
    vae: Annotated[
        Path | None,
        typer.Option(help="Autoencoder in the place of the student's own: a file, or a folder of diffusers."),
    ] = None,
    oracle_family: Annotated[str, typer.Option(help=f"What the oracle is: {FAMILY}")] = "auto",
    encoder: Annotated[
        Path | None, typer.Option(help="Image encoder of an oracle that is only the head of an aesthetic predictor.")
    ] = None,
    student_steps: Annotated[int, typer.Option(help="Steps of the student.")] = 4,
    student_cfg: Annotated[float, typer.Option(help="Guidance of the student; 1 is none.")] = 1.0,
    student_sampler: Annotated[str, typer.Option(help="consistency, euler or dpmpp_2m.")] = "consistency",
    size: Annotated[str, typer.Option(help="512, or width and height as in 768x512.")] = "",
    negative: Annotated[str, typer.Option(help="Negative prompt, for models with guidance.")] = "",
    literal_prompts: LiteralPrompts = False,
    seed: Annotated[int, typer.Option(help="Seed of the first image; each next one adds 1.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Images that the student draws at once.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            help="Of the student: float32, float16 or bfloat16; auto is float16 on CUDA, else float32. The oracle is "
            "float32."
        ),
    ] = "auto",
):
    """Learn how a student's own images score, so that percentiles can be thresholds.

    A run that was cut off goes on, with the same prompts and seed. The table is for 'understudy generate'; the nodes in
    ComfyUI make their own, as each tool knows a student's settings in its own words.

    On several GPUs: accelerate launch -m understudy.cli calibrate ...
    """
    from .pipelines.calibrate import Request
    from .pipelines.calibrate import calibrate as run
    from .pipelines.console import Counter, show_calibration, show_remark
    from .pipelines.model import StudentPlan

    request = Request(
        student=student,
        oracle=oracle,
        prompts=prompts,
        out=out,
        count=count,
        student_plan=StudentPlan(student_steps, student_cfg, student_sampler),
        student_lora=student_lora,
        predictor=predictor,
        vae=vae,
        oracle_family=oracle_family,
        encoder=encoder,
        size=size,
        negative=negative,
        literal_prompts=literal_prompts,
        seed=seed,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
    )
    with Counter("images") as on_progress:
        calibration = run(request, on_progress, show_remark)
    if calibration is not None:
        show_calibration(calibration, out)


@app.command()
def score(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Pictures, or folders of pictures, in which 2 comes before 10."),
    ],
    oracle: Annotated[list[Path], typer.Option(help="The oracle's file; give it several times for several oracles.")],
    out: Annotated[Path, typer.Option(help="The table to write, .csv or .parquet.")],
    prompt: Annotated[
        str | None, typer.Option(help="What all pictures should show; aesthetic predictors need none.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Text file with a line per picture, in order; or .csv, .tsv, .json or .jsonl with columns prompt and "
            "image: a path from the table's folder, from PATH, from here or from above PATH, or a name that no "
            "other image has."
        ),
    ] = None,
    literal_prompts: LiteralPrompts = False,
    family: Annotated[
        list[str] | None, typer.Option(help=f"What each oracle is, in their order; else auto. One is {FAMILY}")
    ] = None,
    encoder: Annotated[
        list[Path] | None, typer.Option(help="Image encoder of an oracle that is only a head; one for each, in order.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures scored at once.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[
        str,
        typer.Option(help="Of the oracles: float32, float16 or bfloat16; auto is float16 on CUDA, else float32."),
    ] = "auto",
):
    """Score pictures on disk; those that cannot be read, or whose score is no number, are listed and skipped.

    Every raster format that Pillow decodes is read, of an animated picture the first frame; hidden files and folders
    are left out. A run that was cut off goes on. A table that is finished is written anew, and every picture scored
    again.

    On several GPUs: accelerate launch -m understudy.cli score ...
    """
    from .pipelines.console import Counter, show_scored
    from .pipelines.score import Request
    from .pipelines.score import score as run

    request = Request(
        paths=tuple(paths),
        oracles=tuple(oracle),
        out=out,
        prompt=prompt,
        prompts=prompts,
        literal_prompts=literal_prompts,
        families=tuple(family or ()),
        encoders=tuple(encoder or ()),
        batch_size=batch_size,
        device=device,
        dtype=dtype,
    )
    with Counter("pictures") as on_progress:
        result = run(request, on_progress)
    if result is not None:
        show_scored(result, out)


oracle_app = typer.Typer(
    name="oracle", help="Oracle files: what one is, one safetensors file of it, the published ones."
)
app.add_typer(oracle_app)


@oracle_app.command()
def info(file: Annotated[Path, typer.Argument(help="An oracle's file.")]):
    """Say what a file is: family, size, licence and source."""
    from .oracles.about import about

    for name, value in about(file).items():
        typer.echo(f"{name:10} {value}")


@oracle_app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="An oracle's file, or an aesthetic predictor's head.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    family: Annotated[str, typer.Option(help=f"What the file is: {FAMILY}")] = "auto",
    encoder: Annotated[Path | None, typer.Option(help="Image encoder to put into the same file as a head.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16, half as large.")] = False,
):
    """Write one safetensors file that says what it is."""
    from .oracles.convert import convert as run

    typer.echo(f"{out}: {run(file, out, family, encoder, half)}")


@oracle_app.command()
def download(
    name: Annotated[str, typer.Argument(help="One of the published files; without it they are listed.")] = "",
    to: Annotated[Path | None, typer.Option(help="Folder; inside ComfyUI its own models folder without it.")] = None,
):
    """Fetch a published oracle file; resumed where it stopped, and checked."""
    from .oracles.download import download as run
    from .oracles.published import PUBLISHED, by_name, encoder_for, folder_for
    from .pipelines.console import byte_counter

    if not name:
        for entry in PUBLISHED:
            typer.echo(f"{entry.name:26} {entry.licence:34} {entry.source}")
        return
    entry = by_name(name)
    with byte_counter(entry.file) as on_progress:
        path, hash_checked = run(entry, to or folder_for(entry), on_progress)
    typer.echo(f"{path}\nLicence: {entry.licence}")
    if not hash_checked:
        typer.echo("No SHA-256 of this file is known or stated by the server, so its bytes were not checked.")
    if encoder := encoder_for(entry):
        typer.echo(f"It also needs its image encoder: understudy oracle download {encoder.name}")


@app.command()
def train(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe file (.toml), or the name of one that ships with the pack.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/<recipe name> without it.")] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --out by its own recipe, with what --set changes."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key of the recipe, e.g. teacher.path=model.safetensors."
        ),
    ] = None,
    comfyui: Annotated[
        Path | None,
        typer.Option(
            help="ComfyUI's folder, for teacher.comfy; without it COMFYUI_PATH, or the one in whose custom_nodes this "
            "pack lies."
        ),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say what memory, disk and time it will take, from 10 steps.")
    ] = False,
    help_config: Annotated[
        bool, typer.Option("--help-config", help="Explain every key of a recipe; with one, of its method.")
    ] = False,
):
    """Train what a recipe describes, e.g. distil a student from a checkpoint. Ctrl-C saves and stops.

    On several GPUs: accelerate launch -m understudy.cli train ...
    """
    from .distill_train.config import toml
    from .distill_train.run import command

    changes = (*(change or ()), *([f"teacher.comfyui={toml(comfyui)}"] if comfyui else ()))
    if help_config:
        typer.echo(command.help_text(recipe))
    elif estimate:
        typer.echo(command.estimate_command(recipe, out, device, changes))
    else:
        typer.echo(f"Exported {command.train_command(recipe, out, resume, device, changes)}")


@app.command("train init")
def train_init(
    model: Annotated[Path, typer.Option(help="A checkpoint or diffusion model of any family that ComfyUI loads.")],
    comfyui: Annotated[
        Path | None,
        typer.Option(
            help="ComfyUI's folder; COMFYUI_PATH, or the one in whose custom_nodes this pack lies, without it."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The recipe (.toml) to write; named after the model without it.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="How the student learns: lcm, cd, pd or dmd. Each makes a LoRA for few steps.")
    ] = "lcm",
):
    """Write the recipe that distils a model of your ComfyUI, and say what it will take and the command that trains.

    Run it with ComfyUI's own Python. Reads what the file says of itself, and no weights.
    """
    from .distill_train.init import init

    typer.echo(init(model, comfyui, out, method))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run that has ended, or a file in its exports folder.")],
    to: Annotated[str | None, typer.Option(help=f"{choices()}; what the run trained without it.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale (cfg) to fix in a student that takes it as an input.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File or folder; the run's exports folder without it.")] = None,
    base: Annotated[Path | None, typer.Option(help="The model it was distilled from, if that has moved.")] = None,
    dtype: Annotated[str, typer.Option(help="auto (the run's own), float32, float16 or bfloat16.")] = "auto",
    comfyui: Annotated[
        Path | None, typer.Option(help="ComfyUI's folder, for a student of what it loads; the run's without it.")
    ] = None,
):
    """Write a trained student as a file that ComfyUI's stock loaders know, and check it."""
    from .distill_train.exports.export import export as run_export

    typer.echo(run_export(run, to, guidance, out, base, dtype, comfyui).summary())


def main(arguments: list[str] | None = None) -> None:
    """Run the command; bad input, and what a machine lacks, is one line on stderr and exit code 2; anything unexpected
    keeps its traceback.
    """
    # A launcher ends its processes with SIGTERM; as an exit it lets half-written files be taken away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    from .distill_train.run.stopping import Stopped

    try:
        app(args=arguments, prog_name="understudy")
    except Stopped as stopped:
        typer.echo(str(stopped), err=True)
        sys.exit(130)
    except (ValueError, OSError) as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        _fail(f"{error.name} is not installed: {sys.executable} -m pip install {PACKAGES[error.name]}")
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        advice = "use a smaller --batch-size or --dtype float16, or in training loop.accumulate = auto"
        _fail(f"out of memory; {advice} ({error})")


def _fail(message: str) -> NoReturn:
    rank = os.environ.get("RANK", "0")
    where = "" if rank == "0" else f" in process {rank}"
    typer.echo(f"error{where}: {' '.join(message.split())}", err=True)
    sys.exit(2)


def _out_of_memory(error: Exception) -> bool:
    # Without importing torch for it; its allocator for the CPU raises a plain RuntimeError.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


if __name__ == "__main__":
    main()
