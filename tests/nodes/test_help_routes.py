"""A front end gets a help page for whatever language it asks, wherever the pack lies; the host's own routes stay."""

import asyncio
import sys
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from understudy.nodes import help_pages

FOLDERS = ["understudy-nodes", "understudy.nodes (1)", "under study", "学生 {1}", "half {"]


@pytest.fixture(params=FOLDERS)
def answers(request, monkeypatch, tmp_path):
    """For paths below the pack's address: the text that a host answers with, or the status where it has none."""
    pack = tmp_path / request.param
    for path, words in {"UnderstudyX.md": "English", "UnderstudyX/zh.md": "Chinese"}.items():
        file = pack / "web" / "docs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(words)
    (pack / "web" / "own.js").write_text("script")
    (pack / "secret.md").write_text("secret")
    routes = web.RouteTableDef()
    monkeypatch.setattr(help_pages, "PACK", pack)
    monkeypatch.setitem(
        sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=SimpleNamespace(routes=routes)))
    )
    help_pages.serve_help_pages()

    async def asked(paths):
        app = web.Application()
        app.add_routes(routes)
        app.add_routes([web.static(f"/extensions/{pack.name}", pack / "web")])  # as the host does it
        async with TestClient(TestServer(app)) as client:
            found = []
            for path in paths:
                async with client.get(f"/extensions/{quote(pack.name)}/{path}") as answer:
                    found.append(await answer.text() if answer.status == 200 else answer.status)
            return found

    return lambda *paths: asyncio.run(asked(paths))


def test_a_language_gets_its_own_page_or_the_english_one(answers):
    paths = [f"docs/UnderstudyX{language}.md" for language in ("", "/en", "/zh", "/zh-TW", "/pt-BR")]
    assert answers(*paths) == ["English", "English", "Chinese", "English", "English"]


def test_what_is_no_page_of_the_pack_is_not_found(answers):
    paths = ["UnderstudyY/en.md", "UnderstudyY.md", "UnderstudyX/../../secret.md", "UnderstudyX/z/h.md"]
    assert answers(*(f"docs/{path}" for path in paths)) == [404] * len(paths)


def test_without_a_server_there_is_no_route(monkeypatch):
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace()))
    help_pages.serve_help_pages()
