"""The embedded demo models: one block, prompts, a receipt; nothing to download."""

from __future__ import annotations

from ..blocks import adaptive_sampler
from ..graph import Graph, Look
from .demo_uses import loaders

# Chosen once, with their seed: the student leaves out a triangle, gives two things another's shape and color, and draws
# a star too many; the teacher mends all three, and the other five show what they should.
SEED, SHARE = 3, 0.38
PROMPTS = """\
a small purple star below a small yellow triangle on a black background
a small purple square above a small green circle on a black background
a large yellow star above a small blue triangle on a black background
a large purple star left of a small red circle on a white background
"""
NOTE = """
Press **Run**. The *student* draws two pictures of each prompt, the *oracle* scores them, the *teacher* redoes the \
worst. The receipt shows which, and what that saved.

Prompts and seed were chosen once, to show some of each. Type your own: one or two things with size, color, place and \
background.
"""


def demo() -> Graph:
    return _graph("Understudy 1 - Demo (no download)")


def app() -> Graph:
    """The demo in the front end's app mode: prompts, seed, share and the receipt, and no nodes."""
    graph = _graph("Understudy 2 - Demo app (no download)")
    prompts, block, receipt = (graph.node(title) for title in ("Prompts", "Adaptive sampler", "Receipt"))
    graph.open_as_app([(prompts, "text"), (block, "share"), (block, "seed")], [receipt])
    return graph


def _graph(name: str) -> Graph:
    """At most 911 x 406, so that the front end's ten pixels of notes and prompts have eleven in a window of 1366 x 768
    (``layout.py``)."""
    graph = Graph(name)
    student, teacher, texts = loaders(graph, 250)
    sampler, right = graph.column(210), graph.column(391)
    texts.note("Read me", NOTE, 124)
    prompts = texts.add("UnderstudyPrompts", Look("Prompts", height=98), text=PROMPTS)
    block = sampler.add(
        adaptive_sampler(),
        Look(height=376),
        student=student["model"],
        teacher=teacher["model"],
        clip=student["clip"],
        vae=student["vae"],
        oracle=student["oracle"],
        prompt=prompts["prompts"],
        seed=SEED,
        share=SHARE,
        width=64,
        height=64,
        count=2,
        save="all",
    )
    right.add("PreviewImage", Look("Receipt", height=376), images=block["receipt"])
    return graph


TEMPLATES = (demo, app)
