"""Sizes in words."""


def size(count: float) -> str:
    """A number of bytes, in the largest unit that it fills."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"
