"""The sampling nodes inside the host: every sampler, cut conditioning, counted evaluations, students, keep-better."""

from .inside import failures


def test_all_checks_pass(host):
    failed = failures(host, "inside_teacher.py")
    assert not failed, failed
