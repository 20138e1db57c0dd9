"""Another extension, for the tests: it says what it sees of the host, and makes trouble when it is asked to.

``/beside/seen`` and ``/beside/do`` are its routes; its samplers raise what their names say.
"""

import ctypes
import gc
import sys
from functools import partial
from pathlib import Path

import torch
from modules import (
    script_callbacks,
    scripts,
    sd_models,
    sd_samplers,
    sd_samplers_common,
    sd_samplers_kdiffusion,
    shared,
)


class NobodyKnows(Exception):
    """No error that anybody else could have thought of."""


RAISED = {
    "Out of GPU memory": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "Out of memory": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    "Broken": NobodyKnows("this extension has an error\nand says more about it"),
}
LIBRARY = ctypes.CDLL(None)
# What the tests ask for, by /beside/do.
asked = {"raise": False, "leak": None}
leaked, seen = [], {}
LEAKS = {
    "latent": lambda: torch.zeros(1, 4, 8, 8),
    "picture": lambda: torch.zeros(1, 3, 64, 64),
    "network": lambda: torch.nn.Linear(4096, 2048),
}


def raising(error):
    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None):
        raise error

    return sample


def register():
    for name, error in RAISED.items():
        make = partial(sd_samplers_kdiffusion.KDiffusionSampler, raising(error))
        data = sd_samplers_common.SamplerData(name, make, [], {})
        sd_samplers_kdiffusion.samplers_data_k_diffusion.append(data)
        sd_samplers.all_samplers.append(data)
        sd_samplers.all_samplers_map[name] = data
    sd_samplers.set_samplers()


def oracles_of_ours():
    """The module that scores, under the name that the extension gives its pack."""
    return sys.modules["understudy_extension.a1111.oracle"]


def failing(call, error, which: str):
    """An oracle's call that raises the first or the second time."""
    calls = []

    def score(self, images, prompts):
        calls.append(1)
        if len(calls) == ("first", "second").index(which) + 1:
            raise error
        return call(self, images, prompts)

    return score


class Beside(scripts.Script):
    """Its hooks run after ours, since extensions do in the order of their folders' names."""

    def title(self):
        return "Beside"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def postprocess_batch_list(self, p, args, *values, **_):
        if asked["raise"]:
            raise NobodyKnows("in postprocess_batch_list")

    def before_process(self, p, *values):
        seen["encoded"] = 0
        if asked["raise"]:
            raise NobodyKnows("in before_process")

    def postprocess(self, p, processed, *values):
        if asked["leak"]:
            leaked.append(LEAKS[asked["leak"]]())
        bar = shared.total_tqdm._tqdm
        seen["comments"] = processed.comments
        seen["total"] = None if bar is None else [bar.n, bar.total]
        if asked["raise"]:
            raise NobodyKnows("in postprocess")


def look() -> dict:
    """The host as it is now. tensors: bytes of all that Python still holds; memory: the process's, in KiB."""
    gc.collect()
    if hasattr(LIBRARY, "malloc_trim"):  # what was freed and is kept for later is no growth, and would hide one
        LIBRARY.malloc_trim(0)
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects() if _is_tensor(t)}
    status = Path("/proc/self/status").read_text()
    model = sd_models.model_data.sd_model
    return {
        **seen,
        "tensors": sum(held.values()),
        "memory": int(status.partition("VmRSS:")[2].split()[0]),
        "loaded": model.sd_checkpoint_info.name,
        "wrapped": type(getattr(model, "cond_stage_model", None)).__name__,  # Forge wraps none
        "merging": getattr(model, "applied_token_merged_ratio", 0),
        "path": sys.path,
        "options": shared.opts.data,
    }


def be_flow(model, on: bool):
    """Have the host mix noise and picture for this network as it does for SD 3, whatever comes of it."""
    if hasattr(model, "forge_objects"):
        model.forge_objects.unet.model.predictor.prediction_type = "const" if on else "epsilon"
    elif on:
        model.add_noise_to_latent = lambda x, noise, amount: x * (1 - amount) + noise * amount
    else:
        del model.add_noise_to_latent


def count_encodings(model):
    """``encoded``: how many pictures the job has had encoded."""
    encode = model.encode_first_stage

    def counted(pixels):
        seen["encoded"] = seen.get("encoded", 0) + len(pixels)
        return encode(pixels)

    model.encode_first_stage = counted


def _is_tensor(thing) -> bool:
    return issubclass(type(thing), torch.Tensor) and thing.device.type != "meta"


def routes(_, app):
    @app.get("/beside/seen")
    def _seen():
        return look()

    @app.post("/beside/do")
    def _do(wish: dict):
        for name, value in wish.pop("command_line", {}).items():
            setattr(shared.cmd_opts, name, value)
        asked.update(wish)
        if "scoring" in wish:
            hosted = oracles_of_ours().HostedOracle
            hosted.__call__ = getattr(hosted.__call__, "untouched", hosted.__call__)
            if wish["scoring"]:
                name, which = wish["scoring"]
                untouched = hosted.__call__
                hosted.__call__ = failing(untouched, RAISED[name], which)
                hosted.__call__.untouched = untouched
        if "flow" in wish:
            be_flow(sd_models.model_data.sd_model, wish["flow"])
        for name in wish.get("forget", ()):
            shared.opts.data.pop(name, None)
        leaked.clear()
        return {}

    @app.get("/beside/interrogate")
    def _interrogate():
        shared.interrogator.create_fake_fairscale()
        import models.blip

        return {"file": models.blip.__file__}


register()
script_callbacks.on_app_started(routes)
script_callbacks.on_model_loaded(count_encodings)
