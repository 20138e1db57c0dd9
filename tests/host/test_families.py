"""Students and teachers on small models of SDXL, SD 3, FLUX, FLUX.2, Krea 2, Wan and Z-Image that the host loads."""

from .inside import failures


def test_all_checks_pass(host):
    failed = failures(host, "inside_families.py")
    assert not failed, failed
