"""Runs in the host's own interpreter: attention guidance beside the host's own node, on small networks of its classes.

usage: python inside_attention.py COMFYUI_FOLDER PACK_FOLDER

Prints one JSON object as ``inside_teacher.py`` does, whose graph it takes over.
"""

import functools

import torch
from inside_sampling import sd15, small, wan
from inside_teacher import BATCH, SEED, alone, close, control_net, far, main, pictures, refused, teach, text

TOLERANCE = 1e-4

# E402 from here on: inside_teacher made the host's modules and the pack importable.
import comfy.model_base  # noqa: E402
import comfy.model_sampling  # noqa: E402
import comfy.supported_models  # noqa: E402
from comfy_extras.nodes_sag import SelfAttentionGuidance  # noqa: E402
from understudy.nodes.attention_guidance import KERNEL, UnderstudyAttentionGuidance  # noqa: E402
from understudy.nodes.counting import counted  # noqa: E402
from understudy.nodes.demo import UnderstudyLoadDemo  # noqa: E402
from understudy.samplers.attention_guidance import blur  # noqa: E402

import nodes as host_nodes  # noqa: E402


def ours(model, scale=0.5, blur_sigma=2.0, scale_blur=False):
    return UnderstudyAttentionGuidance.execute(model, scale, blur_sigma, scale_blur).result[0]


def theirs(model, scale=0.5, blur_sigma=2.0):
    return SelfAttentionGuidance.execute(model, scale, blur_sigma).result[0]


@functools.cache
def unet():
    """The small SD 1.5 with attention so uneven that no column's sum is 1 but for rounding."""
    attention = sd15().model.diffusion_model.middle_block[1].transformer_blocks[0].attn1
    for projection in (attention.to_q, attention.to_k):
        projection.weight.mul_(4)
    return sd15()


def sampled(model, height=8, width=8, batch=2, cfg=3.0, positive=None, negative=None, steps=3):
    channels = model.model.latent_format.latent_channels
    options = {"steps": steps, "cfg": cfg, "sampler_name": "euler", "scheduler": "normal"}
    given = {"positive": positive or text(1), "negative": negative or text(2)}
    latent = {"samples": torch.zeros(batch, channels, height, width)}
    return host_nodes.common_ksampler(model, SEED, latent=latent, **given, **options)[0]["samples"]


@functools.cache
def flow():
    """The small UNet as a rectified flow."""
    model = unet().clone()

    class Sampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    sampling = Sampling(model.model.model_config)
    sampling.set_parameters(shift=3.0, multiplier=1000)
    model.add_object_patch("model_sampling", sampling)
    return model


@functools.cache
def demo():
    return UnderstudyLoadDemo.execute("teacher").result


def words(prompt):
    clip = demo()[1]
    return host_nodes.CLIPTextEncode().encode(clip, prompt)[0]


def check_it_is_the_host_s_own_node():
    plain = unet()
    for sizes in ((8, 8), (16, 24), (9, 14), (64, 8)):
        own = sampled(ours(plain), *sizes)
        close(own, sampled(theirs(plain), *sizes), TOLERANCE)
        far(own, sampled(plain, *sizes))
    close(sampled(ours(plain, 1.5, 0.7), 16, 16), sampled(theirs(plain, 1.5, 0.7), 16, 16), TOLERANCE)
    scaled = ours(plain, scale_blur=True)
    far(sampled(scaled), sampled(ours(plain)))
    close(sampled(scaled, 64, 64, 1), sampled(ours(plain), 64, 64, 1), TOLERANCE)


def check_it_is_the_host_s_own_node_on_the_demo_teacher():
    prompts = {"positive": words("a large red star left of a small blue circle"), "negative": words("")}
    model = demo()[0]
    plain, own, host = (sampled(each, steps=6, **prompts) for each in (model, ours(model), theirs(model)))
    close(own, host, TOLERANCE)
    far(own, plain)


def check_branches_in_calls_of_their_own_and_conditioning_for_each_image():
    calls, odd = [], text(2)
    odd[0][0] = odd[0][0].repeat(1, 2, 1)[:, :11]  # 7 and 11 tokens are not sampled in one call
    own = text(3, 2)
    for positive, negative, per_step in ((text(1), odd, 3), (own, odd, 3), (own, text(4, 2), 2)):
        calls.clear()
        watched = ours(unet())
        watched.set_model_unet_function_wrapper(
            lambda apply, a: calls.append(a["cond_or_uncond"]) or apply(a["input"], a["timestep"], **a["c"])
        )
        result = sampled(watched, positive=positive, negative=negative)
        assert len(calls) == 3 * per_step, calls
        close(result, sampled(theirs(unet()), positive=positive, negative=negative), TOLERANCE)


def check_at_cfg_1_the_only_branch_is_looked_at():
    """The host's node samples the negative prompt there; with the positive one in its place it is the same."""
    prompt = text(6)  # one without a column whose sum is 1 within the margin, as text(1) has it here
    own = sampled(ours(unet()), cfg=1.0, positive=prompt)
    close(own, sampled(theirs(unet()), cfg=1.0, positive=prompt, negative=prompt), TOLERANCE)
    far(own, sampled(unet(), cfg=1.0, positive=prompt))
    for cfg, per_step in ((3.0, 3), (1.0, 2)):
        model, evaluations = counted(ours(unet()))
        sampled(model, cfg=cfg)
        assert evaluations.run == 3 * per_step * 2, (cfg, evaluations)


def check_a_flow_s_picture_is_put_to_its_own_noise_level():
    """z + (1 - s) (x_bar - x0), where it is blurred at all."""
    inputs, steps = [], []
    model = flow().clone()
    model.set_model_sampler_post_cfg_function(lambda step: steps.append(step) or step["denoised"])
    model = ours(model)
    model.set_model_unet_function_wrapper(
        lambda apply, a: inputs.append(a["input"]) or apply(a["input"], a["timestep"], **a["c"])
    )
    assert torch.isfinite(sampled(model, 16, 16)).all()
    assert len(steps) == 3 and len(inputs) == 6 and steps[0]["sigma"][0] == 1
    assert torch.equal(inputs[1], steps[0]["input"])  # where all is noise the picture has no part in it
    for step, shifted in zip(steps[1:], inputs[3::2], strict=True):
        s, x0 = step["sigma"].view(-1, 1, 1, 1), step["uncond_denoised"]
        change = (shifted - step["input"]) / (1 - s)
        whole = blur(x0, KERNEL, 2.0) - x0
        blurred = change.abs() > 1e-3 * whole.abs().max()
        assert 0.1 < blurred.float().mean() < 0.9
        close(change[blurred], whole[blurred], 1e-3)


def check_it_adds_to_what_else_looks_at_the_same_attention():
    whole = sampled(ours(unet(), 0.5))
    for model in (ours(theirs(unet(), 0.25), 0.25), theirs(unet(), 0.5), ours(ours(unet(), 0.2), 0.3)):
        close(sampled(model), whole, TOLERANCE)


def check_the_model_itself_stays_as_it_was_and_scale_0_hands_it_on():
    before = sampled(unet())
    guided = ours(unet())
    first = sampled(guided)
    assert torch.equal(sampled(unet()), before) and torch.equal(sampled(guided), first)
    assert ours(unet(), 0.0) is unet()


def check_an_image_alone_is_what_it_is_in_the_batch():
    images, guided = pictures(), ours(unet(), 0.5, 2.0, True)
    hints = torch.rand(BATCH, 3, 64, 64, generator=torch.Generator().manual_seed(8))
    own = [[text(3, BATCH)[0][0], {"control": control_net(hints)}]]
    for positive in (text(1), own):
        inside, _, receipt = teach(images, [1, 3], model=guided, positive=positive)
        far(inside[3], teach(images, [1, 3], model=unet(), positive=positive)[0][3])
        assert receipt.evaluations == (0, 9, 0, 9)
    close(teach(images, [1, 3], model=guided)[0][3], alone(images, 3, model=guided), 1e-3)


def check_masks_are_honoured_and_what_has_no_whole_map_is_refused():
    mask = torch.zeros(1, 8, 8)
    mask[:, :, :4] = 1
    parts = [
        [text(2)[0][0], {"mask": mask, "mask_strength": 1.0, "set_area_to_bounds": False}],
        [text(5)[0][0], {"mask": 1 - mask, "mask_strength": 1.0, "set_area_to_bounds": False}],
    ]
    far(sampled(ours(unet()), negative=parts), sampled(ours(unet())))
    area = [[text(2)[0][0], {"area": (4, 8, 0, 0), "strength": 1.0}]]
    words = ("Attention guidance (SFERD): the negative prompt has areas", "masks")
    refused(words, sampled, ours(unet()), negative=area)
    late = [[text(2)[0][0], {"start_percent": 0.5, "end_percent": 1.0}]]
    refused(("has not run for the negative prompt", "a time range"), sampled, ours(unet()), negative=late)
    refused(("a blur over 9 places needs sides of at least 5", "(4, 8)"), sampled, ours(unet()), 4, 8)
    assert torch.isfinite(sampled(ours(unet(), scale_blur=True), 4, 8)).all()


def check_attention_that_is_cut_into_parts_is_refused():
    model = unet().clone()
    model.set_model_attn1_patch(
        lambda q, k, v, _: tuple(each.reshape(2 * len(q), -1, q.shape[-1]) for each in (q, k, v))
    )
    model.set_model_attn1_output_patch(lambda out, _: out.reshape(len(out) // 2, -1, out.shape[-1]))
    refused(("4 maps for 2 images", "HyperTile"), sampled, ours(model), 8, 8, 2)


def check_what_has_no_attention_in_the_middle_is_refused_by_name():
    refused(("needs a UNet with attention in its middle block", "a WAN21, its network a WanModel"), ours, wan())
    bare = small(
        comfy.supported_models.SD15, comfy.model_base.BaseModel, image_size=32, in_channels=4, out_channels=4,
        model_channels=32, num_res_blocks=[1, 1], channel_mult=[1, 1], transformer_depth=[1, 1],
        transformer_depth_output=[1, 1, 1, 1], transformer_depth_middle=-1, num_head_channels=32,
        use_spatial_transformer=True, context_dim=16, legacy=False,
    )  # fmt: skip
    refused(("its network a UNetModel",), ours, bare)


if __name__ == "__main__":
    main()
