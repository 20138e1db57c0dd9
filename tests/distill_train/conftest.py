"""The small pipelines on disk."""

from ..pipelines.conftest import sd15, sdxl  # noqa: F401 - fixtures
