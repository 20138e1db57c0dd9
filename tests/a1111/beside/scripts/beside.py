"""Another extension, for the tests: it says what it sees of the host, and makes trouble when it is asked to.

``/beside/seen``, ``/beside/held`` and ``/beside/do`` are its routes; its samplers raise what their names say.
"""

import copy
import ctypes
import gc
import math
import sys
from functools import partial
from pathlib import Path

import torch
from k_diffusion.sampling import sample_euler
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
broken = []  # of the extension: (holder, name, what was there)
taken_out = []  # of the host's lists: (list, what was in it with us)
LEAKS = {
    "latent": lambda: torch.zeros(1, 4, 4, 4),
    "picture": lambda: torch.zeros(1, 3, 32, 32),
    "network": lambda: torch.nn.Linear(4096, 2048),
}


def raising(error):
    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None):
        raise copy.copy(error)  # another's error is no object that stays, and keeps what it went through

    return sample


def raising_in_the_third(model, x, sigmas, extra_args=None, callback=None, disable=None):
    """Euler's, for a job's first two batches."""
    seen["sampled"] += 1
    if seen["sampled"] == 3:
        raise RAISED["Broken"]
    return sample_euler(model, x, sigmas, extra_args, callback, disable)


def register():
    samplers = {name: raising(error) for name, error in RAISED.items()}
    for name, sample in {**samplers, "Broken in the third batch": raising_in_the_third}.items():
        make = partial(sd_samplers_kdiffusion.KDiffusionSampler, sample)
        data = sd_samplers_common.SamplerData(name, make, [], {})
        sd_samplers_kdiffusion.samplers_data_k_diffusion.append(data)
        sd_samplers.all_samplers.append(data)
        sd_samplers.all_samplers_map[name] = data
    sd_samplers.set_samplers()


def oracles_of_ours():
    """The module that scores, under the name that the extension gives its pack."""
    return sys.modules["understudy_extension.a1111.oracle"]


def break_ours(name: str | None, which: int = 1):
    """Have a function of the extension, such as "files.Files.write", raise once, at one of its calls; None: none."""
    while broken:
        setattr(*broken.pop())
    if name is None:
        return
    module, *path, last = name.split(".")
    holder = sys.modules[f"understudy_extension.a1111.{module}"]
    for part in path:
        holder = getattr(holder, part)
    untouched, calls = getattr(holder, last), []

    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) == which:
            raise RAISED["Broken"]
        return untouched(*args, **kwargs)

    broken.append((holder, last, untouched))
    setattr(holder, last, call)


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
        seen.update(encoded=0, loads=[], sampled=0, asked=[])
        if asked["raise"]:
            raise NobodyKnows("in before_process")

    def postprocess(self, p, processed, *values):
        if asked["leak"]:
            leaked.append(LEAKS[asked["leak"]]())
        bar = shared.total_tqdm._tqdm
        seen["comments"] = processed.comments
        shown = processed.images[processed.index_of_first_image :]
        seen["saved_as"] = [getattr(image, "already_saved_as", None) for image in shown]
        seen["total"] = None if bar is None else [bar.n, bar.total]
        if asked["raise"]:
            raise NobodyKnows("in postprocess")


def look() -> dict:
    """The host as it is now."""
    model = sd_models.model_data.sd_model
    return {
        **seen,
        "loaded": model.sd_checkpoint_info.name,
        "wrapped": None if is_forges(model) else type(model.cond_stage_model).__name__,  # Forge wraps none
        "merging": getattr(model, "applied_token_merged_ratio", 0),
        "path": sys.path,
        "interrogates": hasattr(shared, "interrogator"),  # Forge Neo has no more of it than the route
        "options": shared.opts.data,
    }


def give_back():
    """To the system, what is held by nobody."""
    gc.collect()
    if hasattr(LIBRARY, "malloc_trim"):
        LIBRARY.malloc_trim(0)


def weigh() -> dict:
    """tensors: bytes of all that Python still holds; memory: the process's, in KiB."""
    give_back()  # what was freed and is kept for later is no growth, and would hide one
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects() if _is_tensor(t)}
    status = Path("/proc/self/status").read_text()
    return {"tensors": sum(held.values()), "memory": int(status.partition("VmRSS:")[2].split()[0])}


def is_forges(model) -> bool:
    return hasattr(model, "forge_objects")


def leave_us_out():
    """The host as it is without us: our script in neither tab, none of our callbacks."""
    runners = [scripts.scripts_txt2img.alwayson_scripts, scripts.scripts_img2img.alwayson_scripts]
    for held in (*runners, *script_callbacks.callback_map.values()):
        taken_out.append((held, list(held)))
        held[:] = [each for each in held if not _is_ours(each)]


def let_us_in():
    while taken_out:
        held, whole = taken_out.pop()
        held[:] = whole


def _is_ours(thing) -> bool:
    """thing: a script, or a callback with the file that it is of."""
    return Path(getattr(thing, "filename", None) or thing.script).name == "understudy.py"


def be_flow(model, on: bool):
    """Have the host mix noise and picture for this network as it does for SD 3, whatever comes of it."""
    if is_forges(model):
        model.forge_objects.unet.model.predictor.prediction_type = "const" if on else "epsilon"
    elif on:
        model.add_noise_to_latent = lambda x, noise, amount: x * (1 - amount) + noise * amount
    else:
        vars(model).pop("add_noise_to_latent", None)


def count_loads(model):
    seen.setdefault("loads", []).append(model.sd_checkpoint_info.name)
    give_back()  # the networks of so many switches would fill the machine


def count_encodings(model):
    """``encoded``: how many pictures the job has had encoded."""
    encode = model.encode_first_stage
    if hasattr(encode, "counts"):  # the same network with other weights
        return

    def counted(pixels):
        seen["encoded"] = seen.get("encoded", 0) + len(pixels)
        return encode(pixels)

    counted.counts = True
    model.encode_first_stage = counted


def note_what_is_asked(params):
    """``asked``: of each call of the network in the job, the noise level that it is told and the length of what it is
    given, None where that is no number, for which JSON has no word."""
    length = float(params.x[0].double().norm())
    given = {"level": float(params.sigma[0]), "length": length if math.isfinite(length) else None}
    seen.setdefault("asked", []).append(given)


def _is_tensor(thing) -> bool:
    return issubclass(type(thing), torch.Tensor) and thing.device.type != "meta"


def routes(_, app):
    @app.get("/beside/seen")
    def _seen():
        return look()

    @app.get("/beside/held")
    def _held():
        return weigh()

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
        if "broken" in wish:
            break_ours(*wish["broken"])
        if "absent" in wish:
            let_us_in()
            if wish["absent"]:
                leave_us_out()
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
script_callbacks.on_model_loaded(count_loads)
script_callbacks.on_cfg_denoiser(note_what_is_asked)
