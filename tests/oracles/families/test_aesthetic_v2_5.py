import pytest
import torch
from understudy.files import CheckpointError
from understudy.oracles import load_oracle
from understudy.oracles.about import about

from .. import small_files
from ..references import assert_same, by_head, images

NUMBERS = (0, 2, 4, 6, 8)


def small(folder):
    siglip = small_files.write(small_files.siglip_network().state_dict(), folder / "siglip.safetensors")
    head = small_files.head_tensors("scoring_head.", 64, numbers=NUMBERS)
    return small_files.write(head, folder / "head25.safetensors"), siglip


@pytest.mark.parametrize(("width", "heads"), [(64, 1), (576, 8), (768, 12)])
def test_scores_are_the_head_s_of_siglips_of_every_width(tmp_path, width, heads):
    """so400m's heads are 72 wide, those of smaller SigLIPs 64; 576 is a whole number of both."""
    network = small_files.siglip_network(hidden_size=width, num_attention_heads=heads)
    encoder = small_files.write(network.state_dict(), tmp_path / "siglip.safetensors")
    head = small_files.head_tensors("scoring_head.", width, numbers=NUMBERS)
    torch.save(head, tmp_path / "aesthetic_predictor_v2_5.pth")
    oracle = load_oracle(tmp_path / "aesthetic_predictor_v2_5.pth", encoder=encoder)
    with torch.no_grad():
        pooled = network.vision_model(pixel_values=oracle.prepare(images())).pooler_output
        expected = by_head(head, "scoring_head.", NUMBERS, pooled)
    assert oracle.family == "aesthetic-v2.5"
    assert_same(oracle, expected, 0.01)


@pytest.mark.parametrize("numbers", [(0, 2, 4, 6, 7), (0, 3, 6, 9, 11)])
def test_every_other_head_is_refused(tmp_path, numbers):
    _, encoder = small(tmp_path)
    path = small_files.write(
        small_files.head_tensors("scoring_head.", 64, numbers=numbers), tmp_path / "odd.safetensors"
    )
    for use in (lambda: load_oracle(path, encoder=encoder), lambda: about(path)):
        with pytest.raises(CheckpointError, match="odd.safetensors: the layers of its head.*expected 0, 2, 4, 6, 8"):
            use()
