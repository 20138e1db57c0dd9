"""Requests that are watched, stopped or sent two at a time; what another extension sees of the host meanwhile."""

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

TEACHER_AT_WORK = "Understudy: the teacher"


def during(webui, act: Callable[[dict], bool], *values, **changes):
    """(What was made, every look at the host's progress). act: given each look, True once it has done what it wants."""
    made, looks, acted = [], [], False
    job = threading.Thread(target=lambda: made.append(webui.make(*values, **changes)))
    job.start()
    while job.is_alive():
        look = webui.get("/sdapi/v1/progress?skip_current_image=true")
        if look["state"]["job"]:
            looks.append(look)
            acted = acted or act(look)
        time.sleep(0.02)
    job.join()
    assert made, "the request failed"
    return made[0], looks


def at_once(webui, jobs) -> list:
    """What was made of several requests that are sent together: (values, changes) of each."""
    made = {}

    def send(place, values, changes):
        made[place] = webui.make(*values, **changes)

    threads = [threading.Thread(target=send, args=(place, *job)) for place, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [made[place] for place in range(len(jobs))]


def is_teachers(look: dict) -> bool:
    return (look["textinfo"] or "").startswith(TEACHER_AT_WORK)


def seen(webui) -> dict:
    return webui.get("/beside/seen")


def held(webui) -> dict:
    """What of memory the host holds."""
    return webui.get("/beside/held")


def do(webui, **wish) -> None:
    webui.post("/beside/do", wish)


@contextmanager
def without_us(webui):
    """Meanwhile the host has none of our hooks, whatever a request asks for."""
    do(webui, absent=True)
    try:
        yield
    finally:
        do(webui, absent=False)


def page(webui) -> list[str]:
    """What the last job's page says of us, by lines."""
    return [line for line in seen(webui)["comments"].splitlines() if line.startswith("Understudy")]
