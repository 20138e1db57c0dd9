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
Press **Run**. The *student* draws two pictures of each prompt, the *oracle* scores them, and the *teacher* redoes \
the worst; the others stay as they are, bit for bit. The receipt shows which, and what that saved.

Prompts and seed were chosen once, so that you see some of each. Type your own: one or two things with size, color, \
place and background.

Try *share to redo* 0 or 1; open the block by the button in its corner.
"""


def demo() -> Graph:
    return _graph("Understudy 1 - Demo (no download)")


def app() -> Graph:
    """The demo in the front end's app mode: prompts, seed, share and the receipt, and no nodes."""
    graph = _graph("Understudy 2 - Demo as an app (no download)")
    prompts, block, receipt = (graph.node(title) for title in ("Prompts", "Adaptive sampler", "Receipt"))
    graph.open_as_app([(prompts, "text"), (block, "share"), (block, "seed")], [receipt])
    return graph


def _graph(name: str) -> Graph:
    graph = Graph(name)
    texts, sampler, right = (graph.column(width, gap=20) for width in (270, 240, 340))
    texts.note("Read me", NOTE, 155)
    # Nodes 2.0 fits the view to nodes as they were before they were collapsed, so that these may not stand last.
    student, teacher = loaders(texts)
    prompts = texts.add("UnderstudyPrompts", Look("Prompts", height=145), text=PROMPTS)
    block = sampler.add(
        adaptive_sampler(),
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
    right.add("PreviewImage", Look("Receipt", height=450), images=block["receipt"])
    return graph


TEMPLATES = (demo, app)
