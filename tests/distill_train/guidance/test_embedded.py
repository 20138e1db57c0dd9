"""Guidance as an input of the network: one pass, which is told the scale."""

import pytest
import torch
from understudy.distill_train.guidance import Embedded


@pytest.mark.parametrize("cfg, told", [(7.5, [6.5, 6.5]), (torch.tensor([1.0, 3.0]), [0.0, 2.0])])
def test_the_network_is_told_w_which_is_cfg_minus_1_in_one_pass(cfg, told):
    passes = []

    def run(z, t, given):
        passes.append(given)
        return z * given["guidance"][:, None] + given["tokens"]

    z, given = torch.ones(2, 3), {"tokens": torch.full((2, 3), 5.0)}
    output = Embedded()(run, z, torch.zeros(2), given, cfg)
    assert len(passes) == 1 and passes[0]["guidance"].tolist() == told
    assert torch.equal(output, torch.tensor(told)[:, None] + 5.0 * torch.ones(2, 3))
    assert "guidance" not in given
