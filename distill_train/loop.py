"""The loop that every method runs in."""

import math
import time
from pathlib import Path

import torch

from .config import Recipe
from .ema import Ema
from .methods import make_method
from .methods.base import Method
from .run import Run


class TrainingError(RuntimeError):
    """A training that cannot go on; the message names the step."""


def train(recipe: Recipe, directory: Path, resume: bool = False, device: str = "auto") -> Path:
    """Train as the recipe says and return the exported file.

    directory: the run's directory. With ``resume`` the newest checkpoint in it is continued, to the same weights as an
    unbroken run on one CPU process. device: "auto", "cpu" or "cuda".
    Raises RecipeError for a wrong recipe and TrainingError when the loss is not a number.
    """
    from accelerate import Accelerator

    loop = recipe.loop
    accelerator = Accelerator(cpu=device == "cpu")
    torch.manual_seed(recipe.seed)  # initial weights; all later draws have generators of their own
    method = make_method(recipe, accelerator.device)
    run = Run.resume(directory, recipe) if resume else Run.start(directory, recipe)
    method.prepare(run.directory)
    network = method.network.to(accelerator.device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=loop.lr, betas=loop.betas, weight_decay=loop.weight_decay, fused=True
    )
    ema = Ema(network, loop.ema)
    step = _restore(run, network, ema, optimizer, method) if resume else 0
    forward, optimizer = accelerator.prepare(network, optimizer)
    with _progress() as progress:
        bar = progress.add_task(recipe.export, total=loop.steps, completed=step, loss=math.nan, speed=0.0)
        since, started = step, time.monotonic()
        while step < loop.steps:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step)
            # Not Accelerator's own mixed precision: that is one for the whole process, a recipe's is its own.
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=loop.precision == "bf16"):
                loss = method.loss(forward, step)
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(network.parameters(), loop.grad_clip)
            optimizer.step()
            optimizer.zero_grad()
            ema.update(network)
            method.after_step(network)
            step += 1
            if step % loop.log_every == 0 or step == loop.steps:
                _require_finite(loss, norm, step)
                speed = (step - since) * loop.batch_size / (time.monotonic() - started)
                run.log({"step": step, "loss": loss.item(), "grad_norm": norm.item(), "samples_per_second": speed})
                progress.update(bar, completed=step, loss=loss.item(), speed=speed)
                since, started = step, time.monotonic()
            if step % loop.sample_every == 0 or step == loop.steps:
                _measure(run, method, ema, step)
                since, started = step, time.monotonic()
            if step % loop.checkpoint_every == 0 or step == loop.steps:
                state = {"step": step, "network": network.state_dict(), "ema": ema.state_dict()}
                state |= {"optimizer": optimizer.state_dict(), "method": method.state_dict()}
                run.save_checkpoint(step, state, loop.keep_checkpoints)
    exported = run.directory / "exports" / recipe.export
    method.export(ema.network, exported)
    return exported


def learning_rate(recipe: Recipe, step: int) -> float:
    """A linear warmup to the peak; then half a cosine down to zero, the peak to the end, or the peak and a late fall.

    "wsd" (warmup, stable, decay) falls linearly over the last fifth, so runs of other lengths share their beginning.
    """
    loop = recipe.loop
    if step < loop.warmup:
        return loop.lr * (step + 1) / loop.warmup
    if loop.decay == "constant":
        return loop.lr
    if loop.decay == "wsd":
        return loop.lr * min(1.0, (loop.steps - step) / (0.2 * loop.steps))
    done = (step - loop.warmup) / max(1, loop.steps - loop.warmup)
    return loop.lr * 0.5 * (1 + math.cos(math.pi * done))


def _restore(run: Run, network, ema: Ema, optimizer, method: Method) -> int:
    state = run.load_checkpoint()
    if state is None:
        return 0
    network.load_state_dict(state["network"])
    ema.load_state_dict(state["ema"])
    optimizer.load_state_dict(state["optimizer"])
    method.load_state_dict(state["method"])
    return state["step"]


def _require_finite(loss: torch.Tensor, norm: torch.Tensor, step: int) -> None:
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        raise TrainingError(
            f"the loss is {loss.item()} and the gradient norm {norm.item()} at step {step}; "
            "lower loop.lr or loop.grad_clip, then continue from the last checkpoint with --resume"
        )


def _measure(run: Run, method: Method, ema: Ema, step: int) -> None:
    with torch.no_grad():
        grid, measures = method.measure(ema.network)
    run.log({"step": step, **measures})
    if grid is not None:
        path = run.directory / "samples" / f"step-{step:08d}.png"
        _save_grid(grid, path)


def _save_grid(images: torch.Tensor, path: Path, columns: int = 8) -> None:
    """Images [N, 3, H, W] in [0, 1] as one PNG, ``columns`` in a row."""
    from PIL import Image

    images = images[: len(images) // columns * columns].clamp(0, 1)
    count, channels, height, width = images.shape
    rows = images.view(-1, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = (rows.reshape(count // columns * height, columns * width, channels) * 255).round().byte()
    Image.fromarray(pixels.cpu().numpy()).save(path)


def _progress():
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  {task.fields[speed]:.0f} samples/s"),
        TimeRemainingColumn(),
    )
