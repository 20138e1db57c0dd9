"""Our routes in apps as the host makes them.

usage, with the host's Python and in its folder: python inside_api.py PACK_FOLDER
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
api = importlib.import_module("pack.a1111.api")
add_routes, ORACLES, SCORE = api.add_routes, api.ORACLES, api.SCORE
cmd_opts = importlib.import_module("modules.shared_cmd_options").cmd_opts
SENT = {"images": ["https://example.org/a.png"], "prompts": "a", "oracle": "a.safetensors"}
BASIC = Depends(HTTPBasic())


def guard(given: HTTPBasicCredentials = BASIC):
    if given.password != "secret":
        raise HTTPException(401)


def app(*guards) -> FastAPI:
    """One that has the host's API."""
    made = FastAPI()
    made.add_api_route(
        "/sdapi/v1/txt2img", lambda: None, methods=["POST"], dependencies=[Depends(each) for each in guards]
    )
    return made


def ours(made: FastAPI) -> list[str]:
    for _ in range(2):  # "Reload UI" runs its callbacks again
        add_routes(made)
    return [route.path for route in made.routes if route.path.startswith("/understudy")]


def answers(made: FastAPI, password: str):
    return TestClient(made).post(SCORE, json=SENT, auth=("me", password))


assert ours(FastAPI()) == []  # of a host without --api
for auth, guards in ((None, []), ("me:secret", [guard])):
    cmd_opts.api_auth, made = auth, app(*guards)
    assert ours(made) == [ORACLES, SCORE]
    assert answers(made, "wrong").status_code == (401 if auth else 422)
    answer = answers(made, "secret")
    assert answer.status_code == 422 and answer.json()["detail"].startswith("images[0] is an address")
assert TestClient(made).get(ORACLES).status_code == 401
logging.disable()
assert ours(app()) == []  # guarded in a way that we do not see
