"""Students of models that the host loads, exported: the host's own loader and Student sampler make of them what the
trainer does."""

from .test_distilling import run


def test_all_checks_pass(host):
    failed = run(host, "inside_hosted_exports.py")
    assert not failed, failed
