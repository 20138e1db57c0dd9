"""Text on pictures, in whatever script it is."""

from .writing import drawable, labels, length, shortened, wrapped, write

__all__ = ["drawable", "labels", "length", "shortened", "wrapped", "write"]
