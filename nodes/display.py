"""Text on a node after it ran."""

from __future__ import annotations

from comfy_api.latest import ui


def shown(text: str, node_id: str) -> ui.PreviewText:
    """Show ``text`` on the node at once, and hand it over as the node's ui output, which ends up in the history."""
    from server import PromptServer

    # The frontend draws a ui output's text on its own preview node only; this is how core nodes show text on theirs.
    PromptServer.instance.send_progress_text(text, node_id)
    return ui.PreviewText(text)
