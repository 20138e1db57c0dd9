"""The small checkpoints that the tests make have what A1111 asks of a real one."""

import torch
from safetensors.torch import load_file

from ..host import checkpoints


def test_a_prompts_states_have_a_mean_that_the_host_may_divide_by(tmp_path):
    """For emphasis it multiplies all states by old mean / new mean, which are NaN or anything where that is about 0."""
    norm = {key: shape for key, shape in checkpoints.text_encoder().items() if "final_layer_norm" in key}
    checkpoints.save(tmp_path / "norm.safetensors", norm, seed=1)
    weight, bias = (load_file(tmp_path / "norm.safetensors")[f"final_layer_norm.{name}"] for name in ("weight", "bias"))
    states = torch.randn(77, 768, generator=torch.Generator().manual_seed(0))
    normed = torch.nn.functional.layer_norm(states, states.shape[1:], weight.float(), bias.float())
    assert float(normed.mean().abs()) > 0.01  # in half precision, too, far from what rounding makes of 0
