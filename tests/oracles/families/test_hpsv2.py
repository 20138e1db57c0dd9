import pytest
from understudy.oracles import load_oracle

from .. import small_files
from ..references import PROMPTS, assert_same, by_open_clip, images


def small(folder):
    return small_files.write(small_files.open_clip_network().state_dict(), folder / "hpsv2.safetensors"), None


@pytest.mark.parametrize("family", ["hpsv2", "hpsv2.1"])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_scores_are_open_clip_s(tmp_path, family, quick_gelu):
    network = small_files.open_clip_network(quick_gelu)
    path = small_files.write(network.state_dict(), tmp_path / ("openai.safetensors" if quick_gelu else "c.safetensors"))
    oracle = load_oracle(path, family)
    assert_same(oracle, by_open_clip(network, oracle.prepare(images()), PROMPTS), 0.03)
