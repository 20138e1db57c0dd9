"""Pictures from afar, where machines' rounding, seconds and JPEG do not show, and another picture does."""

import numpy as np
from PIL import Image


def difference(one, other, cells=(50, 50)):
    """How many grey levels two pictures are apart on average."""
    seen = [np.asarray(each.convert("RGB").resize(cells, Image.BOX), float) for each in (one, other)]
    return np.abs(seen[0] - seen[1]).mean()
