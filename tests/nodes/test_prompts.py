"""A text's lines as prompts."""

import pytest


@pytest.fixture
def prompts(without_host):
    from understudy.nodes.prompts import UnderstudyPrompts

    return lambda text: UnderstudyPrompts.execute(text)[0]


def test_each_line_is_a_prompt_and_empty_ones_are_none(prompts):
    assert prompts("a castle\n\n  two cats \r\n\t\n") == ["a castle", "two cats"]


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_no_prompt_at_all_is_refused(prompts, text):
    with pytest.raises(ValueError, match="text is empty: write one prompt in each line"):
        prompts(text)
