"""Our routes in apps as the host makes them.

usage, with the host's Python and in its folder: python inside_api.py PACK_FOLDER [the host's own arguments]
"""

import importlib.util
import logging
import os
import sys

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from fastapi.testclient import TestClient

PACK = sys.argv.pop(1)
sys.path.insert(0, os.getcwd())
spec = importlib.util.spec_from_file_location("pack", f"{PACK}/__init__.py", submodule_search_locations=[PACK])
sys.modules["pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["pack"])
add_routes = importlib.import_module("pack.a1111.api").add_routes
GUARDED = "--api-auth" in sys.argv
SENT = {"images": ["https://example.org/a.png"], "prompts": "a", "oracle": "a.safetensors"}


BASIC = Depends(HTTPBasic())


def guard(given: HTTPBasicCredentials = BASIC):
    if given.password != "secret":
        raise HTTPException(401)


def app(**guards) -> FastAPI:
    """One that has the host's API."""
    made = FastAPI()
    made.add_api_route("/sdapi/v1/txt2img", lambda: None, methods=["POST"], **guards)
    return made


def ours(made: FastAPI) -> list[str]:
    return [route.path for route in made.routes if route.path.startswith("/understudy")]


bare = FastAPI()
add_routes(bare)
assert ours(bare) == []

made = app(dependencies=[Depends(guard)] if GUARDED else [])
for _ in range(2):  # "Reload UI" runs its callbacks again
    add_routes(made)
assert ours(made) == ["/understudy/v1/oracles", "/understudy/v1/score"]
client = TestClient(made)
assert client.post("/understudy/v1/score", json=SENT).status_code == (401 if GUARDED else 422)
assert client.post("/understudy/v1/score", json=SENT, auth=("me", "wrong")).status_code == (401 if GUARDED else 422)
answer = client.post("/understudy/v1/score", json=SENT, auth=("me", "secret"))
assert answer.status_code == 422 and answer.json()["detail"].startswith("images[0] is an address")
if GUARDED:
    assert client.get("/understudy/v1/oracles").status_code == 401
    logging.disable()
    open_to_all = app()
    add_routes(open_to_all)
    assert ours(open_to_all) == []
