"""Two routes beside the host's own: which oracles there are, and scores of pictures that are sent."""

from __future__ import annotations

import logging
from contextlib import nullcontext

log = logging.getLogger(__name__)
SCORE, ORACLES = "/understudy/v1/score", "/understudy/v1/oracles"
# Of the host's own: there only with --api or --nowebui, and behind what guards it.
OF_HOST = "/sdapi/v1/txt2img"


def add_routes(app) -> None:
    """Our routes in this app, once, where the host has an API, behind the same guard as that."""
    from modules.shared_cmd_options import cmd_opts

    routes = {getattr(route, "path", None): route for route in app.routes}
    if OF_HOST not in routes or SCORE in routes:
        return
    guards = list(routes[OF_HOST].dependencies)
    if cmd_opts.api_auth and not guards:
        log.warning("Understudy: %s and %s are left out, since the host's --api-auth guards nothing", SCORE, ORACLES)
        return
    app.add_api_route(ORACLES, listed, methods=["GET"], dependencies=guards)
    app.add_api_route(SCORE, _score_endpoint(), methods=["POST"], dependencies=guards)


def listed():
    """What lies in models/oracles, and what each file is as far as its header and its name tell."""
    from .oracle import oracle_files

    return [{"name": name, **_known(name)} for name in oracle_files()]


def _score_endpoint():
    from fastapi import Body, HTTPException

    anything = Body(...)  # since the framework's own refusals are lists of places and codes

    def score(body=anything):
        """Scores of pictures for prompts; higher is better.

        images: 1 to 64 pictures as base64, each of at most 16 megapixels. prompts: one text for all, or a list of one
        for each. oracle: a name that /understudy/v1/oracles lists.
        """
        from .scoring import Request, WrongRequest

        try:
            found = _alone(Request.of(body).answer)
        except WrongRequest as error:
            found = error
        if isinstance(found, WrongRequest):
            raise HTTPException(422, str(found)) from found
        if found is None:  # some hosts' main thread drops errors
            raise HTTPException(500, "the pictures could not be scored; the host's log says why")
        return found

    return score


def _alone(work):
    """What ``work`` returns, while nothing else of the host's runs a network: in its queue, on its own thread."""
    from modules.call_queue import queue_lock

    with queue_lock:
        try:
            from modules_forge.main_thread import run_and_wait_result
        except ImportError:
            return _after_start(work)
        return run_and_wait_result(_after_start, work)


def _after_start(work):
    """The same once the first checkpoint is there: a host's start puts its own loading in torch's place meanwhile."""
    from modules import sd_models

    with getattr(sd_models.model_data, "lock", nullcontext()):
        return work()


def _known(name: str) -> dict[str, str | None]:
    """Without its hash, for which a file of gigabytes would have to be read."""
    from ..files import CheckpointError
    from ..oracles.families import FAMILIES
    from ..oracles.identify import identify, is_head
    from ..oracles.tensors import TensorFile
    from .oracle import FOLDER, models_folder

    path = models_folder(FOLDER) / name
    told = {"family": None, "unit": None, "size": f"{path.stat().st_size / 2**20:,.1f} MiB", "problem": None}
    try:
        file = TensorFile(path)
        record = FAMILIES[identify(file, "auto", "")]
    except (CheckpointError, OSError) as error:
        return told | {"problem": str(error).replace(str(path), name)}
    if is_head(file):
        encoder = record.encoder.published.name
        told["problem"] = f"it needs the image encoder {encoder}; join them with understudy oracle convert --encoder"
    return told | {"family": record.name, "unit": record.unit}
