"""The Teacher by the table beside stock nodes, its way back on every architecture, and latents of other spaces."""

from .inside import failures


def test_all_checks_pass(host):
    failed = failures(host, "inside_teacher_settings.py")
    assert not failed, failed
