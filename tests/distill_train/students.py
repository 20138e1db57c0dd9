"""Runs as the trainer leaves them, with small random students."""

import json

import torch
from safetensors.torch import load_file, save_file

from ..pipelines.conftest import sd15_parts, sdxl_parts

# A layer of each kind that a LoRA may change, in both families' small networks.
TARGETS = ["to_q", "to_v", "to_out.0", "proj_in", "ff.net.0.proj", "conv1", "conv_shortcut", "time_emb_proj"]
TARGETS += ["downsamplers.0.conv", "upsamplers.0.conv", "conv_in", "linear_1"]


def make_run(folder, teacher, base, trained, weights, fingerprint="0" * 64, **more):
    """A run that ended; ``more`` goes into the student's metadata."""
    from understudy.files.student_file import StudentFile

    said = {"method": "lcm", "prediction": "epsilon", "steps": 4, "guidance": 1.0} | {"preset": "LCM"} | more
    student = StudentFile(
        base=base,
        trained=trained,
        teacher_file=teacher.name,
        teacher_sha256=fingerprint,
        **{"sampler": "lcm", "scheduler": "sgm_uniform"} | said,
    )
    if trained == "lora":
        weights = kohya(weights, teacher, student)
    (folder / "exports").mkdir(parents=True)
    recipe = {"export": "student.safetensors", "teacher": {"path": str(teacher)}, "loop": {"steps": 10}}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    save_file(
        {key: value.contiguous() for key, value in weights.items()},
        folder / "exports" / "student.safetensors",
        metadata=student.metadata(),
    )
    return folder


def kohya(weights, teacher, student):
    """The adapter's tensors as a run leaves them in its exports."""
    from understudy.distill_train.exports.base import open_base
    from understudy.distill_train.students.kohya import kohya_tensors
    from understudy.pipelines.lora import Change

    ends = ".lora_A.weight", ".lora_B.weight"
    layers = {key.removesuffix(ends[0]) for key in weights if key.endswith(ends[0])}
    changes = {at: Change(weights[at + ends[1]], weights[at + ends[0]], student.alpha) for at in layers}
    return kohya_tensors(changes, open_base(teacher).layers)


def small_unet(kind, **config):
    """The UNet of the small pipelines, with other weights than the files'."""
    parts = sd15_parts() if kind == "sd1" else sdxl_parts()
    torch.manual_seed(11)
    return type(parts["unet"]).from_config(parts["unet"].config, **config).eval()


def small_controlnet(kind):
    """A ControlNet beside that UNet, with joins that have learned something."""
    from diffusers import ControlNetModel

    return with_joins(ControlNetModel.from_unet(small_unet(kind)))


def with_joins(net):
    """The ControlNet with random weights where it begins with zeros."""
    generator = torch.Generator().manual_seed(15)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                scale = max(parameter[0].numel(), 1) ** -0.5
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def with_lora(unet, rank=3, alpha=6.0):
    """A LoRA with random factors in the UNet, switched on; its tensors as peft gives them."""
    from peft import LoraConfig, get_peft_model_state_dict

    unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS))
    generator = torch.Generator().manual_seed(12)
    for name, parameter in unet.named_parameters():
        if "lora_" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return get_peft_model_state_dict(unet)


def noise_and_text(unet, batch=2):
    """Arguments of a UNet call, in its precision."""
    generator, config = torch.Generator().manual_seed(13), unet.config

    def draw(*shape):
        return torch.randn(*shape, generator=generator).to(unet.dtype)

    arguments = {
        "sample": draw(batch, config.in_channels, 8, 8),
        "timestep": torch.tensor([800, 30])[:batch],
        "encoder_hidden_states": draw(batch, 7, config.cross_attention_dim),
    }
    if config.addition_embed_type:
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(batch, -1)
        arguments["added_cond_kwargs"] = {"text_embeds": draw(batch, pooled), "time_ids": ids}
    return arguments


@torch.no_grad()
def output(unet, **more):
    return unet(**noise_and_text(unet), **more).sample


def precise(unet):
    """Its output in double precision: sums in another order differ by more than some processors' float32 allows."""
    return output(unet.double())


def unet_in(path, base):
    """The UNet of an exported file of UNet tensors, beside the base's other tensors."""
    from understudy.pipelines.single_file import load_single_file

    weights = {key: value for key, value in load_file(base).items() if not key.startswith("model.diffusion_model.")}
    weights |= {f"model.diffusion_model.{key}": value for key, value in load_file(path).items()}
    save_file(weights, whole := path.with_name("whole.safetensors"))
    return load_single_file(whole, torch.float32).unet


@torch.no_grad()
def control(net):
    """What a ControlNet adds to the UNet's skips and middle, for a hint of noise."""
    hint = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(16))
    skips, middle = net(**noise_and_text(net), controlnet_cond=hint, return_dict=False)
    return [*skips, middle]
