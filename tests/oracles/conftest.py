import pytest
import torch


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory):
    """A small random CLIP in Hugging Face's layout: (its file, transformers' own model)."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    shared = {"intermediate_size": 96, "num_hidden_layers": 2, "hidden_act": "quick_gelu", "projection_dim": 48}
    text = {"hidden_size": 64, "num_attention_heads": 1, "bos_token_id": 49406, "eos_token_id": 49407}
    vision = {"hidden_size": 128, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=shared | text, vision_config=shared | vision, projection_dim=48)).eval()
    with torch.no_grad():
        # Fresh networks are nearly blind to their input; larger weights make scores that differ.
        for name, value in model.named_parameters():
            if value.ndim > 1 and "embedding" not in name:
                value.mul_(4)
    folder = tmp_path_factory.mktemp("clip")
    model.save_pretrained(folder)
    return folder / "model.safetensors", model


@pytest.fixture
def pictures():
    """Three smooth pictures ``[3, 3, 45, 70]`` that are exact in 8 bits."""
    coarse = torch.rand(3, 3, 6, 9, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(coarse, (45, 70), mode="bilinear")
    return smooth.mul(255).round().div(255)
