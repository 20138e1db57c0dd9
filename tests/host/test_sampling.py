"""The host's real networks, tiny: masks for each image of models with frames, patches by image, evaluations counted."""

from .inside import failures


def test_all_checks_pass(host):
    failed = failures(host, "inside_sampling.py")
    assert not failed, failed
