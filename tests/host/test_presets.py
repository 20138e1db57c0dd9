"""The table of presets against the host's own classes: times, latents, sigmas, patches, samplers, ways back."""

from .inside import failures


def test_all_checks_pass(host):
    failed = failures(host, "inside_presets.py", at_least=10)
    assert not failed, failed


def test_auto_own_patches_and_student_preset(host):
    failed = failures(host, "inside_auto.py", at_least=14)
    assert not failed, failed
