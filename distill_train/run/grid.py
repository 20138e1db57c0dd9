"""The picture that a run shows of its samples."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ...lettering import write


def save_grid(images: Tensor, path: Path, columns: int = 8, headings: Sequence[str] = ()) -> None:
    """Images [N, 3, H, W] in [0, 1] as one PNG, ``columns`` in a row, below a heading for each column if there are."""
    from PIL import Image

    images = images[: len(images) // columns * columns].clamp(0, 1)
    count, channels, height, width = images.shape
    rows = images.view(-1, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = (rows.reshape(count // columns * height, columns * width, channels) * 255).round().byte()
    grid = Image.fromarray(pixels.cpu().numpy())
    if headings:
        size = max(10, width // 24)  # of which the longest heading fits over 64 pixels
        room = round(1.8 * size)
        sheet = Image.new("RGB", (grid.width, room + grid.height), "white")
        sheet.paste(grid, (0, room))
        for column, heading in enumerate(headings):
            write(sheet, ((column + 0.5) * width, room / 2), heading, size, "black", "mm")
        grid = sheet
    grid.save(path)
