"""What we ask of the host, by what it can do and never by its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .choices import SAME, RefusedChoice


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


def load_chosen_checkpoint() -> None:
    """The checkpoint of the user's options again, at once: the host would leave the teacher's there."""
    from modules import sd_models

    if hasattr(sd_models, "forge_model_reload"):
        sd_models.forge_model_reload()
    else:
        sd_models.reload_model_weights()


def samplers() -> list[str]:
    """Those with k-diffusion's signature, which start at any sigma."""
    from modules import sd_samplers, sd_samplers_kdiffusion

    of_k_diffusion = {sampler.name for sampler in sd_samplers_kdiffusion.samplers_data_k_diffusion}
    return [sampler.name for sampler in sd_samplers.all_samplers if sampler.name in of_k_diffusion]


def schedulers() -> list[str]:
    from modules import sd_schedulers

    return [scheduler.label for scheduler in sd_schedulers.schedulers]


def modules() -> list[str]:
    """The VAE and text encoder files of a host that keeps them apart from checkpoints; others have none."""
    return []


def interrupted() -> bool:
    from modules.shared import state

    return state.interrupted or state.skipped or getattr(state, "stopping_generation", False)


@contextmanager
def undisturbed() -> Iterator[None]:
    """The teacher's pass leaves no trace: random state, progress bars and the prompt's history are as before."""
    import torch
    from modules import shared
    from modules.paths_internal import data_path

    history = Path(data_path) / "params.txt"
    before = history.read_bytes() if history.exists() else None
    bars = shared.opts.data.get("multiple_tqdm")
    shared.opts.data["multiple_tqdm"] = False
    devices = [shared.device] if shared.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        shared.opts.data["multiple_tqdm"] = bars
        if before is not None and history.exists() and history.read_bytes() != before:
            history.write_bytes(before)


def set_as_the_job_has_it(p) -> None:
    """Tiling and token merging on the network again: a pass within a job leaves them off, or another network there."""
    from modules import processing, sd_hijack, sd_models

    if hasattr(sd_models, "apply_token_merging"):
        sd_models.apply_token_merging(p.sd_model, p.get_token_merging_ratio())
    if hasattr(processing, "apply_circular_forge"):
        processing.apply_circular_forge(p.sd_model, p.tiling)
    elif hasattr(sd_hijack.model_hijack, "apply_circular"):
        sd_hijack.model_hijack.apply_circular(p.tiling)
