"""What we ask of the host, by what it can do and never by its name."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
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
