"""``understudy train init`` with the host's own recognition of models and text encoders, and its models folders."""

from .test_distilling import run


def test_all_checks_pass(host):
    failed = run(host, "inside_init.py")
    assert not failed, failed
