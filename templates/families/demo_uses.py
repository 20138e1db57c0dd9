"""The embedded demo models for other purposes: nodes of one's own, editing, outlines."""

from __future__ import annotations

from ..block import Block
from ..blocks import CATEGORY, SHARE, redo_the_bad, redo_the_worst
from ..graph import ENTER, TITLE, Column, Graph, Look, Node, Output
from ..layout import WHOLE
from ..parts import Texts, encoded, made

SCENE = "a small red star left of a large blue circle on a gray background"
COUNT = 8  # pictures of a batch
# What benches found for the embedded teacher, of which the table of teachers has the way from noise alone.
TEACHER = {
    "settings": "my own",
    "steps": 6,
    "cfg": 3.0,
    "sampler_name": "dpmpp_2m",
    "scheduler": "sgm_uniform",
}


def loaders(graph: Graph, width: int) -> tuple[Node, Node, Column]:
    """Student and teacher, of which only the titles are shown, and the column of this width that goes on below them.

    They stand first, as Nodes 2.0 fits the view to nodes that are not collapsed yet.
    """
    first = graph.column(width, gap=24)  # the classic canvas writes the pack's name above each
    looks = (Look(title, collapsed=True) for title in ("Student", "Teacher"))
    student, teacher = (first.add("UnderstudyLoadDemo", look, part=look.title.lower()) for look in looks)
    return student, teacher, graph.column(width, x=0, y=teacher.box.bottom + 10, gap=20)


def columns(graph: Graph, receipt: int = 391) -> tuple[Node, Node, Column, Column, Column]:
    """Student and teacher, and three columns that are as wide as the demo's, for the same reasons (``demo.py``). What
    leaves no room for the others is collapsed. receipt: the last column's width."""
    student, teacher, texts = loaders(graph, 234)
    texts.gap = 5
    return student, teacher, texts, graph.column(205, x=245, gap=10), graph.column(receipt, x=475, gap=10)


def student_alone() -> Block:
    block = Block("Student alone", category=CATEGORY, description="Pictures by the student alone.", first_id=201)
    student, clip, vae = map(block.input, ("student", "clip", "vae"))
    prompt, seed, count = block.input("prompt"), block.input("seed"), block.input("count", COUNT, label="images")
    texts, sampling = block.column(300), block.column(300)
    both = encoded(texts, clip, prompt)
    latent = texts.add("EmptyLatentImage", width=64, height=64, batch_size=count)["LATENT"]
    block.output("images", made(sampling, student, *both, latent, vae, seed=seed).images)
    return block


def own_nodes() -> Graph:
    graph = Graph("Understudy 3 - Your own nodes (no download)")
    student, teacher, texts, own, last = columns(graph)
    below = graph.column(texts.width, x=0, y=texts.y + TITLE + ENTER + texts.gap, gap=texts.gap)
    prompt = below.add("PrimitiveStringMultiline", Look("Prompt", height=102), value=SCENE)["STRING"]
    images = texts.add(
        student_alone(),
        Look(collapsed=True),
        student=student["model"],
        clip=student["clip"],
        vae=student["vae"],
        prompt=prompt,
        seed=7,
    )["images"]
    below.note(
        "Read me",
        """
Put what you like into **Redo the bad images**, in the place of KSampler: a detailer, an edit model. The other \
pictures stay as they are, bit for bit.
""",
        88,
    )
    judged = {"oracle": student["oracle"], "images": images, "prompt": prompt}
    scores = own.add("UnderstudyScoreImages", Look("Scores", collapsed=True), **judged)["scores"]
    redone = own.add(
        redo_the_bad(),
        Look(height=336),
        images=images,
        scores=scores,
        teacher=teacher["model"],
        clip=teacher["clip"],
        vae=teacher["vae"],
        prompt=prompt,
        seed=7,
        steps=6,
        cfg=3.0,
        denoise=0.7,
    )
    told = last.add(
        "UnderstudyReceipt",
        Look(collapsed=True),
        images=redone["images"],
        images_before=images,
        scores=scores,
        threshold=redone["threshold"],
        receipt=redone["receipt"],
    )
    last.add("PreviewImage", Look("Receipt", height=336), images=told["report"])
    return graph


def editing_block() -> Block:
    block = Block(
        "Adaptive edit",
        category=CATEGORY,
        description="The student edits pictures, the oracle scores the edits for the new prompt, and the teacher "
        "redoes the worst.",
    )
    student, teacher, clip, vae, oracle = map(block.input, ("student", "teacher", "clip", "vae", "oracle"))
    sources, prompt, seed = block.input("images"), block.input("prompt"), block.input("seed")
    strength, share = block.input("strength", 0.6), block.input("share", label=SHARE)
    save = block.input("save", "all")
    texts, first, judge, second, last = (block.column(width) for width in (300, 300, 320, 320, 440))
    both = encoded(texts, clip, prompt, "New prompt")
    latent = texts.add("VAEEncode", pixels=sources, vae=vae)["LATENT"]
    pictures = made(first, student, *both, latent, vae, seed=seed, denoise=strength)
    ends = {"teacher": teacher, "vae": vae, "oracle": oracle, "prompt": prompt, "share": share, "save": save}
    better = redo_the_worst(block, (judge, second, last), pictures, **both._asdict(), **ends, rollback=0.72, **TEACHER)
    alike = second.add("UnderstudyLikeness", source=sources)
    likeness = second.add("UnderstudyScoreImages", Look("How alike"), oracle=alike["oracle"], images=better["images"])
    block.output("likeness", likeness["values"])
    return block


def editing() -> Graph:
    graph = Graph("Understudy 4 - Editing (no download)")
    student, teacher, texts, edit, last = columns(graph, 464)
    shared = {"clip": student["clip"], "vae": student["vae"]}
    look = Look("Sources", collapsed=True)
    sources = texts.add(student_alone(), look, student=student["model"], prompt=SCENE, seed=1, **shared)
    edited = edit.add(
        editing_block(),
        Look(height=WHOLE),
        student=student["model"],
        teacher=teacher["model"],
        oracle=student["oracle"],
        images=sources["images"],
        prompt=SCENE.replace("red", "yellow"),
        seed=7,
        **shared,
    )
    texts.add("PreviewAny", Look("Likeness to sources", height=140), source=edited["likeness"])
    texts.note(
        "Read me",
        """
The *sources* are drawn here; put **Load Image** in their place for your own. The student starts from them and draws \
what the *prompt* says, and the teacher redoes the worst.

*Likeness* says how alike each result is to its source; less *strength* keeps more of it.
""",
        126,
    )
    last.add("PreviewImage", Look("Receipt", height=WHOLE), images=edited["receipt"])
    return graph


def outlines_block() -> Block:
    block = Block(
        "Adaptive outlines",
        category=CATEGORY,
        description="Each image follows an outline of its own, under the student's ControlNet; what fails is refined "
        "under the teacher's.",
    )
    names = ("student_control", "teacher_control", "teacher", "clip", "vae", "oracle", "outlines")
    quick, thorough, teacher, clip, vae, oracle, outlines = map(block.input, names)
    prompt, seed, share = block.input("prompt"), block.input("seed"), block.input("share", label=SHARE)
    count, save = block.input("count", COUNT, label="images"), block.input("save", "all")
    texts, hints, first, judge, second, last = (block.column(width) for width in (300, 300, 300, 320, 320, 440))
    both = encoded(texts, clip, prompt)
    latent = texts.add("EmptyLatentImage", width=64, height=64, batch_size=count)["LATENT"]

    def under(title: str, control: Output) -> Texts:
        given = {**both._asdict(), "control_net": control, "image": outlines}
        net = hints.add("ControlNetApplyAdvanced", Look(title), **given)
        return Texts(net["positive"], net["negative"])

    few, many = under("Under the student's ControlNet", quick), under("Under the teacher's ControlNet", thorough)
    pictures = made(first, teacher, *few, latent, vae, seed=seed, preset="codi", steps=2)
    ends = {"teacher": teacher, "vae": vae, "oracle": oracle, "prompt": prompt, "share": share, "save": save}
    redo_the_worst(block, (judge, second, last), pictures, **many._asdict(), **ends, rollback=0.41, **TEACHER)
    return block


def outlines() -> Graph:
    graph = Graph("Understudy 5 - Outlines (no download)")
    student, teacher, texts, middle, last = columns(graph)
    shared, look = {"clip": student["clip"], "vae": student["vae"]}, Look("First pictures", collapsed=True)
    first = texts.add(student_alone(), look, student=student["model"], prompt=SCENE, seed=1, **shared)
    look = Look("Outlines", collapsed=True)
    found = texts.add("Canny", look, image=first["images"], low_threshold=0.1, high_threshold=0.2)["IMAGE"]
    texts.note(
        "Read me",
        """
Each picture follows an *outline* of its own. The outlines come from pictures that are drawn here; put **Load Image** \
in the place of *First pictures* for your own.

The student is the teacher's model under the student's ControlNet, in two steps. Prompt and outline should agree on \
shapes, sizes and places: colors and background are free.
""",
        180,
    )
    sampled = middle.add(
        outlines_block(),
        Look(height=376),
        student_control=student["control_net"],
        teacher_control=teacher["control_net"],
        teacher=teacher["model"],
        oracle=student["oracle"],
        outlines=found,
        prompt="a small yellow star left of a large green circle on a black background",
        seed=8,
        **shared,
    )
    last.add("PreviewImage", Look("Receipt", height=376), images=sampled["receipt"])
    return graph


TEMPLATES = (own_nodes, editing, outlines)
