"""How wide the front end writes a text."""

import unicodedata

# Widths of letters in the front end's font, Inter, in thousandths of its size.
SIGNS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ()_"
THOUSANDTHS = """
562 612 571 612 583 370 613 591 242 242 549 242 876 591 600 612 612 376 528 327 591 562 818 546 562 552
690 654 730 722 601 590 746 743 269 571 672 565 903 753 765 639 765 644 642 646 744 690 985 682 679 629
281 365 365 456
"""
LETTERS = dict(zip(SIGNS, map(int, THOUSANDTHS.split()), strict=True))


def width(text, size):
    return size * sum(map(letter, text)) / 1000


def letter(sign):
    """Accents are above a letter, Chinese signs and the like fill a square; others, as Cyrillic, by what is enough."""
    wide = 1000 if unicodedata.east_asian_width(sign) in "WF" else 640
    return LETTERS.get(unicodedata.normalize("NFD", sign)[0], wide)
