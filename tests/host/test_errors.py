"""Wrong inputs: the node's error report says what was given and what was expected."""

import pytest
import torch
from safetensors.torch import save_file

from .graphs import Adaptive, Graph

GOOD, BAD = 0.9, 0.1


def error(host, graph, node):
    run = host.attempt(graph)
    assert run.error, "no error was reported"
    assert run.error_node == node
    assert "." not in (run.error_type or ""), "a built-in type, as which it reads as a sentence"
    return run.error


def test_a_count_of_scores_that_does_not_match_names_both_numbers(host):
    graph = Adaptive([GOOD, BAD, GOOD], count=2, seed=500)
    text = error(host, graph, graph.scores)
    assert "3 scores" in text and "2 images" in text


def test_teacher_names_both_numbers_too(host):
    graph = Adaptive([GOOD, BAD, GOOD], count=2, seed=501)
    del graph.nodes[graph.scores]["inputs"]["images"]
    text = error(host, graph, graph.teacher)
    assert "3 scores" in text and "2 images" in text


def test_a_score_that_is_no_number_names_its_image(host):
    graph = Adaptive([GOOD, float("nan"), BAD], seed=502)
    text = error(host, graph, graph.scores)
    assert "image 2 is not a number (NaN)" in text


def test_in_a_list_an_image_is_named_by_its_place_in_the_whole_list(host):
    graph = Graph()
    demo = graph.add("UnderstudyLoadDemo", part="student")
    images = graph.add("TestSolid", value=graph.add("TestFloats", numbers="[0.5, 0.5, NaN]")[0])
    scores = graph.add("UnderstudyScoreImages", oracle=demo[3], images=images[0], prompt="a red star")
    graph.add("TestAsk", anything=scores[0])
    assert "image 5 has values from nan to nan" in error(host, graph, scores)


def test_the_receipt_names_both_counts(host):
    graph = Adaptive([GOOD, BAD], seed=509)
    one = graph.add("ImageFromBatch", image=graph.images[0], batch_index=0, length=1)
    receipt = graph.add(
        "UnderstudyReceipt",
        images_before=graph.images[0],
        images=one[0],
        scores=graph.scores[0],
        threshold=graph.threshold[0],
        receipt=graph.teacher[2],
    )
    assert "1 images for 2 images_before" in error(host, graph, receipt)


def test_prompts_that_do_not_match_name_both_numbers(host):
    graph = Adaptive(None, count=3, seed=503)
    texts = graph.add("TestStrings", texts='["a boat", "a tree"]')
    graph.set(graph.scores, prompt=texts[0])
    text = error(host, graph, graph.scores)
    assert "2 prompts" in text and "3" in text


def test_starting_from_a_latent_needs_one(host):
    graph = Adaptive([BAD], seed=504, start_from="latent")
    assert "latent" in error(host, graph, graph.teacher)


def test_a_latent_of_another_space_is_refused(host):
    graph = Adaptive([BAD], seed=505, start_from="latent")
    other = graph.add("EmptySD3LatentImage", width=64, height=64, batch_size=1)
    graph.set(graph.teacher, latent=other[0])
    text = error(host, graph, graph.teacher)
    assert "16" in text and "4" in text


def test_a_latent_of_another_size_is_refused(host):
    graph = Adaptive([BAD], seed=506, start_from="latent")
    other = graph.add("EmptyLatentImage", width=128, height=64, batch_size=1)
    graph.set(graph.teacher, latent=other[0])
    text = error(host, graph, graph.teacher)
    assert "16" in text and "8" in text


def test_a_latent_count_that_does_not_match_names_both_numbers(host):
    graph = Adaptive([GOOD, BAD], seed=507)
    other = graph.add("EmptyLatentImage", width=64, height=64, batch_size=3)
    graph.set(graph.teacher, latent=other[0])
    text = error(host, graph, graph.teacher)
    assert "3" in text and "2 images" in text


def test_a_file_that_is_no_oracle_is_named(host):
    name = "not-an-oracle.safetensors"
    save_file({"some.weight": torch.zeros(2, 2)}, host.base / "models" / "oracles" / name)
    graph = Graph()
    oracle = graph.add("UnderstudyLoadOracle", oracle_name=name, family="auto")
    graph.add("TestAsk", anything=oracle[0])
    assert name in error(host, graph, oracle)


@pytest.mark.parametrize("widget, value", [("rollback", 0.0), ("steps", 0), ("strategy", "repaint")])
def test_widgets_out_of_range_are_refused_before_anything_runs(host, widget, value):
    graph = Adaptive([BAD], seed=508, **{widget: value})
    assert widget in error(host, graph, graph.teacher)
