"""What a MODEL and a conditioning carry for each image, inside the host: hints in patches, hooks, clones, masks."""

from .inside import failures


def test_all_checks_pass(host):
    failed = failures(host, "inside_per_image.py")
    assert not failed, failed
