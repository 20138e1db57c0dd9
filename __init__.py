"""Understudy: a fast student makes the image, an oracle scores it, a slow teacher redoes only what needs it.

Nothing heavy is imported here: ComfyUI reads this file at start-up, and so does ``import understudy``.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """ComfyUI's V3 entry point: the extension object with this pack's nodes."""
    from .nodes import extension

    return extension()
