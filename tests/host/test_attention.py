"""Attention guidance in the host's samplers: the host's own node at its settings, the paper's elsewhere."""

from .inside import failures


def test_all_checks_pass(host):
    failed = failures(host, "inside_attention.py")
    assert not failed, failed
