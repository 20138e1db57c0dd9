from understudy.oracles import FAMILIES, load_oracle

from .. import small_files
from ..references import PROMPTS, images
from .test_hpsv2 import small  # noqa: F401


def test_it_scores_as_hpsv2_does(tmp_path):
    path = small_files.write(small_files.open_clip_network().state_dict(), tmp_path / "h.safetensors")
    old, new = (load_oracle(path, family)(images(), PROMPTS) for family in ("hpsv2", "hpsv2.1"))
    assert (old == new).all()
    assert FAMILIES["hpsv2"].published != FAMILIES["hpsv2.1"].published
