"""What of a prompt is syntax for an image generator's front end, and what may be the text's own."""

import pytest
from understudy.oracles.prompt_syntax import prompts_to_read, without_syntax


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a (cat:1.3) on a (mat:.5)", "a cat on a mat"),
        ("((red:1.2) barn:0.8), (snow:2)", "red barn, snow"),
        ("(masterpiece, best\nquality: 1.4 )", "masterpiece, best\nquality"),
        ("(low: quality:-0.5)", "low: quality"),
        (r"(rem \(re:zero\):1.2), \[sic\]", "rem (re:zero), [sic]"),
        ("a cat BREAK a dog", "a cat a dog"),
        ("(best:1.1)BREAK a (red:1.2)cat, old(barn:2)", "best a red cat, old barn"),
        ("(masterpiece:1.2)(best quality:1.2)(solo), (a:1.1),(b:1.1)", "masterpiece best quality (solo), a,b"),
        ("a cat,\nBREAK\na dog, BREAK, a cow", "a cat, a dog, a cow"),
        ("<lora:LCM v2:0.8>, a cat, <lyco:x:1:0.5> , a dog <hypernet:y:1>", "a cat, a dog"),
        ("embedding:EasyNegative.pt a cat, (embedding:bad hands:1.2)", "a cat, hands"),
        ("a cat, ((embedding:x)), a dog", "a cat, a dog"),
        ("<lora:x:1>", ""),
    ],
)
def test_syntax_is_taken_off(prompt, text):
    assert without_syntax(prompt) == text and without_syntax(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a cat, , a dog,  and (a cow) ((here)) [there] {too}",
        "a screen (16:9) at (10:30), John (3:16), (a ratio of 4:3), (notes: see 5)",
        "(a cat:1.3 and a dog)",
        "a sign that says \"BREAK\", 'BREAK', BREAKFAST",
        "word embedding: a picture, <3, <b>bold</b>, a < b > c",
        "{red|blue} car, [cat:dog:0.5], [a|b]",
        r"C:\pictures",
        "",
    ],
)
def test_what_may_be_a_text_stays_to_the_letter(text):
    assert without_syntax(text) == text


def test_one_remark_for_what_was_taken_off_and_one_for_choices():
    prompts = ["a cat", "a (long, long cat:1.3)", "a (dog:1.1)", "a (dog:1.1)", "{red|blue} car", r"a longer \{a\|b\}"]
    texts, (taken, choices) = prompts_to_read(prompts)
    assert texts == ["a cat", "a long, long cat", "a dog", "a dog", "{red|blue} car", r"a longer {a\|b}"]
    assert taken.startswith("syntax is taken off 3 of the prompts") and "'a (dog:1.1)' is read as 'a dog'" in taken
    assert "--literal-prompts" in taken and "literal_prompts" in taken
    assert choices.startswith("1 of the prompts hold choices, e.g. '{red|blue}', which are scored as they stand")
    assert prompts_to_read(prompts, literal=True) == (prompts, [])
    assert prompts_to_read(["a cat", "(a) dog"]).remarks == []


def test_a_hostile_prompt_takes_no_time_worth_naming():
    for prompt in (
        "(" * 20_000,
        "(a:1.2" * 5_000,
        "(a" + " " * 20_000,
        "(" * 300 + "a" + ":1.2)" * 300,
        "a" * 50_000 + ":1.2)",
    ):
        assert "\0" not in without_syntax(prompt)
