"""Runs in the host's own interpreter: the sampling nodes over the host's own networks, tiny, and over its patches.

usage: python inside_sampling.py COMFYUI_FOLDER PACK_FOLDER

Prints one JSON object as ``inside_teacher.py`` does, whose graph it takes over.
"""

import copy
import functools
import sys
import types

import torch
from inside_teacher import BATCH, MODEL, SEED, Hint, alone, close, far, main, pictures, refused, teach, text

CPU = torch.device("cpu")

# E402 from here on: inside_teacher made the host's modules and the pack importable.
import comfy.controlnet  # noqa: E402
import comfy.model_base  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.supported_models  # noqa: E402
from comfy_execution.graph import DynamicPrompt  # noqa: E402
from understudy.nodes.predicted import predicted, require_fit  # noqa: E402
from understudy.nodes.presets import prepare  # noqa: E402
from understudy.nodes.student import UnderstudyStudentSampler  # noqa: E402
from understudy.nodes.teacher import UnderstudyTeacher  # noqa: E402
from understudy.predictor import Layout, Predictor  # noqa: E402
from understudy.samplers.presets import STUDENTS, Student  # noqa: E402

# What nodes show while they run.
TOLD = []
instance = types.SimpleNamespace(send_progress_text=lambda text, node_id: TOLD.append(text))
sys.modules["server"] = types.SimpleNamespace(PromptServer=types.SimpleNamespace(instance=instance))
hidden = types.SimpleNamespace(unique_id="1", dynprompt=DynamicPrompt({"1": {"inputs": {}}}))
UnderstudyTeacher.hidden = UnderstudyStudentSampler.hidden = hidden


def small(kind, model, **network):
    """One of the host's models with a small network of the host's own class, as it would load it from a file."""
    config = kind({})
    config.unet_config = network
    config.set_inference_dtype(torch.float32, None)
    torch.manual_seed(0)
    made = model(config, device=CPU)
    for name, parameter in made.diffusion_model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.7 / parameter[0].numel() ** 0.5)
        else:
            torch.nn.init.constant_(parameter, 1.0 if "norm" in name and "weight" in name else 0.02)
    for name, buffer in made.diffusion_model.named_buffers():
        if name == "pos_embed":  # which the host leaves to the file, with whatever lay in memory
            torch.nn.init.normal_(buffer, std=0.02)
    return comfy.model_patcher.ModelPatcher(made, CPU, CPU)


@functools.cache
def wan():
    return small(
        comfy.supported_models.WAN21_T2V, comfy.model_base.WAN21, model_type="t2v", dim=128, ffn_dim=128, num_heads=1,
        num_layers=1, text_dim=16,
    )  # fmt: skip


@functools.cache
def qwen():
    return small(
        comfy.supported_models.QwenImage, comfy.model_base.QwenImage, num_layers=1, num_attention_heads=1,
        joint_attention_dim=16,
    )  # fmt: skip


@functools.cache
def sd15():
    return small(
        comfy.supported_models.SD15, comfy.model_base.BaseModel, image_size=32, in_channels=4, out_channels=4,
        model_channels=32, num_res_blocks=[1, 1], channel_mult=[1, 1], transformer_depth=[1, 1],
        transformer_depth_output=[1, 1, 1, 1], transformer_depth_middle=1, num_head_channels=32,
        use_spatial_transformer=True, context_dim=16, legacy=False,
    )  # fmt: skip


@functools.cache
def sd3():
    linear = {"target": "torch.nn.Linear", "params": {"in_features": 16, "out_features": 128}}
    return small(
        comfy.supported_models.SD3, comfy.model_base.SD3, input_size=None, patch_size=2, in_channels=16, depth=2,
        adm_in_channels=16, qk_norm="rms", pos_embed_scaling_factor=None, pos_embed_max_size=32, num_patches=1024,
        context_embedder_config=linear,
    )  # fmt: skip


class FramesVae:
    """Stands in for a VAE of videos: each 8x8 block of pixels is its mean colour in 16 channels, one frame."""

    latent_dim = 3

    def spacial_compression_encode(self):
        return 8

    def encode(self, pixels):
        colours = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([colours, colours, colours, colours, colours, colours[:, :1]], dim=1)[:, :, None]

    def decode(self, samples):
        sides = torch.nn.functional.interpolate(samples[:, :3, 0].float(), scale_factor=8)
        return sides.movedim(1, -1)[:, None]


class ImagesVae(FramesVae):
    """The same without frames."""

    latent_dim = 2

    def encode(self, pixels):
        return super().encode(pixels)[:, :, 0]

    def decode(self, samples):
        return super().decode(samples[:, :, None])[:, 0]


def student(model, latent, preset="consistency", **changes):
    inputs = {"positive": text(1), "negative": text(2), "steps": 3, "cfg": 2.0, "denoise": 0.6} | changes
    positive, negative, *rest = inputs.values()
    return UnderstudyStudentSampler.execute(model, positive, negative, latent, SEED, preset, *rest)


def halves():
    """A mask for each image, in pixels: the left, right, upper and lower half."""
    masks = torch.zeros(BATCH, 64, 64)
    masks[0, :, :32] = masks[1, :, 32:] = masks[2, :32] = masks[3, 32:] = 1
    return masks


def protected(samples, masks):
    """The parts of latents [B, C, 1, h, w] that masks of pixels keep."""
    return samples * (masks[:, None, None, ::8, ::8] == 0)


def check_students_of_models_with_frames_have_a_mask_for_each_image():
    samples = torch.randn(BATCH, 16, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    for model in (wan(), qwen()):
        for masks in (halves(), halves()[:, None], halves()[:2], halves()[:1]):
            whole = student(model, {"samples": samples, "noise_mask": masks}).result[0]
            assert whole["noise_mask"] is masks
            for image in range(BATCH):
                own = masks[image % len(masks)].reshape(1, 64, 64)
                latent = {"samples": samples[image : image + 1], "noise_mask": own, "batch_index": [image]}
                one = student(model, latent).result[0]["samples"]
                close(whole["samples"][image : image + 1], one)
                close(protected(one, own), protected(samples[image : image + 1], own), 1e-5)
                far(one, samples[image : image + 1])


def check_teachers_with_frames_have_a_mask_for_each_image():
    images, masks = pictures(), halves()
    for model in (wan(), qwen()):
        for shape in ((BATCH, 16, 1, 8, 8), (BATCH, 4, 8, 8)):  # the student's latents: with frames or without
            for options in ({"sampler_name": "euler"}, {"sampler_name": "ddim", "strategy": "regenerate"}):
                options |= {"model": model, "vae": FramesVae()}
                latent = {"samples": torch.zeros(shape), "noise_mask": masks}
                for rejected in ([1, 3], list(range(BATCH))):
                    redone = teach(images, rejected, latent=latent, **options)[0]
                    for i in rejected:
                        own = {"samples": latent["samples"][:1], "noise_mask": masks[i : i + 1], "batch_index": [i]}
                        close(redone[i], alone(images, i, latent=own, **options))
                        far(redone[i], alone(images, i, latent=own | {"noise_mask": 1 - own["noise_mask"]}, **options))


def check_masks_of_conditioning_in_models_with_frames():
    samples = torch.randn(BATCH, 16, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    masks = halves()

    def prompts(masks):
        return [[text(1)[0][0], {"mask": masks}], [text(5)[0][0], {}]]

    whole = student(wan(), {"samples": samples}, positive=prompts(masks)).result[0]["samples"]
    for image in range(BATCH):
        latent = {"samples": samples[image : image + 1], "batch_index": [image]}
        one = student(wan(), latent, positive=prompts(masks[image : image + 1])).result[0]["samples"]
        close(whole[image : image + 1], one)


class Reference:
    """Stands in for a patch with an entry for each image, which is read as IPAdapter reads its batch, or not at all."""

    def __init__(self, entries, reads=True):
        self.entries, self.reads = entries, reads

    def __call__(self, apply, a):
        options, entries = a["c"]["transformer_options"], self.entries
        if self.reads and options.get("ad_params") is not None and options["ad_params"]["sub_idxs"] is not None:
            assert len(entries) == options["ad_params"]["full_length"]
            entries = torch.Tensor(entries[options["ad_params"]["sub_idxs"]])
        branches = len(a["cond_or_uncond"])
        entries = entries[: len(a["input"]) // branches].repeat(branches, 1, 1, 1)
        return apply(a["input"], a["timestep"], **a["c"]) + entries


def referring(entries, reads=True, **options):
    model = MODEL.clone()
    model.set_model_unet_function_wrapper(Reference(entries, reads))
    model.model_options["transformer_options"].update(options)
    return model


def references(count=BATCH):
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(7)) / 3


def check_the_teacher_tells_patches_which_images_it_samples():
    images, entries = pictures(), references()
    models = {
        "plain": referring(entries),
        "within a window": referring(
            torch.cat([entries[[2]], entries[[1]], entries[[3]], entries[[0]], entries[[0]]]),
            ad_params={"sub_idxs": [3, 1, 0, 2], "full_length": 5, "context_length": 4, "view": "kept"},
        ),
        "rows unknown": referring(entries, ad_params={"sub_idxs": None, "full_length": 9}),
    }
    for name in ("euler", "dpm_adaptive"):
        for model in models.values():
            before = copy.deepcopy(model.model_options["transformer_options"])
            whole = teach(images, list(range(BATCH)), model=model, sampler_name=name)[0]
            for image in range(BATCH):
                own = alone(images, image, model=referring(entries[image : image + 1]), sampler_name=name)
                close(whole[image], own, 1e-3)
                far(own, alone(images, image, sampler_name=name))
            for rejected in ([3], [1, 2], [0, 2, 3]):
                close(teach(images, rejected, model=model, sampler_name=name)[0][rejected], whole[rejected], 1e-3)
                pieces = teach(list(images.split(1)), rejected, model=model, sampler_name=name)[0]
                close(torch.cat(pieces)[rejected], whole[rejected], 1e-3)
            assert model.model_options["transformer_options"] == before
    each = [referring(entries[image : image + 1]) for image in range(BATCH)]  # a list of models: each for its own entry
    whole = teach(images, list(range(BATCH)), model=models["plain"])[0]
    close(torch.cat(teach(list(images.split(1)), list(range(BATCH)), model=each)[0]), whole, 1e-3)
    model = referring(entries, ad_params={"sub_idxs": [0, 1], "full_length": 2})
    refused(["2 images", "4 are sampled"], teach, images, [1], model=model)


IMAGE_BY_IMAGE = Student(key="image by image", sampler="dpm_adaptive", schedule="normal", steps=3, cfgs=None)


def check_the_student_tells_patches_which_images_it_samples():
    STUDENTS["image by image"] = IMAGE_BY_IMAGE
    try:
        entries, samples = references(), torch.zeros(BATCH, 4, 8, 8)
        for preset in ("image by image", "LCM"):
            whole = student(referring(entries), {"samples": samples}, preset).result[0]["samples"]
            for image in range(BATCH):
                latent = {"samples": samples[:1], "batch_index": [image]}
                own = student(referring(entries[image : image + 1]), latent, preset).result[0]["samples"]
                close(whole[image : image + 1], own, 1e-3)
    finally:
        del STUDENTS["image by image"]


def said(function, *args, **options):
    TOLD.clear()
    function(*args, **options)
    return "\n".join(TOLD)


def check_patches_that_may_not_listen_are_named():
    images, entries = pictures(), references()
    deaf = referring(entries, reads=False)

    def closed_over(q, k, v, extra_options):
        return q, k, v if len(entries) else None

    closure = MODEL.clone()
    closure.set_model_attn1_patch(closed_over)
    latent, everything = {"samples": torch.zeros(BATCH, 4, 8, 8)}, list(range(BATCH))
    for model, name in ((deaf, "Reference"), (closure, "closed_over")):
        warned = said(teach, images, [1], model=model)
        assert name in warned and "4 images" in warned and "ad_params" in warned, warned
        assert name in said(teach, images, everything, model=model, sampler_name="dpm_adaptive")
        assert "ad_params" not in said(teach, images, everything, model=model)
        assert "ad_params" not in said(teach, images, [], model=None)
        assert said(student, model, latent, "LCM") == ""
    for model in (MODEL, referring(references(3), reads=False)):
        assert "ad_params" not in said(teach, images, [1], model=model)
    STUDENTS["image by image"] = IMAGE_BY_IMAGE
    try:
        assert "Reference" in said(student, deaf, latent, "image by image")
    finally:
        del STUDENTS["image by image"]


class Advanced(comfy.controlnet.ControlNet):
    """Stands in for Advanced-ControlNet, which cuts its own hints and masks."""

    sub_idxs = None

    def copy(self):
        made = super().copy()
        made.__class__ = Advanced
        return made

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        whole, params = self.cond_hint_original, transformer_options.get("ad_params")
        if params is not None:
            assert params["full_length"] == BATCH == len(whole) and params["context_length"] == len(params["sub_idxs"])
            self.cond_hint_original, self.cond_hint = whole[params["sub_idxs"]], None
        try:
            return super().get_control(x_noisy, t, cond, batched_number, transformer_options)
        finally:
            self.cond_hint_original = whole


def check_control_nets_that_cut_their_own_hints():
    images, conditioning = pictures(), {}
    hints = torch.rand(BATCH, 3, 64, 64, generator=torch.Generator().manual_seed(8))
    for kind in (comfy.controlnet.ControlNet, Advanced):
        control = kind(Hint(), load_device=CPU)
        control.set_cond_hint(hints, 1.0)
        control.set_previous_controlnet(None)
        conditioning[kind] = {f: [[text(s)[0][0], {"control": control}]] for f, s in (("positive", 1), ("negative", 2))}
    for name in ("euler", "dpm_adaptive"):
        for rejected in ([3], [1, 2], list(range(BATCH))):
            own, plain = (teach(images, rejected, sampler_name=name, **each)[0] for each in conditioning.values())
            close(own, plain)
            far(own[rejected], images[rejected])


def passes(model):
    """How many images each pass of the network had, counted at its last layer, and what takes the count off again."""
    seen = []
    network = model.model.diffusion_model
    last = network.final_layer if hasattr(network, "final_layer") else network.out
    handle = last.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    return seen, handle


def cached(model, kind):
    """The host's own caches, willing to reuse nearly everything."""
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

    node = {"EasyCache": EasyCacheNode, "LazyCache": LazyCacheNode}[kind]
    return node.execute(model, 3.0, 0.0, 1.0, False).result[0]


class EverySecond:
    """A model function wrapper that answers every second call from memory."""

    def __init__(self):
        self.calls, self.last = 0, {}

    def __call__(self, apply, a):
        self.calls += 1
        shape = tuple(a["input"].shape)
        if self.calls % 2 or shape not in self.last:
            self.last[shape] = apply(a["input"], a["timestep"], **a["c"])
        return self.last[shape]


def check_what_caches_answer_is_not_counted():
    images = pictures()
    pooled = {"pooled_output": torch.ones(1, 16)}
    settings = {"steps": 20, "sampler_name": "euler", "vae": ImagesVae()}
    settings |= {name: [[text(seed)[0][0], pooled]] for name, seed in (("positive", 1), ("negative", 2))}
    for make, vae in ((sd15, None), (sd3, ImagesVae())):
        options = {key: value for key, value in settings.items() if key != "vae"} | ({"vae": vae} if vae else {})
        every = make().clone()
        every.set_model_unet_function_wrapper(EverySecond())
        models = {"plain": make(), "EasyCache": cached(make(), "EasyCache"), "LazyCache": cached(make(), "LazyCache")}
        for name, model in (models | {"every second": every}).items():
            seen, handle = passes(model)
            try:
                counts = teach(images, [1, 3], model=model, **options)[2].evaluations
            finally:
                handle.remove()
            assert counts[0] == counts[2] == 0 < counts[1] == counts[3], (make.__name__, name, counts)
            assert sum(counts) == sum(seen), (make.__name__, name, counts, seen)
            # SD 3 calls no diffusion-model wrapper, so the host's EasyCache, which is one, does nothing there.
            whole = name == "plain" or (make is sd3 and name == "EasyCache")
            assert sum(counts) == 80 if whole else sum(counts) <= 42, (make.__name__, name, counts)


def check_steps_beyond_a_student_s_grid():
    sampling = MODEL.get_model_object("model_sampling")
    for preset, last in (("demo", [79, 59, 39, 19]), ("consistency", [61, 41, 21, 1])):
        sigmas = prepare(STUDENTS[preset], MODEL, 4, 1.0, 0.078).sigmas  # the last 4 of 51 steps, but the grid has 50
        assert sigmas[:-1].equal(sampling.sigmas[last]) and sigmas[-1] == 0
        refused(["4 steps", "denoise of 0.02", "only 1"], prepare, STUDENTS[preset], MODEL, 4, 1.0, 0.02)
        refused(["50 steps", "denoise of 0.5", "only 25"], prepare, STUDENTS[preset], MODEL, 50, 1.0, 0.5)
    coarse = STUDENTS["consistency"].on_grid(20, None)
    refused(["21 steps", "grid of 20"], prepare, coarse, MODEL, 21, 1.0, 1.0)
    refused(["20 steps", "only 10"], prepare, coarse, MODEL, 20, 1.0, 0.5)
    # The host's scheduler goes between the points of LCM's grid, so that it starts where it is told to.
    for steps in (4, 50):
        model, _, _, sigmas, _ = prepare(STUDENTS["LCM"], MODEL, steps, 1.0, 0.5)
        assert len(sigmas) == steps + 1 and sampling.timestep(sigmas[:1]).item() in range(500, 520)


def check_the_last_steps_of_a_student_s_grid_make_its_pictures():
    """By the host's own sampling from the levels written out, one of which may be the model's highest."""
    sampling, samples = MODEL.get_model_object("model_sampling"), pictures(1, 8, 8, 4).movedim(-1, 1)
    _, _, sampler, _, _ = prepare(STUDENTS["consistency"], MODEL, 4, 1.0, 1.0)
    made = student(MODEL, {"samples": samples}, steps=4, cfg=1.0, denoise=0.078).result[0]["samples"]
    noise = comfy.sample.prepare_noise(samples, SEED)
    by_the_host = (
        comfy.sample.sample_custom(
            MODEL, noise, 1.0, sampler, torch.cat([sampling.sigmas[last], torch.zeros(1)]), text(1), text(2), samples,
            seed=SEED,
        )
        for last in ([61, 41, 21, 1], [999, 41, 21, 1])
    )  # fmt: skip
    right, from_the_top = by_the_host
    close(made, right)
    far(made, from_the_top)


def predictor_of(middle=32):
    """A predictor of random weights for ``sd15``."""
    torch.manual_seed(3)
    predictor = Predictor(Layout(channels=4, middle=middle, skips=(32,) * 4, latent=8, encoder=(64,)))
    torch.nn.init.normal_(predictor.branch.out.weight)
    return predictor.requires_grad_(False)


def check_a_predictor_takes_pictures_by_image():
    """Those of the images that are redone are theirs, not the first ones."""
    images, z = pictures(), torch.randn(BATCH, 8, generator=torch.Generator().manual_seed(4))
    options = {"steps": 2, "strategy": "regenerate"}

    def under(z):
        return {**options, "model": predicted(sd15(), predictor_of(), 1.0, 1.0, z)}

    whole, some = (teach(images, rows, **under(z))[0] for rows in (range(BATCH), [1, 3]))
    for row in (1, 3):
        close(some[row], whole[row])
    close(alone(images, 3, **under(z[3:])), whole[3])
    far(alone(images, 3, **under(z[:1])), whole[3])
    refused(["2 images for 4"], teach, images, range(BATCH), **under(z[:2]))


def check_a_predictor_refuses_what_is_no_unet_or_another():
    refused(["OpenAISignatureMMDITWrapper", "needs a UNet"], require_fit, sd3(), predictor_of(), "file")
    refused(["file is for a network of 4 channels, 64"], require_fit, sd15(), predictor_of(middle=64), "file")
    require_fit(sd15(), predictor_of(), "file")


if __name__ == "__main__":
    main()
