"""Columns in so little room that text can be read where a template opens in a window of 1366 x 768: at most 1283 x 576,
which the front end shows at four fifths of its size."""

from __future__ import annotations

from .graph import GAP, Column, Graph

BELOW = 10  # heights have room for what Nodes 2.0 writes below a node
WHOLE = 545  # the height of a node that fills its column


def columns(graph: Graph, *widths: int) -> list[Column]:
    """Columns of these widths from left to right."""
    return [graph.column(width, x=sum(widths[:place]) + GAP * place, gap=BELOW) for place, width in enumerate(widths)]
