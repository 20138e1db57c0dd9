"""Runs in the host's own interpreter: what MODEL and conditioning carry for each image, beyond the host's plain kinds.

usage and output: as inside_teacher.py, whose tiny networks these checks use.
"""

from types import SimpleNamespace

from inside_teacher import (
    BATCH,
    MODEL,
    SEED,
    SIDE,
    VAE,
    Hint,
    TwoLayers,
    close,
    control_net,
    far,
    host_nodes,
    main,
    pictures,
    student,
    teach,
    text,
    tiny_model,
)

# isort: split
# The import above has made the host and the pack importable.
import comfy.controlnet
import comfy.hooks
import comfy.model_patcher
import comfy_extras.nodes_model_patch as host_patches
import torch
from understudy.nodes.hints import CLOSED_OVER, HINTS, with_hints_of
from understudy.nodes.subset import Subset

SETTINGS = {"steps": 3, "sampler_name": "euler", "scheduler": "normal"}


def by_the_host(model, images, positive, cfg, negative=None):
    """All images refined by KSampler in one batch, which is what each image is to become in any part of it."""
    latent = {"samples": VAE.encode(images)}
    done = host_nodes.common_ksampler(model, SEED, cfg=cfg, positive=positive, negative=negative or text(2),
                                      latent=latent, denoise=0.6, **SETTINGS)  # fmt: skip
    return VAE.decode(done[0]["samples"])


def check_a_mask_without_a_batch_is_every_image_s():
    model = tiny_model(in_channels=9)
    model.model.set_inpaint()
    images = pictures()
    mask = torch.zeros(SIDE, SIDE)
    mask[: SIDE // 2, SIDE // 4 :] = 1
    for one in (mask, mask[None], mask.expand(BATCH, 1, SIDE, SIDE)):
        positive, negative = (
            [[text(seed)[0][0], {"concat_latent_image": VAE.encode(images) / 2, "concat_mask": one}]] for seed in (1, 2)
        )
        host = by_the_host(model, images, positive, 3.0, negative)
        own = teach(images, [1, 3], model=model, positive=positive, negative=negative, cfg=3.0, **SETTINGS)[0]
        close(own[[1, 3]], host[[1, 3]])


class Tokens(TwoLayers):
    """Hands its result to the patches of double blocks, as the host's transformers do with their tokens."""

    def forward(self, x, timesteps, context=None, control=None, transformer_options=None, **rest):
        img = super().forward(x, timesteps, context, control).flatten(2).transpose(1, 2).clone()
        for patch in transformer_options.get("patches", {}).get("double_block", ()):
            img = patch({"x": x, "img": img, "block_index": 0})["img"]
        return img.transpose(1, 2).reshape(x.shape)


class BlockWise(torch.nn.Module):
    """Stands in for the network of a DiffSynth ControlNet."""

    additional_in_dim = 0

    def __init__(self):
        super().__init__()
        self.strength = torch.nn.Parameter(torch.tensor(2.0), requires_grad=False)

    def process_input_latent_image(self, latent):
        return latent.flatten(2).transpose(1, 2)

    def control_block(self, img, hint, block):
        return self.strength * torch.tanh(img + 4 * hint)


def with_hints(hints):
    """The node's own function: a MODEL with one hint per image, or one for all."""
    cpu = torch.device("cpu")
    patch = comfy.model_patcher.ModelPatcher(BlockWise(), cpu, cpu)
    return host_patches.QwenImageDiffsynthControlnet().diffsynth_controlnet(TOKENS, patch, VAE, hints, 1.0)[0]


TOKENS = tiny_model(network=Tokens)


def check_hints_in_the_model_reach_their_images():
    images, hints = pictures(), pictures(seed=20)
    model = with_hints(hints)
    expected = by_the_host(model, images, text(1), 1.0)
    for rejected in ([3], [0, 2], [1, 2, 3], [0, 1, 2, 3]):
        own = teach(images, rejected, model=model, cfg=1.0, **SETTINGS)[0]
        close(own[rejected], expected[rejected])
        entries = teach(list(images.split(1)), rejected, model=model, cfg=1.0, **SETTINGS)[0]
        close(torch.cat(entries)[rejected], expected[rejected])
    far(teach(images, [3], model=with_hints(hints[:1]), cfg=1.0, **SETTINGS)[0][3], expected[3])
    # With guidance the host can only sample a batch with one hint for all: an image gets what it gets there.
    for place in (1, 2):
        alone = by_the_host(with_hints(hints[place : place + 1]), images, text(1), 3.0)
        for rejected in ([place], [1, 2], [0, 1, 2, 3]):
            close(teach(images, rejected, model=model, cfg=3.0, **SETTINGS)[0][place], alone[place])
    patch = model.model_options["transformer_options"]["patches"]["double_block"][0]
    assert patch.image is not None and len(patch.image) == len(patch.encoded_image) == BATCH


def check_a_student_s_hints_reach_their_images():
    hints = pictures(seed=20)
    samples = torch.zeros(BATCH, 4, SIDE // 8, SIDE // 8)
    for cfg in (1.0, 2.0):
        batch = student("consistency", {"samples": samples}, model=with_hints(hints), cfg=cfg)["samples"]
        one = {"samples": samples[:1], "batch_index": [2]}
        close(batch[2:3], student("consistency", one, model=with_hints(hints[2:3]), cfg=cfg)["samples"])


def check_the_host_has_the_patches_that_are_known():
    found = 0
    for name, (_, attributes) in HINTS.items():
        for module in (host_patches, getattr(getattr(host_patches.comfy.ldm, "anima", None), "lllite", None)):
            patch = getattr(module, name, None)
            if patch is not None:
                assert set(attributes) <= set(patch.__init__.__code__.co_names), name
                found += 1
    assert found >= 3
    for place, variable in CLOSED_OVER.items():
        outer = place.split(".")[0]
        if hasattr(host_patches, outer):
            codes = getattr(host_patches, outer).execute.__func__.__code__.co_consts
            (code,) = (each for each in codes if getattr(each, "co_qualname", None) == place)
            assert variable in code.co_freevars


class AnimaLLLitePatch:
    """Stands in for the host's class of this name, whose network is not needed to be cut."""

    def __init__(self, image):
        self.image, self.mask = image, None

    def middle(self):
        return self.image


class SUPIRApply:
    """The same for a function that closes over its hints."""

    @staticmethod
    def execute(x_center):
        def restore_cfg_function(args):
            return x_center

        return restore_cfg_function


def check_patches_that_share_hints_still_share_them():
    hints = torch.arange(float(BATCH))[:, None]
    patch = AnimaLLLitePatch(hints)
    passes_on = SimpleNamespace(patch=patch, targets="q")
    model = MODEL.clone()
    model.set_model_sampler_post_cfg_function(SUPIRApply.execute(hints + 10))
    other = SimpleNamespace(image=hints)  # another pack's: it may look up itself which images are sampled
    model.set_model_patch(patch, "post_input")
    model.set_model_patch(passes_on, "attn1_patch")
    model.set_model_patch((str, patch.middle), "forward_timestep_embed_patch")
    model.set_model_patch(other, "attn2_patch")
    cut = with_hints_of(model, Subset([1, 3], BATCH))
    patches = cut.model_options["transformer_options"]["patches"]
    (new,), (passing,), ((kind, method),) = (
        patches[name] for name in ("post_input", "attn1_patch", "forward_timestep_embed_patch")
    )
    assert new.image.flatten().tolist() == [1, 3] and patch.image is hints
    assert passing.patch is new and passes_on.patch is patch and kind is str and method.__self__ is new
    assert len(patches["attn2_patch"][0].image) == BATCH
    post = (each.model_options["sampler_post_cfg_function"][0]({}) for each in (cut, model))
    assert [each.flatten().tolist() for each in post] == [[11, 13], [10, 11, 12, 13]]
    assert with_hints_of(model, Subset(range(BATCH), BATCH)) is model and with_hints_of(MODEL, Subset([1], 2)) is MODEL


class Advanced(comfy.controlnet.ControlNet):
    """Stands in for Advanced-ControlNet: hints, masks and strengths by an image's place in the whole batch.

    A place beyond the last hint or mask has the last one, -1 is the last image, and an image without a strength has 0.
    """

    sub_idxs = masks = strengths = None

    def copy(self):
        made = super().copy()
        made.__class__, made.masks, made.strengths = Advanced, self.masks, self.strengths
        return made

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        count = len(x_noisy) // batched_number
        params = transformer_options.get("ad_params", {"sub_idxs": range(count), "full_length": count})
        self.sub_idxs, hints = list(params["sub_idxs"]), self.cond_hint_original
        strength = [self.strengths.get(k, self.strengths.get(k - params["full_length"], 0.0)) for k in self.sub_idxs]
        masks = torch.nn.functional.interpolate(self.of_places(self.masks)[:, None], x_noisy.shape[-2:])
        self.factor = torch.cat([masks * torch.tensor(strength)[:, None, None, None]] * batched_number)
        self.cond_hint_original, self.cond_hint = self.of_places(hints), None
        try:
            return super().get_control(x_noisy, t, cond, batched_number, transformer_options)
        finally:
            self.cond_hint_original = hints

    def of_places(self, tensor):
        return tensor[[min(k, len(tensor) - 1) for k in self.sub_idxs]]

    def control_merge(self, control, control_prev, output_dtype):
        control["middle"] = [each * self.factor for each in control["middle"]]
        return super().control_merge(control, control_prev, output_dtype)


def check_masks_and_keyframes_of_advanced_control_nets_reach_their_images():
    generator = torch.Generator().manual_seed(8)
    hints, masks = (torch.rand(BATCH, *size, generator=generator) for size in ((3, SIDE, SIDE), (SIDE, SIDE)))
    images = pictures()
    for count in (BATCH, 2):
        advanced = Advanced(Hint(), load_device=torch.device("cpu"))
        advanced.set_cond_hint(hints[:count], 3.0)
        advanced.masks, advanced.strengths = masks[:count], {0: 0.2, 1: 0.9, -1: 1.5}
        for control in (advanced, control_net(hints, previous=advanced)):
            positive, negative = ([[text(seed)[0][0], {"control": control}]] for seed in (1, 2))
            expected = by_the_host(MODEL, images, positive, 3.0, negative)
            for rejected in ([3], [0, 2], [1, 2, 3], [0, 1, 2, 3]):
                own = teach(images, rejected, positive=positive, negative=negative, cfg=3.0, **SETTINGS)[0]
                close(own[rejected], expected[rejected])
        assert advanced.cond_hint_original is not None and len(advanced.cond_hint_original) == count


class Dynamic(comfy.model_patcher.ModelPatcher):
    """The host's patcher for dynamic VRAM as far as it goes without a GPU: its own way to a copy without, and back."""

    non_dynamic_delegate_model = None

    def is_dynamic(self):
        return True

    if hasattr(comfy.model_patcher, "ModelPatcherDynamic"):
        get_non_dynamic_delegate = comfy.model_patcher.ModelPatcherDynamic.get_non_dynamic_delegate


def check_hooked_conditioning_reads_a_checkpoint_once():
    if not hasattr(comfy.model_patcher, "ModelPatcherDynamic"):
        return  # ComfyUI 0.8.0
    reads = []

    def read(disable_dynamic=False):
        reads.append(disable_dynamic)
        return tiny_model()

    cpu = torch.device("cpu")
    model = Dynamic(tiny_model().model, cpu, cpu)
    model.cached_patcher_init = (read, ())
    generator = torch.Generator().manual_seed(3)
    lora = {
        "diffusion_model.text.lora_up.weight": torch.randn(8, 2, generator=generator),
        "diffusion_model.text.lora_down.weight": torch.randn(2, 16, generator=generator),
    }
    positive = [[text(1)[0][0], {"hooks": comfy.hooks.create_hook_lora(lora, 1.0, 0.0)}]]
    images = pictures()
    expected = by_the_host(MODEL, images, positive, 3.0)
    far(expected, by_the_host(MODEL, images, text(1), 3.0))
    entries = [images[:2], images[2:3], images[3:]]
    for _ in range(2):
        own = teach(entries, [0, 2, 3], model=model, positive=positive, cfg=3.0, **SETTINGS)[0]
        close(own[0][0], expected[0])
        student("consistency", {"samples": VAE.encode(images)}, model=model)
    assert reads == [True], f"read {len(reads)} times"


def check_clones_of_control_nets_for_other_devices_are_cut():
    """Two devices that are both the CPU: "cpu" and "cpu:0" are different keys to the host."""
    if not hasattr(MODEL, "match_multigpu_clones"):
        return  # ComfyUI 0.8.0
    other = tiny_model()
    other.load_device, other.is_multigpu_base_clone = torch.device("cpu", 0), True
    model = MODEL.clone()
    model.set_additional_models("multigpu", [other])
    model.model_options["multigpu_options"] = {device: {"relative_speed": 1.0} for device in ("cpu", "cpu:0")}
    images = pictures()
    hints = torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(8))
    control = control_net(hints, previous=control_net(hints[:3], 0.7))
    positive, negative = ([[text(seed)[0][0], {"control": control}]] for seed in (1, 2))
    expected = by_the_host(MODEL, images, positive, 3.0, negative)
    close(by_the_host(model, images, positive, 3.0, negative), expected)  # the control now has a clone with all hints
    assert [len(clone.cond_hint_original) for clone in control.multigpu_clones.values()] == [BATCH]
    for rejected in ([3], [0, 2], [1, 2, 3]):
        own, _, receipt = teach(images, rejected, model=model, positive=positive, negative=negative, cfg=3.0,
                                **SETTINGS)  # fmt: skip
        close(own[rejected], expected[rejected])
        assert [receipt.evaluations[place] for place in rejected] == [6] * len(rejected)


if __name__ == "__main__":
    main()
