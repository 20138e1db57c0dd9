"""The embedded demo models: one block, prompts, a receipt; nothing to download."""

from __future__ import annotations

from ..blocks import adaptive_sampler
from ..graph import Graph, Look
from ..notes import OF_AN_APP
from .demo_uses import loaders

# Chosen once, with their seed: the student draws a dot too many, breaks a star off and leaves one out; the teacher
# mends all three, and the other five show what they should. Each is a line of its box, of 28 letters at most; what is
# not called tiny is large.
SEED, SHARE = 4, 0.38
PROMPTS = """\
blue box above tiny red dot
red box below tiny blue star
cyan triangle above blue dot
purple dot left of green box"""
DRAWN = "the *student* draws, the *oracle* scores, the *teacher* redoes the worst."
NOTE = f"""
Press **Run**: {DRAWN} Prompts were chosen once; type your own: size, color, thing, place, background.
"""
APP_NOTE = f"""
{OF_AN_APP} At **Run** {DRAWN} Prompts and seed were chosen once.
"""


def demo() -> Graph:
    return _graph("Understudy 1 - Demo (no download)", NOTE)


def app() -> Graph:
    """The demo in the front end's app mode: prompts, seed, share and the receipt, and no nodes."""
    graph = _graph("Understudy 2 - Demo app (no download)", APP_NOTE)
    prompts, block, receipt = (graph.node(title) for title in ("Prompts", "Adaptive sampler", "Receipt"))
    graph.open_as_app([(prompts, "text"), (block, "share"), (block, "seed")], [receipt])
    return graph


def _graph(name: str, note: str) -> Graph:
    """At most 911 x 406, so that the front end's ten pixels of notes and prompts have eleven in a window of 1366 x 768
    (``layout.py``). The receipt has the width in which its letters have eleven as well, and the prompts that of their
    longest line in Nodes 2.0; what else is narrower leaves all but the receipt's edge beside the front end's map, at
    the lower right."""
    graph = Graph(name)
    student, teacher, texts = loaders(graph, 234)
    sampler, right = graph.column(205, x=245), graph.column(391, x=475)
    texts.note("Read me", note, 82)
    prompts = texts.add("UnderstudyPrompts", Look("Prompts", height=150, labels={"text": "prompts"}), text=PROMPTS)
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
