"""Help pages under any folder name.

The host serves ``WEB_DIRECTORY`` by a static route, and aiohttp's static routes never match a name that a URL has to
quote. A folder such as "understudy-main (1)" gets a route for its help pages here.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

PACK = Path(__file__).parent.parent  # not resolved: the host knows a linked pack by the link's name
PLAIN = "!$&'()*+,;=:@"  # what aiohttp leaves unquoted in a path, beside letters, digits and "-._~"


def serve_help_pages() -> None:
    """Add the route if the pack's folder needs it; without a running server there is nothing to do."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None or quote(PACK.name, safe=PLAIN) == PACK.name:
        return
    from aiohttp import web

    @server.routes.get(f"/extensions/{{pack:{re.escape(PACK.name)}}}/docs/{{page:[A-Za-z]+}}.md")
    async def help_page(request: web.Request) -> web.FileResponse:
        path = PACK / "web" / "docs" / f"{request.match_info['page']}.md"
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)
