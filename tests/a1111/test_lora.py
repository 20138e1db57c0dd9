"""A student that is a LoRA in the prompt: the teacher is its checkpoint without it, and nothing is loaded for it."""

import pytest

from ..host import checkpoints
from .test_txt2img import asked

PROMPT = "a red star above a blue circle <lora:fast-lcm:1>"


@pytest.fixture(scope="module", autouse=True)
def lora(a1111):
    checkpoints.save(a1111.base / "models" / "Lora" / "fast-lcm.safetensors", checkpoints.lora(), seed=3)
    a1111.post("/sdapi/v1/refresh-loras", {})


@pytest.fixture(scope="module")
def alone(a1111):
    return a1111.make(prompt=PROMPT)


def test_the_teacher_runs_without_the_lora_and_without_a_switch(a1111, alone):
    without = a1111.make()
    assert all(a != b for a, b in zip(alone.pixels, without.pixels, strict=True)), "the LoRA does nothing"
    before = a1111.log_text()
    made = a1111.make(*asked(), prompt=PROMPT)
    log = a1111.log_text()[len(before) :]
    assert "Loading weights" not in log and "Reusing loaded model" not in log
    decisions = made.said("decision")
    assert sorted(decisions) == ["kept", "kept", "redone", "redone"]
    same = [a == b for a, b in zip(made.pixels, alone.pixels, strict=True)]
    assert same == [word == "kept" for word in decisions]
    assert all("<lora:fast-lcm:1>" in text and "Lora hashes" in text for text in made.texts)
    with_it = a1111.make(*asked(remove=""), prompt=PROMPT)
    redone = [place for place, word in enumerate(decisions) if word == "redone"]
    assert with_it.said("decision") == decisions
    assert all(made.pixels[place] != with_it.pixels[place] for place in redone)
    assert a1111.make(prompt=PROMPT).pixels == alone.pixels
    assert a1111.make().pixels == without.pixels


@pytest.mark.parametrize("teacher", [{}, {"teacher": "teacher.safetensors"}])
def test_the_next_batch_has_the_lora_again(a1111, teacher):
    changes = {"prompt": PROMPT, "n_iter": 2, "batch_size": 2}
    alone = a1111.make(**changes)
    scored = a1111.make(*asked(share=0.0), **changes)
    scores, before = list(map(float, scored.said("score"))), a1111.log_text()
    made = a1111.make(*asked(rule="below score", score=max(scores[:2]) + 1e-4, **teacher), **changes)
    assert made.said("decision")[:2] == ["redone"] * 2
    assert made.said("score") == scored.said("score")
    kept = [place for place, word in enumerate(made.said("decision")) if word == "kept"]
    assert all(made.pixels[place] == alone.pixels[place] for place in kept)
    assert bool(teacher) == ("Loading weights" in a1111.log_text()[len(before) :])
