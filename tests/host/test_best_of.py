"""Best Of in the host: n runs of its own samplers, and the best of each image."""

from .inside import failures


def test_all_checks_pass(host):
    failed = failures(host, "inside_best_of.py", at_least=10)
    assert not failed, failed
