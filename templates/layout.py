"""Columns in so little room that text can be read where a template opens in a window of 1366 x 768.

Of such a window the canvas is 1366 x 625, of which front end 1.49.6 fills three quarters with a template, whatever view
its file may have. So sockets and widgets, which it writes 12 pixels high, have 11 where a graph is 1093 x 489 at most,
and of one that is 1070 wide notes and prompts, which have 10, have 11 in a window of 1600 x 900.
"""

from __future__ import annotations

from .graph import GAP, Column, Graph

BELOW = 8  # heights have room for what Nodes 2.0 writes below a node
WHOLE = 459  # the height of a node that fills its column


def columns(graph: Graph, *widths: int) -> list[Column]:
    """Columns of these widths from left to right; nodes with widgets take 210 at least, and 225 in Nodes 2.0."""
    return [graph.column(width, x=sum(widths[:place]) + GAP * place, gap=BELOW) for place, width in enumerate(widths)]
