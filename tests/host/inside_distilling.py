"""Runs in the host's own interpreter: the trainer on small models of its families, with its ComfyUI as a library.

usage: python inside_distilling.py COMFYUI_FOLDER PACK_FOLDER LIBRARIES CHECKPOINT

LIBRARIES is a folder where what the trainer needs is found if the host's Python has it not, CHECKPOINT a Stable
Diffusion 1.5 with all its parts. Prints one JSON object: for each check its name and None, or the traceback of its
failure.
"""

import functools
import hashlib
import importlib.util
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch
from checks import run_checks
from safetensors.torch import load_file, save_file
from torch.utils._pytree import tree_leaves

COMFYUI, PACK, LIBRARIES, CHECKPOINT = sys.argv[1:5]
sys.path.append(LIBRARIES)
spec = importlib.util.spec_from_file_location("understudy", f"{PACK}/__init__.py", submodule_search_locations=[PACK])
sys.modules["understudy"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["understudy"])

# E402 from here on: the pack is found as it was set up above, and the host as the pack finds it.
from understudy.distill_train.config import AttentionSettings, Recipe, RecipeError, TeacherSettings  # noqa: E402
from understudy.distill_train.data.batch import Batch  # noqa: E402
from understudy.distill_train.data.randomness import generator  # noqa: E402
from understudy.distill_train.host import Host, Loaded, open_host  # noqa: E402
from understudy.distill_train.methods import make_method  # noqa: E402
from understudy.distill_train.methods.classifier import Classifier  # noqa: E402
from understudy.distill_train.process import Discrete  # noqa: E402
from understudy.distill_train.run.directory import Run  # noqa: E402
from understudy.distill_train.run.loop import train  # noqa: E402
from understudy.distill_train.students.lora import ADAPTER  # noqa: E402
from understudy.distill_train.teachers.comfy import ComfyTeacher, HostNetwork  # noqa: E402
from understudy.distill_train.teachers.precision import autocast  # noqa: E402
from understudy.distill_train.teachers.ragged import batch_of  # noqa: E402

CPU = torch.device("cpu")
HOST = open_host(Path(COMFYUI), CPU)


def parts_of_the_host():
    """By their names: functions and classes of the host's modules, what its classes hold, and whether it trains."""
    found = {}
    for name, module in [*sys.modules.items()]:
        if name.partition(".")[0] in ("comfy", "comfy_extras"):
            for key, value in [*vars(module).items()]:
                if callable(value) or key == "in_training":
                    found[f"{name}.{key}"] = value
                if isinstance(value, type) and value.__module__ == name:
                    found |= {f"{name}.{key}.{attribute}": own for attribute, own in vars(value).items()}
    return found


AS_IMPORTED = parts_of_the_host()

import families  # noqa: E402

# Of these the host takes all widths for granted.
families.ALL["QwenImage"] = families.Family(
    "ldm.qwen_image.model.QwenImageTransformer2DModel",
    {"in_channels": 64, "num_layers": 2, "num_attention_heads": 1, "joint_attention_dim": 64},
    text=64,
    image_model="qwen_image",
)
families.ALL["Anima"] = families.Family(
    "ldm.anima.model.Anima",
    {
        "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16, "out_channels": 16,
        "patch_spatial": 2, "patch_temporal": 1, "model_channels": 128, "num_blocks": 2, "num_heads": 1,
        "crossattn_emb_channels": 64, "pos_emb_cls": "rope3d", "use_adaln_lora": True, "adaln_lora_dim": 16,
    },
    text=64,
    image_model="anima",
)  # fmt: skip
families.BUILT |= {"QwenImage", "Anima"}
READER = {"source_dim": 64, "target_dim": 64, "model_dim": 64, "num_layers": 1, "num_heads": 1}  # of Anima's texts

FOLDER = Path(tempfile.mkdtemp())
OLD = HOST.version < (0, 14, 0)
SMALL = ("SD15", "SD3") if OLD else ("Flux", "Flux2", "SD3", "Krea2", "WAN21_T2V")
TRAINED = SMALL if OLD else (*SMALL, "ZImage", "QwenImage", "Anima")
SIDE = {"Flux2": 4}  # of its latents, which are of 16 pixels; 8 of the others
SD15 = families.Family("", {}, text=768)
BATCH, STEPS = 2, 20


class Told(ComfyTeacher):
    """With texts and pictures of random numbers, as text encoders and autoencoders are large."""

    examples = ("a", "b")

    def embed(self, prompts):
        return batch_of([self._row(prompt) for prompt in prompts])

    def _row(self, prompt):
        family = families.ALL.get(self.kind, SD15)
        draw = generator("text", prompt)
        row = {"cross_attn": torch.randn(6 + len(prompt) % 3, family.text, generator=draw)[None]}
        if family.pooled:
            row["pooled_output"] = torch.randn(1, family.pooled, generator=draw)
        if self.kind == "Anima":
            row |= {"t5xxl_ids": torch.arange(5 + len(prompt) % 2), "t5xxl_weights": torch.ones(5 + len(prompt) % 2)}
        return row

    def decode(self, latents, clamp=True):
        return latents.flatten(1)[:, : 3 * 64].reshape(-1, 3, 8, 8).clamp(0, 1)


class BuiltHost(Host):
    """Has the small models of families of which the host recognises no small file, by the names of files."""

    def outline(self, file):
        return built(file.stem).model if file.stem in families.BUILT else super().outline(file)

    def load_model(self, file, dtype):
        return Loaded(self, built(file.stem)) if file.stem in families.BUILT else super().load_model(file, dtype)


def built(name):
    if name != "Anima":
        return families.load(name)
    from comfy.ldm.anima.model import LLMAdapter

    with patch("comfy.ldm.anima.model.LLMAdapter", functools.partial(LLMAdapter, **READER)):
        return families.load(name)


class Eyes(torch.nn.Conv2d):
    """A classifier with timm's two methods."""

    forward_features = torch.nn.Conv2d.forward

    def forward_head(self, maps, pre_logits=False):
        return maps.mean((2, 3))


class Latents:
    """Latents and prompts that follow from a sample's place; of several lengths."""

    def __init__(self, teacher, side):
        self.teacher, self.side = teacher, side

    def batch(self, step, indices):
        shape = self.teacher.latent_shape(self.side * self.teacher.factor, self.side * self.teacher.factor)
        latents = torch.stack([torch.randn(shape, generator=generator("latents", i)) for i in indices])
        pixels = self.side * self.teacher.factor
        return Batch(latents, self.teacher.embed(["x" * i for i in indices]), height=pixels, width=pixels)


@functools.cache
def file_of(name):
    """A file of a family's small model."""
    if name == "SD15":
        return Path(CHECKPOINT)
    path = FOLDER / f"{name}.safetensors"
    weights = {"built": torch.zeros(1)} if name in families.BUILT else families.weights(families.layout(name))
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return path


@functools.cache
def decoder_file():
    """A TAESD decoder of 16 channels, with random weights."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(5)
    weights = AutoencoderTiny(latent_channels=16).decoder.state_dict()
    save_file({f"decoder.{key}": value for key, value in weights.items()}, FOLDER / "decoder.safetensors")
    return FOLDER / "decoder.safetensors"


def recipe_of(name, method="lcm", loop=None, teacher=None, file=None, **settings):
    settings = settings or {"w_min": 3.0, "w_max": 3.0, "loss": "l2"}
    loop = {"steps": STEPS, "batch_size": BATCH, "lr": 5e-3, "tracker": "none"} | (loop or {})
    told = {"comfy": file or file_of(name), "comfyui": Path(COMFYUI)} | (teacher or {})
    return Recipe(
        method=method,
        seed=1,
        export="student.safetensors",
        loop=loop,
        teacher=told,
        student={"train": "lora", "rank": 4, "dtype": "fp32"},
        samples={"size": 64, "teacher_steps": 2},
        settings=settings,
    )


def make(recipe, device=CPU, dtype=torch.float32):
    """Its method, with texts and pictures of random numbers."""
    with patch("understudy.distill_train.teachers.comfy.open_host", BuiltHost):
        teacher = Told(recipe.teacher, device, dtype)
    given = {"teacher": teacher, "source": Latents(teacher, SIDE.get(teacher.kind, 8))}
    if recipe.method == "cfd":
        given["classifier"] = Classifier(Eyes(3, 6, 3), torch.full((3,), 0.5), torch.full((3,), 0.25), None)
    return make_method(recipe, device, **given)


def method_of(*given, dtype=torch.float32, **more):
    """A method that is ready for its first step; other arguments are :func:`recipe_of`'s."""
    made = make(recipe_of(*given, **more), dtype=dtype)
    made.prepare(FOLDER / "run")
    return made


def gradients(made):
    """The loss of the first step, and the gradients of what trains."""
    loss = made.loss(made.network, 0)
    return loss.item(), torch.autograd.grad(loss, made.student.parameters)


def stirred(made, by=0.05, seed=3):
    """With what trains moved from its beginning, where half of all gradients are zero."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.student.parameters:
            parameter.add_(by * torch.randn(parameter.shape, generator=draw))
    return made


def digest(module):
    found = hashlib.sha256()
    for name, value in module.state_dict().items():
        found.update(name.encode() + value.detach().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def on_each(check, names=SMALL):
    wrong = []
    for name in names:
        try:
            check(name)
        except (AssertionError, RuntimeError, RecipeError) as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


def require_learning(name, made, steps=STEPS, precision="fp32"):
    """Steps on one fixed batch lower the loss and leave the base as it was."""
    base = made.teacher.unet.diffusion_model
    before, losses = digest(base), []
    optimizer = torch.optim.AdamW(made.student.parameters, 5e-3)
    for _ in range(steps):
        with autocast(CPU, precision):
            loss = made.loss(made.network, 0)
        loss.backward()
        assert all(parameter.grad is not None for parameter in made.student.parameters)
        optimizer.step()
        optimizer.zero_grad()
        made.after_step()
        losses.append(loss.item())
    sys.stderr.write(f"{name} {losses[0]:.4g} -> {losses[-1]:.4g}\n")
    assert losses[-1] <= 0.6 * losses[0], f"{losses[0]:.4g} became {losses[-1]:.4g}"
    assert digest(base) == before


def check_twenty_steps_lower_the_loss_and_leave_the_base_as_it_was():
    on_each(lambda name: require_learning(name, method_of(name)), TRAINED)


METHODS = {
    "lcm": {"intervals": 10},
    "cd": {"intervals": 10, "cfg": 3.0},
    "pd": {"teacher_steps": 4, "cfg": 3.0},
    "cfd": {"teacher_steps": 4, "cfg": 3.0, "classifier": "given"},
    "dmd": {"student_steps": 2, "cfg": 3.0, "fake_updates": 2},
}


def check_each_method_has_a_gradient_for_every_adapter():
    """In its first two stages, of which the second is taught by the first one's weights, and in each turn."""

    def check(method):
        settings = METHODS[method] | ({"decoder": decoder_file()} if method == "cfd" else {})
        made = stirred(method_of("SD3", method, **settings))
        for stage in range(len(made.stages()[:2])):
            if stage:
                made.begin(stage)
                stirred(made)
            for turn in made.turns():
                trains = [*made.network.get_submodule(turn.part).parameters()]
                before = [weight.detach().clone() for weight in trains]
                loss = turn.loss(made.network, 0, range(BATCH))
                found = torch.autograd.grad(loss, trains)
                assert loss.isfinite() and all(each.isfinite().all() and each.any() for each in found)
                assert all(map(torch.equal, before, trains))

    on_each(check, METHODS)


def guided(name, weight=0.3, **settings):
    """Its method under the teacher's attention guidance."""
    made = make(recipe_of(name).model_copy(update={"attention": AttentionSettings(weight=weight, **settings)}))
    made.prepare(FOLDER / "run")
    return made


def midway(made, count):
    """Times at which pictures are more noise than data."""
    return torch.full((count,), 600 if isinstance(made.process, Discrete) else 0.6)


def check_a_teacher_is_guided_by_its_own_attention():
    """Each sample by its own map, though texts of other lengths go through the network in other passes."""

    def check(name):
        made, none = guided(name), guided(name, 0.0)
        side = SIDE.get(name, 8) * made.teacher.factor
        z = torch.randn(4, *made.teacher.latent_shape(side, side), generator=generator("z"))
        t, texts = midway(made, 4), made.teacher.embed(["a", "abc", "b", "c"])
        assert made.teacher.order(texts) == [0, 2, 3, 1]
        for scale in (1.0, 3.0):
            with torch.no_grad():
                together = made.teach(z, t, texts, scale)[0]
                assert not torch.allclose(together, none.teach(z, t, texts, scale)[0], atol=1e-3)
                for place, row in enumerate(made.teacher.separate(texts)):
                    one = slice(place, place + 1)
                    alone = made.teach(z[one], t[one], made.teacher.collate([row]), scale)[0]
                    torch.testing.assert_close(alone, together[one], atol=1e-4, rtol=1e-3)

    on_each(check, ("SD15", *(name for name in TRAINED if name != "SD15")))


def check_a_student_learns_from_a_teacher_that_its_attention_guides():
    def check(name):
        loss, found = gradients(guided(name))
        assert loss > 0 and all(each.isfinite().all() for each in found) and any(each.any() for each in found)
        assert gradients(guided(name, 0.0))[0] == gradients(method_of(name))[0] != loss

    on_each(check, ("SD15", "SD3"))


def check_a_unet_is_as_before_when_its_map_was_taken():
    made = guided("SD15")
    gradients(made)
    assert not made.teacher.unet.get_submodule(made.attention.map.block)._forward_pre_hooks


# The first of a picture's tokens, from the end where there are texts before it, of 16 in all.
PICTURE = {
    "SD3": -16, "Flux": -16, "Flux2": -16, "Krea2": -16, "WAN21_T2V": 0, "ZImage": -32, "QwenImage": -16, "Anima": 0
}  # fmt: skip


def check_a_transformer_s_map_is_that_between_the_picture_s_tokens_half_way_through():
    """As worked out here of what torch's attention is given."""

    def check(name):
        made, seen, own = guided(name), [], torch.nn.functional.scaled_dot_product_attention

        def spying(q, k, *rest, **options):
            seen.append((q, k))
            return own(q, k, *rest, **options)

        side = SIDE.get(name, 8) * made.teacher.factor
        z = torch.randn(2, *made.teacher.latent_shape(side, side), generator=generator("z"))
        t, texts = midway(made, 2), made.teacher.embed(["abc", "abd"])
        run = functools.partial(made._output, made.teacher.unet)
        with torch.no_grad():
            recording = made.attention.map.recording(run, z, t, made.teacher.embed(["a"]))
            with recording as recorder, patch("torch.nn.functional.scaled_dot_product_attention", spying):
                run(z, t, texts)
            found = recorder.take()
        most = max(k.shape[2] for q, k in seen if q.shape[2] == k.shape[2])
        blocks = [(q, k) for q, k in seen if q.shape[2] == k.shape[2] == most]
        q, k = blocks[len(blocks) // 2]
        first = PICTURE[name] % most
        q, k = (x[:, :, first : first + 16].float() for x in (q, k))
        sums = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).mean(1).sum(1)
        torch.testing.assert_close(found, sums, atol=1e-5, rtol=1e-4)

    on_each(check, [name for name in TRAINED if name != "SD15"])


def check_a_part_of_a_transformer_is_chosen_by_name():
    name, part = ("SD3", "joint_blocks") if OLD else ("Flux", "double_blocks")
    z = torch.randn(1, 16, 8, 8, generator=generator("z"))

    def taught(**settings):
        made = guided(name, **settings)
        with torch.no_grad():
            return made.teach(z, midway(made, 1), made.teacher.embed(["a"]), 3.0)[0]

    first, second = (taught(block=f"diffusion_model.{part}.{number}") for number in range(2))
    assert not torch.allclose(first, second, atol=1e-4)
    if OLD:
        assert torch.equal(second, taught())  # of two blocks the second is half-way
    refused(["no block 'unknown'", f"expected one of diffusion_model.{part}.0"], guided, name, block="unknown")
    refused(["part 'diffusion_model.final_layer' shows no self-attention"], taught, block="diffusion_model.final_layer")


def check_a_network_that_lets_nobody_look_is_refused():
    """As one that does not hand on to its attention what ComfyUI's users override; before the first step."""
    made = make(recipe_of("SD3").model_copy(update={"attention": AttentionSettings()}))
    network = made.teacher.unet.diffusion_model

    def unheard(*given, transformer_options=None, **more):
        return own(*given, **more)

    own, network.forward = network.forward, unheard
    refused(["shows nobody a self-attention", "so leave the table out"], made.prepare, FOLDER / "run")


FLUX = "img_attn.proj img_attn.qkv img_mlp.0 img_mlp.2 linear1 linear2 txt_attn.proj txt_attn.qkv txt_mlp.0 txt_mlp.2"
ATTENTION = [f"{place}.{layer}" for place in ("attn1", "attn2") for layer in ("to_k", "to_out.0", "to_q", "to_v")]
STREAM = ("attn.proj", "attn.qkv", "mlp.fc1", "mlp.fc2")
USUAL = {
    "SD15": [*ATTENTION, "ff.net.0.proj", "ff.net.2"],
    "SD3": [f"{stream}.{layer}" for stream in ("context_block", "x_block") for layer in STREAM],
    "Flux": FLUX.split(),
    "Flux2": FLUX.split(),
    "Krea2": "attn.gate attn.wk attn.wo attn.wq attn.wv mlp.down mlp.gate mlp.up".split(),
    "WAN21_T2V": [
        *(f"cross_attn.{layer}" for layer in "koqv"),
        *("ffn.0", "ffn.2"),
        *(f"self_attn.{layer}" for layer in "koqv"),
    ],
}


def check_attention_and_feed_forward_of_the_blocks_get_a_lora():
    def check(name):
        layers = method_of(name).student.network.factors(ADAPTER)
        assert all(layer.startswith("diffusion_model.") for layer in layers)
        names = {re.sub(r".*blocks\.\d+\.", "", layer) for layer in layers}
        assert sorted(names) == USUAL[name], sorted(names)

    on_each(check)


def check_recomputed_gradients_are_the_plain_ones():
    def check(name):
        made = stirred(method_of(name))
        loss, plain = gradients(made)
        made.student.save_memory()
        again, recomputed = gradients(made)
        assert loss == again, f"the loss was {loss}, and is {again}"
        apart = max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(plain, recomputed, strict=True))
        sys.stderr.write(f"{name} {apart}\n")
        assert apart == 0, f"gradients differ by {apart:.2e} of their largest"
        idle = {"QwenImage": 2}.get(name, 0)  # its last block's queries of the text, whose answers nothing reads
        assert sum(not gradient.any() for gradient in plain) == idle

    on_each(check, TRAINED)


def check_kernels_without_a_backward_pass_have_one_while_it_trains():
    """Those that Anima's network calls, trains or not."""
    if OLD:
        return
    from comfy.quant_ops import ck

    draw = torch.Generator().manual_seed(1)
    q, k, freqs, scale = (
        torch.randn(shape, generator=draw) for shape in ((1, 3, 2, 4), (1, 3, 2, 4), (1, 3, 1, 2, 2, 2), (4,))
    )
    fused = ck.rms_rope_split_half(q, k, freqs, scale)
    with HOST.training():
        assert all(map(torch.equal, ck.rms_rope_split_half(q.requires_grad_(), k, freqs, scale), fused))
        q, k, freqs, scale = (each.detach().double() for each in (q, k, freqs, scale))
        torch.autograd.gradcheck(lambda q: ck.rms_rope_split_half(q, k, freqs, scale), q.requires_grad_())


def check_nothing_of_the_host_is_changed():
    for name in SMALL:
        gradients(method_of(name, loop={"checkpointing": True}))
    now = parts_of_the_host()
    changed = [name for name, part in AS_IMPORTED.items() if now.get(name) is not part]
    assert not changed, changed


def check_a_run_that_was_cut_off_goes_on_to_the_last_bit():
    """Of distribution matching, which trains two adapters and recomputes its blocks with either."""

    def check(name):
        loop = {"steps": 2, "checkpoint_every": 1, "sample_every": 2, "log_every": 1, "checkpointing": True, "ema": 0.5}
        recipe = recipe_of(name, "dmd", loop, student_steps=2, cfg=2.0, fake_updates=2)
        run = FOLDER / f"cut-{name}"
        whole = load_file(train(recipe, run, device="cpu", make=make))
        newest = Run(run).checkpoints()[-1]
        ended = tree_leaves(torch.load(newest, weights_only=True)["network"])
        newest.unlink()
        first = (run / "log.jsonl").read_text().splitlines()[0]
        again = load_file(train(recipe, run, resume=True, device="cpu", make=make))
        assert (run / "log.jsonl").read_text().splitlines()[0] == first, "it began from the beginning"
        assert whole.keys() == again.keys() and all(torch.equal(whole[key], again[key]) for key in whole)
        now = tree_leaves(torch.load(newest, weights_only=True)["network"])
        assert all(torch.equal(a, b) for a, b in zip(ended, now, strict=True))

    on_each(check)


def check_the_stock_loader_makes_of_the_lora_what_was_trained():
    import comfy.sd

    def check(name):
        made = stirred(method_of(name), by=0.12)
        batch = made.source.batch(0, range(BATCH))
        given, times = made.conditioning(batch), made.process.times(torch.full((BATCH,), 0.6))
        z = made.process.level(times, batch.latents.ndim).noisy(batch.latents, torch.randn_like(batch.latents))
        lora, _ = made.student.exported()
        with torch.no_grad():
            trained, _ = made.denoise(made.network, z, times, given)
            with made.student.teaching() as base:
                untouched, _ = made.denoise(base, z, times, given)
            patcher = HOST.load_model(file_of(name), torch.float32).patcher
            patched, _ = comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0.0)
            loaded = Loaded(HOST, patched)
            loaded.bring()
            assert len(patched.patches) == len(made.student.network.factors(ADAPTER))
            merged, _ = made.denoise(HostNetwork(patched.model.diffusion_model, loaded), z, times, given)
        span = trained.max() - trained.min()
        moved, apart = ((trained - other).abs().max() / span for other in (untouched, merged))
        sys.stderr.write(f"{name}: moved by {moved:.3g} of the range, apart by {apart:.2g}\n")
        assert moved > 0.01 and apart < 1e-5, f"moved by {moved:.3g}, apart by {apart:.2g}"

    on_each(check)


def check_the_stock_loader_has_a_place_for_every_key_of_each_family():
    def check(name):
        made = method_of(name)
        lora, _ = made.student.exported()
        assert lora and not HOST.unmatched(made.teacher.unet.loaded.model, lora)

    on_each(check, TRAINED)


def check_a_grid_of_samples_is_drawn():
    def check(name):
        made = method_of(name)
        with torch.no_grad():
            grid, _ = made.measure(made.network)
        assert grid.shape == (8, 3, 8, 8) and grid.isfinite().all()  # the student at 1, 2 and 4 steps and the teacher
        assert made.loss(made.network, 0).isfinite()

    on_each(check)


IN_8_BITS = ("plain fp8", "float8_e4m3fn", "int8_tensorwise")


def eight_bits(name, form):
    """A file of a small model whose blocks' matrices at least are in 8 bits, and one of the same values in bfloat16."""
    from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

    eight, plain = {}, {}
    for key, value in families.weights(families.layout(name)).items():
        value = value.bfloat16()
        if form == "plain fp8":  # all of it, as it is published
            eight[key] = value.to(torch.float8_e4m3fn)
            plain[key] = eight[key].bfloat16()
        elif not key.startswith("blocks.") or value.ndim != 2:
            eight[key] = plain[key] = value
        else:
            packed = QuantizedTensor.from_float(value, QUANT_ALGOS[form]["comfy_tensor_layout"])
            eight |= packed.state_dict(key)
            said = list(json.dumps({"format": form}).encode())
            eight[key.removesuffix("weight") + "comfy_quant"] = torch.tensor(said, dtype=torch.uint8)
            plain[key] = packed.dequantize().bfloat16()
    paths = FOLDER / f"{name} {form}.safetensors", FOLDER / f"{name} {form} plain.safetensors"
    for path, tensors in zip(paths, (eight, plain), strict=True):
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return paths


def no_room():
    """Within, a model fits into the device's memory in 8 bits only: else ComfyUI has float8 without scales in more."""
    return patch("comfy.model_management.maximum_vram_for_weights", return_value=0)


def held(file, **more):
    """A method on such a file, and the bytes of each value in its blocks' matrices."""
    with no_room():
        made = method_of("Krea2", file=file, dtype=torch.bfloat16, **more)
    blocks = made.teacher.unet.diffusion_model.blocks.state_dict().values()
    return made, {weight.element_size() for weight in blocks if weight.ndim == 2}


def check_gradients_through_a_base_in_8_bits_are_those_through_its_values():
    if OLD:
        return

    def check(form):
        (made, sizes), (plain, plain_sizes) = map(held, eight_bits("Krea2", form))
        assert (sizes, plain_sizes) == ({1}, {2})
        (loss, ours), (plain_loss, theirs) = gradients(stirred(made)), gradients(stirred(plain))
        ours, theirs = (torch.cat([one.flatten() for one in each]) for each in (ours, theirs))
        apart = ((ours - theirs).norm() / theirs.norm()).item()
        sys.stderr.write(f"{form}: loss {loss:.5g}, {plain_loss:.5g}; gradients apart by {apart:.3g}\n")
        # Of int8 the host rounds the activations to 8 bits, too.
        assert abs(loss - plain_loss) <= 0.02 * plain_loss and apart <= (0.2 if form.startswith("int8") else 1e-3)

    on_each(check, IN_8_BITS)


def check_eight_steps_do_so_on_a_base_in_8_bits():
    """As a card of 12 GB trains it: in half precision, with its blocks recomputed."""
    if OLD:
        return

    def check(form):
        file, _ = eight_bits("Krea2", form)
        made, sizes = held(file, loop={"checkpointing": True})
        require_learning(form, made, 8, "bf16")
        assert sizes == {1}

    on_each(check, IN_8_BITS)


def teacher_of(file, **told):
    return ComfyTeacher(TeacherSettings(comfy=file, comfyui=COMFYUI, **told), CPU, torch.float32)


def refused(words, function, *arguments, **named):
    try:
        function(*arguments, **named)
    except ValueError as error:
        assert all(word in str(error) for word in words), str(error)
    else:
        raise AssertionError(f"accepted; expected an error with {words}")


def check_what_cannot_be_distilled_is_refused_with_the_reason():
    name = SMALL[-1]
    edit = FOLDER / f"{name}-kontext-dev.safetensors"
    shutil.copy(file_of(name), edit)
    refused(["kontext-dev", "takes a picture beside the text"], teacher_of, edit)
    lora = FOLDER / "lora.safetensors"
    save_file({"lora_unet_mid.lora_up.weight": torch.zeros(2, 2)}, lora)
    refused(["lora.safetensors: ComfyUI finds no diffusion model in it"], teacher_of, lora)
    if OLD:
        refused(["WAN21_T2V", "from 0.14.0 on", "is 0.8.0"], teacher_of, file_of("WAN21_T2V"))
    refused(["SD15 without that input"], teacher_of, CHECKPOINT, guidance=3.5)
    refused(["teacher.shift is for flows; SD15"], teacher_of, CHECKPOINT, shift=3.0)
    flow = teacher_of(file_of("SD3"))
    refused(["has no text encoders; name their files"], flow.embed, ["a"])
    refused(["has no autoencoder that ComfyUI knows; name its file"], flow.encode, torch.zeros(1, 3, 16, 16))
    refused(["teacher.clip_type is 'sd4'; expected one of"], teacher_of(file_of("SD3"), clip_type="sd4").embed, ["a"])
    wrong = teacher_of(file_of("SD3"), clip=(lora,), clip_type="sd3")
    refused(["lora.safetensors: ComfyUI finds no text encoder in it"], wrong.embed, ["a"])


def check_a_flow_s_schedule_is_the_host_s_own_or_what_the_recipe_says():
    import comfy.model_sampling
    from comfy_extras.nodes_model_advanced import ModelSamplingFlux

    places = torch.tensor([0.25, 0.5, 0.99])
    own = teacher_of(file_of("SD3"))
    sampling = comfy.model_sampling.ModelSamplingDiscreteFlow()
    sampling.set_parameters(shift=3.0)
    torch.testing.assert_close(own.process.times(places), sampling.sigma(places * 1000))
    assert own.metadata(None) == {"shift": "3"}
    assert teacher_of(file_of("SD3"), shift=5.0).metadata(None) == {"shift": "5"}
    if not OLD:
        flux = teacher_of(file_of("Flux"), guidance=2.0)
        torch.testing.assert_close(flux.process.times(places), comfy.model_sampling.ModelSamplingFlux().sigma(places))
        assert flux.metadata(None)["flux_guidance"] == "2"
        sized = teacher_of(file_of("Flux"), shift="by size")
        node, model = ModelSamplingFlux(), HOST.load_model(file_of("Flux"), torch.float32).patcher
        for height, width in ((32, 48), (128, 128), (160, 96)):
            theirs = node.patch(model, 1.15, 0.5, 8 * width, 8 * height)[0].get_model_object("model_sampling")
            torch.testing.assert_close(sized.process.times(places, (height, width)), theirs.sigma(places))
        assert sized.metadata(None) == {"mu_low": "0.5", "mu_high": "1.15", "flux_guidance": "3.5"}
    refused(["teacher.shift is 'by size'; SD3 has one for all"], teacher_of, file_of("SD3"), shift="by size")
    refused(["teacher.shift is for flows; SD15"], teacher_of, CHECKPOINT, shift="by size")


if __name__ == "__main__":
    run_checks()
