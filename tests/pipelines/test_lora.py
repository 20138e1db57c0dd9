"""LoRA files: each layout that ComfyUI reads changes the weights by what it says; nothing is left out in silence."""

import json

import pytest
import torch
from safetensors.torch import save_file
from understudy.files import CheckpointError
from understudy.pipelines.layout import original_unet_names
from understudy.pipelines.lora import layer_names, merge_lora, read_lora

from .conftest import sd15_parts, sdxl_parts

ENDS = ("to_q", "to_out.0", "proj_in", "conv1", "downsamplers.0.conv", "ff.net.2", "time_emb_proj")
RANK = 2


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def unet(request):
    torch.manual_seed(4)
    return (sd15_parts if request.param == "sd1" else sdxl_parts)()["unet"].requires_grad_(False)


@pytest.fixture
def small():
    torch.manual_seed(4)
    return sd15_parts()["unet"].requires_grad_(False)


def layers(unet, ends=ENDS):
    return {name: module for name, module in unet.named_modules() if name.endswith(ends)}


def factors(unet, ends=ENDS):
    """(up, down) for each layer, by diffusers' name."""
    generator = torch.Generator().manual_seed(5)
    made = {}
    for name, module in layers(unet, ends).items():
        out, *inner = module.weight.shape
        up = torch.randn(out, RANK, *[1] * (len(inner) - 1), generator=generator) * 0.3
        made[name] = up, torch.randn(RANK, *inner, generator=generator) * 0.3
    return made


def product(up, down, shape):
    return (up.flatten(1) @ down.flatten(1)).reshape(shape)


def original(unet, name):
    names = original_unet_names(unet.state_dict(), unet.config.layers_per_block)
    return names[f"{name}.weight"].removesuffix(".weight")


def processor(unet, name):
    return "unet." + name.replace(".to_", ".processor.to_").removesuffix(".0" if name.endswith("to_out.0") else "")


KOHYA, PEFT = (".lora_up.weight", ".lora_down.weight"), (".lora_B.weight", ".lora_A.weight")
LAYOUTS = {
    "kohya": (lambda unet, name: "lora_unet_" + name.replace(".", "_"), KOHYA),
    "kohya, original names": (lambda unet, name: "lora_unet_" + original(unet, name).replace(".", "_"), KOHYA),
    "simpletuner": (lambda unet, name: "lycoris_" + name.replace(".", "_"), KOHYA),
    "host": (lambda unet, name: f"diffusion_model.{original(unet, name)}", KOHYA),
    "diffusers": (lambda unet, name: f"unet.{name}", (".lora.up.weight", ".lora.down.weight")),
    "diffusers, processors": (processor, ("_lora.up.weight", "_lora.down.weight")),
    "diffusers, linear": (lambda unet, name: name, (".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight")),
    "diffusers by peft": (lambda unet, name: f"unet.{name}", PEFT),
    "peft": (lambda unet, name: f"base_model.model.{name}", PEFT),
    "peft in a folder": (lambda unet, name: f"unet.base_model.model.{name}", PEFT),
    "peft, adapter": (lambda unet, name: f"unet.{name}", (".lora_B.default.weight", ".lora_A.default.weight")),
    "bare factors": (lambda unet, name: name, (".lora_B", ".lora_A")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_changes_the_weights_by_up_times_down(unet, layout, tmp_path):
    named, (up_end, down_end) = LAYOUTS[layout]
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    weights, expected = {}, dict(before)
    for name, (up, down) in factors(unet).items():
        key = named(unet, name)
        weights |= {f"{key}{up_end}": up, f"{key}{down_end}": down}
        scale = 1.0
        if layout == "kohya":
            scale, weights[f"{key}.alpha"] = 0.5, torch.tensor(0.5 * RANK)
        weight = before[f"{name}.weight"]
        expected[f"{name}.weight"] = weight + scale * product(up, down, weight.shape)
    assert len(weights) > 20
    save_file(weights, tmp_path / "lora.safetensors")
    merge_lora(unet, tmp_path / "lora.safetensors")
    after = unet.state_dict()
    assert after.keys() == before.keys()
    for key in before:
        torch.testing.assert_close(after[key], expected[key], rtol=1e-4, atol=1e-5)
    unet.load_state_dict(before)


@pytest.mark.parametrize("ends", ["default", "conv"])
def test_dora_is_what_peft_makes_of_it(small, ends, tmp_path):
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    targets = {"default": ["to_q", "ff.net.2"], "conv": ["conv1", "downsamplers.0.conv"]}[ends]
    torch.manual_seed(6)
    trained = sd15_parts()["unet"].requires_grad_(False)
    trained.load_state_dict(small.state_dict())
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets, use_dora=True, init_lora_weights=False)
    trained = get_peft_model(trained, config)
    for name, parameter in trained.named_parameters():
        if "magnitude" in name:
            parameter.data *= 1.3
    weights = {key: value.clone().contiguous() for key, value in get_peft_model_state_dict(trained).items()}
    assert any("lora_magnitude_vector" in key for key in weights)
    save_file(weights, tmp_path / "adapter_model.safetensors")
    merge_lora(small, tmp_path / "adapter_model.safetensors")
    merged = trained.merge_and_unload().state_dict()
    for key, value in small.state_dict().items():
        torch.testing.assert_close(value, merged[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_kohya_s_dora_has_the_lengths_that_the_file_says(small, axis, tmp_path):
    """LyCORIS gives each input a length, or with wd_on_out each output."""
    generator, weights, lengths, before = torch.Generator().manual_seed(7), {}, {}, small.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    for name, (up, down) in factors(small, ("to_q", "conv1")).items():
        key, weight = "lora_unet_" + name.replace(".", "_"), before[f"{name}.weight"]
        lengths[name] = torch.rand(weight.shape[axis], generator=generator) + 0.5
        shape = [1] * weight.ndim
        shape[axis] = -1
        weights |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down, f"{key}.alpha": torch.tensor(1.0)}
        weights[f"{key}.dora_scale"] = lengths[name].reshape(shape)
    save_file(weights, tmp_path / "dora.safetensors")
    merge_lora(small, tmp_path / "dora.safetensors")
    for name, (up, down) in factors(small, ("to_q", "conv1")).items():
        after = small.state_dict()[f"{name}.weight"]
        others = [d for d in range(after.ndim) if d != axis]
        length = torch.linalg.vector_norm
        torch.testing.assert_close(length(after, dim=others), lengths[name])
        plain = before[f"{name}.weight"] + product(up, down, after.shape) / RANK
        cosine = (after * plain).sum(others) / (length(after, dim=others) * length(plain, dim=others))
        torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_a_tucker_convolution_is_the_three_in_a_row(small, tmp_path):
    name = next(iter(layers(small, ("conv1",))))
    module, generator = small.get_submodule(name), torch.Generator().manual_seed(8)
    out, inner = module.weight.shape[:2]
    shapes = {"up": (out, 3, 1, 1), "mid": (3, 2, 3, 3), "down": (2, inner, 1, 1)}
    parts = {part: torch.randn(shape, generator=generator) * 0.3 for part, shape in shapes.items()}
    key = "lora_unet_" + name.replace(".", "_")
    save_file({f"{key}.lora_{part}.weight": value for part, value in parts.items()}, tmp_path / "tucker.safetensors")
    x = torch.randn(1, inner, 5, 5, generator=generator)
    before = module(x)
    merge_lora(small, tmp_path / "tucker.safetensors")
    conv = torch.nn.functional.conv2d
    change = conv(conv(conv(x, parts["down"]), parts["mid"], padding=1), parts["up"])
    torch.testing.assert_close(module(x) - before, change, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("said", ["metadata", "beside"])
def test_a_peft_file_s_alpha_stands_beside_its_tensors(small, said, tmp_path):
    name, (up, down) = next(iter(factors(small, ("to_q",)).items()))
    before = small.get_submodule(name).weight.clone()
    path = tmp_path / "adapter_model.safetensors"
    alpha = {"lora_alpha": 8, "r": RANK}
    metadata = {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in alpha.items()})}
    save_file(
        {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up},
        path,
        metadata if said == "metadata" else None,
    )
    if said == "beside":
        (tmp_path / "adapter_config.json").write_text(json.dumps(alpha))
    merge_lora(small, path)
    torch.testing.assert_close(small.get_submodule(name).weight, before + 4 * up @ down)
    (tmp_path / "adapter_config.json").write_text(json.dumps(alpha | {"alpha_pattern": {"to_q": 1}}))
    with pytest.raises(CheckpointError, match="another scale for each layer"):
        read_lora(path)
    for odd in ("[]", '{"lora_alpha": "8"}', "{"):
        (tmp_path / "adapter_config.json").write_text(odd)
        with pytest.raises(CheckpointError, match="adapter_model.safetensors: what is said of its alpha"):
            read_lora(path)


FIRST = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
UP, DOWN = {f"{FIRST}.lora_up.weight": (32, 2)}, {f"{FIRST}.lora_down.weight": (2, 32)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"conv_in.weight": (1,)}, "is not a LoRA; its tensors begin with conv_in.weight"),
        ({f"{FIRST}.hada_w1_a": (1,)}, "holds a LoHa .*hada_w1_a.*expected a LoRA or a DoRA: merge it in ComfyUI"),
        ({f"{FIRST}.lokr_w1": (1,)}, "holds a LoKr .*lokr_w1"),
        ({f"{FIRST}.oft_blocks": (1,)}, "holds OFT or BOFT"),
        ({**UP, **DOWN, f"{FIRST}.diff_b": (1,)}, "holds whole differences"),
        ({**UP, **DOWN, "unet.x.lora_B.bias": (1,)}, "holds a LoRA with biases"),
        ({**UP, **DOWN, f"{FIRST}.lora_gate": (1,)}, "tensors that none of them has: .*lora_gate"),
        ({**UP, **DOWN, "lora_te_text_model_x.lora_up.weight": (1,)}, "also changes text encoders .lora_te_text"),
        (UP, "is not complete: .*lora_up.weight lack the other tensors"),
        ({f"{FIRST}.alpha": ()}, "is not complete: .*alpha lack"),
        (
            {**UP, **DOWN, "lora_unet_x.lora_up.weight": (1, 1), "lora_unet_x.lora_down.weight": (1, 1)},
            "2 of its 4 tensors have no place in this student's UNet: lora_unet_x.lora_down.weight",
        ),
        (
            {f"unet.x.lora_{half}.{name}.weight": (1, 1) for half in "AB" for name in ("first", "second")},
            "holds two LoRAs: unet.x.lora_A.first.weight and unet.x.lora_A.second.weight",
        ),
        (
            UP | DOWN | {key.replace("lora_unet", "lycoris"): shape for key, shape in {**UP, **DOWN}.items()},
            "holds two LoRAs: lora_unet_.* are one layer",
        ),
        ({**UP, f"{FIRST}.lora_down.weight": (2, 31)}, r"does not fit this student: down_blocks.0.*\[2, 31\]\] do not"),
        ({**UP, **DOWN, f"{FIRST}.alpha": (2,)}, r"its alpha .*_to_q.alpha is \[2\], expected one number"),
        ({**UP, **DOWN, f"{FIRST}.dora_scale": (5, 1)}, r"its magnitudes \[5, 1\] do not fit \[32, 32\]"),
    ],
)
def test_what_cannot_be_applied_is_refused_by_name(small, tmp_path, tensors, message):
    save_file({key: torch.ones(shape) for key, shape in tensors.items()}, tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError, match=f"lora.safetensors.*{message}|lora.safetensors {message}"):
        merge_lora(small, tmp_path / "lora.safetensors")


def test_no_file_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_lora(tmp_path / "none.safetensors")


def test_names_are_those_of_one_layer_each(unet):
    """No name of one layer is another's: "to_out" and "to_out.0" in one block, numbers in the original layout."""
    names = layer_names(original_unet_names(unet.state_dict(), unet.config.layers_per_block))
    modules = {key.removesuffix(".weight") for key in unet.state_dict() if key.endswith(".weight")}
    assert set(names.values()) == modules
    for prefix in ("lora_unet_", "unet.", "base_model.model.", "diffusion_model."):
        assert {module for name, module in names.items() if name.startswith(prefix)} == modules
