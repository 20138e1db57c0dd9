"""Teacher Advanced, and what both Teachers share, inside the host; the branch behind ``latent`` in a graph."""

from .inside import failures


def test_all_checks_pass(host):
    failed = failures(host, "inside_advanced.py", at_least=13)
    assert not failed, failed
