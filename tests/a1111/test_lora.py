"""A student that is a LoRA in the prompt: the teacher is its checkpoint without it, and nothing is loaded for it."""

import pytest

from ..host import checkpoints
from .jobs import rising, small, up_to_the_first
from .test_txt2img import asked

PAIR = {"batch_size": 2}
PROMPT = "a red star above a blue circle <lora:fast-lcm:1>"


@pytest.fixture(scope="module")
def a1111(webui):
    """The other server has enough to do."""
    return webui


@pytest.fixture(scope="module", autouse=True)
def lora(a1111, web_host):
    shapes = checkpoints.lora(layout=web_host.layout)
    checkpoints.save(a1111.base / "models" / "Lora" / "fast-lcm.safetensors", shapes, seed=3)
    a1111.post("/sdapi/v1/refresh-loras", {})


@pytest.fixture(scope="module")
def alone(a1111):
    return small(a1111, prompt=PROMPT, **PAIR)


def test_the_teacher_runs_without_the_lora_and_without_a_switch(a1111, alone):
    without = small(a1111, **PAIR)
    assert all(a != b for a, b in zip(alone.pixels, without.pixels, strict=True)), "the LoRA does nothing"
    before = a1111.log_text()
    made = small(a1111, *asked(), prompt=PROMPT, **PAIR)
    log = a1111.log_text()[len(before) :]
    assert "Loading weights" not in log and "Reusing loaded model" not in log
    decisions = made.said("decision")
    assert sorted(decisions) == ["kept", "redone"]
    same = [a == b for a, b in zip(made.pixels, alone.pixels, strict=True)]
    assert same == [word == "kept" for word in decisions]
    assert all("<lora:fast-lcm:1>" in text and "Lora hashes" in text for text in made.texts)
    with_it = small(a1111, *asked(remove=""), prompt=PROMPT, **PAIR)
    redone = [place for place, word in enumerate(decisions) if word == "redone"]
    assert with_it.said("decision") == decisions
    assert all(made.pixels[place] != with_it.pixels[place] for place in redone)
    assert small(a1111, prompt=PROMPT, **PAIR).pixels == alone.pixels
    assert small(a1111, **PAIR).pixels == without.pixels


@pytest.mark.parametrize("teacher", [{}, {"teacher": "teacher.safetensors"}])
def test_the_next_batch_has_the_lora_again(a1111, teacher):
    job = rising(a1111, prompt=PROMPT)
    alone, scored = small(a1111, **job), small(a1111, *asked(share=0.0), **job)
    before = a1111.log_text()
    made = small(a1111, *asked(**up_to_the_first(scored), **teacher), **job)
    assert made.said("decision") == ["redone", "kept"]
    assert made.said("score") == scored.said("score")
    assert made.pixels[1] == alone.pixels[1]
    assert bool(teacher) == ("loading the student's checkpoint again took" in a1111.log_text()[len(before) :])
