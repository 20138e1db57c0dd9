"""Help pages for every language that a front end asks for, under any folder name.

A front end first asks for ``docs/<node>/<language>.md`` and then for ``docs/<node>.md``. The host serves
``WEB_DIRECTORY`` by a static route, so a language without a page of its own would cost a 404 in the console; English,
whose page is ``<node>.md``, is one. And aiohttp's static routes never match a name that a URL has to quote, such as
"understudy-main (1)". So the pages get a route of their own here, which answers with the English page where there is
no other.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

PACK = Path(__file__).parent.parent  # not resolved: the host knows a linked pack by the link's name
PLAIN = "!$&'()*+,;=:@"  # what aiohttp leaves unquoted in a path, beside letters, digits and "-._~"


def serve_help_pages() -> None:
    """Add the route; without a running server there is nothing to do."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    from aiohttp import web

    pages = PACK / "web" / "docs"

    @server.routes.get(f"/extensions/{_in_a_route(PACK.name)}/docs/{{node:[A-Za-z]+}}{{language:(/[A-Za-z-]+)?}}.md")
    async def help_page(request: web.Request) -> web.FileResponse:
        node, language = request.match_info["node"], request.match_info["language"]
        for path in (pages / f"{node}{language}.md", pages / f"{node}.md"):
            if path.is_file():
                return web.FileResponse(path)
        raise web.HTTPNotFound


def _in_a_route(name: str) -> str:
    """A folder's name as part of a route, before which the host's static one does not come.

    Of two routes that match, aiohttp takes the one with more literal parts in front, so a plain name stands there
    literally. One that has to be quoted is matched unquoted, by a variable.
    """
    if quote(name, safe=PLAIN) == name:
        return name
    pattern = re.escape(name).replace(r"\{", r"\x7b").replace(r"\}", r"\x7d")  # braces delimit the variable
    return f"{{pack:{pattern}}}"
