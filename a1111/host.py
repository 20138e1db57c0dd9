"""What we ask of the host, by what it can do and never by its name."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .choices import SAME, RefusedChoice


def let_warnings_be_seen(logger: str) -> None:
    """In the log of a host that shows errors alone unless it is told otherwise, as Forge Neo does.

    What a switch costs, and why a job is off, is no error, and who makes pictures over the API sees no page.
    """
    from modules.shared import cmd_opts

    told = getattr(cmd_opts, "loglevel", None) or os.environ.get("SD_WEBUI_LOG_LEVEL")
    if not told and not logging.getLogger(logger).isEnabledFor(logging.WARNING):
        logging.getLogger(logger).setLevel(logging.WARNING)


def models_folder(name: str) -> Path:
    """A folder of ours beside the host's own models, which the command line may have moved."""
    from modules.paths_internal import models_path

    return Path(models_path) / name


def checkpoints() -> list[str]:
    """The titles that the host lists."""
    from modules import sd_models

    return [info.title for info in sd_models.checkpoints_list.values()]


def checkpoint_title(name: str) -> str:
    """The listed title that a name, with or without its hash, stands for; unknown ones the host drops in silence."""
    from modules import sd_models

    found = sd_models.get_closet_checkpoint_match(name)
    if found is None:
        raise RefusedChoice(f"the host has no checkpoint {name!r}: press its refresh button, or choose another teacher")
    return found.title


def is_loaded(title: str) -> bool:
    """Whether that is the checkpoint that the job samples with."""
    from modules import sd_models

    return title == SAME or title == sd_models.select_checkpoint().title


def load_chosen_checkpoint(p, broken: bool = False) -> None:
    """The checkpoint of the user's options again, at once: the host would leave the teacher's there.

    p: what goes on with it. Of image to image it has one sampler for all of its batches, which holds the network that
    was there when the job began, and that the host has thrown away where the other one was of another layout.
    broken: another's load failed half way. A1111 has the old network then, stripped of its text encoder's wrapper and
    on the CPU, and Forge has none; both take it for loaded still, so that they must be made to read the file again.
    """
    from modules import sd_models, sd_samplers

    if hasattr(sd_models, "forge_model_reload"):
        if broken and hasattr(sd_models.model_data, "forge_hash"):
            sd_models.model_data.forge_hash = ""
        sd_models.forge_model_reload()
    else:
        sd_models.reload_model_weights(forced_reload=broken)
    if getattr(p, "sampler", None) is not None:
        p.sampler = sd_samplers.create_sampler(p.sampler_name, p.sd_model)


def apply_to_network(p) -> None:
    """What the host puts on a job's network once, at the job's start, and takes off at the end of any, so of ours."""
    from modules import processing, sd_models, shared

    if not hasattr(sd_models, "forge_model_reload"):
        from modules import sd_hijack  # Forge Neo has none

        sd_models.apply_token_merging(p.sd_model, p.get_token_merging_ratio())
        sd_hijack.model_hijack.apply_circular(p.tiling)
    elif hasattr(processing, "apply_circular_forge"):  # the rest it puts on a copy for each batch
        processing.apply_circular_forge(shared.sd_model, p.tiling)


def modules() -> list[str]:
    """The VAE and text encoder files of a host that keeps them apart from checkpoints; others have none."""
    if importlib.util.find_spec("modules_forge") is None:
        return []
    from modules_forge import main_entry

    return list(main_entry.refresh_models()[1])


def modules_setting(chosen: Sequence[str]) -> dict[str, list[str]]:
    """What to override for the teacher's VAE and text encoders; unknown ones the host drops in silence."""
    there = modules() if chosen else []
    if unknown := [name for name in chosen if name not in there]:
        listed = ", ".join(there) or "none"
        raise RefusedChoice(f"the host has no VAE or text encoder {', '.join(unknown)}; there are: {listed}")
    return {"forge_additional_modules": list(chosen)} if chosen else {}


def on_close(p, act: Callable[[], None]) -> None:
    """Have something done when the host closes a processing, as it does with a user's job however that ends.

    For an error in a job it has no hook.
    """
    close = p.close

    def closed():
        act()
        close()

    p.close = closed


def interrupted() -> str:
    """How the user stopped the job, "" for not."""
    from modules.shared import state

    stopping = getattr(state, "stopping_generation", False)
    return cut_short() or ("stopped after its last picture" if stopping else "")


def cut_short() -> str:
    """The same, but for the wish to stop once what runs is finished."""
    from modules.shared import state

    return "interrupted" if state.interrupted else "skipped" if state.skipped else ""


def skip_is_over() -> None:
    """What the user skipped is behind us, as it is for the host when its next batch starts."""
    from modules.shared import state

    state.skipped = False


def expect_pass(count: int = 1) -> None:
    """So many passes more, or fewer, in what the host's bar and its time left count."""
    from modules.shared import state

    state.job_count += count


@contextmanager
def shown_pass(steps: int, text: str, batches: int = 1) -> Iterator[None]:
    """One more pass in the host's progress: its bar, its time left and its text, and the console's total."""
    from modules import shared

    state, total = shared.state, getattr(shared.total_tqdm, "_tqdm", None)
    expect_pass(batches)
    done, before = state.job_no + batches, (state.textinfo, state.job)
    state.textinfo = text
    if total is not None:
        shared.total_tqdm.updateTotal(total.total + steps * batches)
    try:
        yield
    finally:  # a pass that failed is over as well
        state.textinfo, state.job = before
        state.job_no, state.sampling_step = done, 0


@contextmanager
def undisturbed(settings: Iterable[str]) -> Iterator[None]:
    """The teacher's pass leaves no trace: random state, the prompt's history and the user's options are as before.

    settings: the options that the pass has of its own. The host puts back those that had a value; of the ones that
    nobody ever saved it would make settings of the user's.
    """
    import torch
    from modules import shared
    from modules.paths_internal import data_path

    history = Path(data_path) / "params.txt"
    before = history.read_bytes() if history.exists() else None
    never_set = [name for name in settings if name not in shared.opts.data]
    devices = [shared.device] if shared.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        for name in never_set:
            shared.opts.data.pop(name, None)
        if before is None:
            history.unlink(missing_ok=True)
        elif not history.exists() or history.read_bytes() != before:
            history.write_bytes(before)
