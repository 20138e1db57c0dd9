"""Text on a node after it ran."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import ui


def shown(text: str, node_id: str) -> ui.PreviewText:
    """Show ``text`` on the node at once, and hand it over as the node's ui output, which ends up in the history."""
    from server import PromptServer

    # The frontend draws a ui output's text on its own preview node only; this is how core nodes show text on theirs.
    PromptServer.instance.send_progress_text(text, node_id)
    return ui.PreviewText(text)


def listed(values: Sequence[float], unit: str = "") -> str:
    """The range of the scores, then each of them under its image's number, in rows of four."""
    heading = f"{len(values)} scores, {min(values):.3f} to {max(values):.3f}" + (f" ({unit})" if unit else "")
    numbered = [f"{number}: {value:.3f}" for number, value in enumerate(values, start=1)]
    return "\n".join([heading, *(", ".join(numbered[start : start + 4]) for start in range(0, len(numbered), 4))])
