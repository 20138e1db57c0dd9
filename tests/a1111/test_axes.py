"""Our axes of the X/Y/Z plot: each cell is a job of its own with its own value."""

import sys
from types import SimpleNamespace

import pytest
from PIL import Image
from understudy.a1111 import axes
from understudy.a1111.choices import Choices, RefusedChoice
from understudy.a1111.job import begin

from .jobs import SMALL, small
from .server import Refused, value_of
from .test_txt2img import ORACLE, asked
from .watching_files import named, new_files

PLOT = "x/y/z plot"
UNDECIDED = "not redone: the job ended in an error"


class Plot:
    """Runs plots of one picture a cell, with the panel's values for all."""

    def __init__(self, a1111):
        self.a1111 = a1111
        scripts = a1111.get("/sdapi/v1/script-info")
        (info,) = (script for script in scripts if script["name"] == PLOT and not script["is_img2img"])
        self.axes, self.rest = info["args"][0]["choices"], info["args"][9:]

    def run(self, values: list, x: tuple[str, object], y: tuple[str, object] = ("Nothing", ""), **changes):
        """The cells' pictures in rows; an axis is its label and values, a list where it offers choices."""
        arguments = []
        for label, given in (x, y, ("Nothing", "")):
            at, listed = self.axes.index(label), isinstance(given, list)
            arguments += [at, "" if listed else given, given if listed else []]
        cells = {"Draw legend": False, "Include Sub Images": True}
        arguments += [cells.get(arg["label"], arg["value"]) for arg in self.rest]
        return self.a1111.make(
            *values, script_name=PLOT, script_args=arguments, **{"batch_size": 1, "seed": 1, **SMALL, **changes}
        )


@pytest.fixture(scope="module")
def plot(a1111):
    return Plot(a1111)


def test_the_plot_offers_each_axis_once(plot):
    ours = [label for label in plot.axes if label.startswith("[Understudy]")]
    names = ["Rule value", "Way back, as noise", "Teacher steps", "Best of", "Oracle"]
    assert ours == [f"[Understudy] {name}" for name in names]


def test_the_rules_value_decides_in_each_cell_and_the_texts_say_which(a1111, plot):
    plain = small(a1111, batch_size=1)
    score = float(small(a1111, *asked(rule="below score", score=-1000.0), batch_size=1).said("score")[0])
    made = plot.run(asked(rule="below score"), ("[Understudy] Rule value", f"{score - 1}, {score + 1}"))
    assert made.said("decision") == ["kept", "redone"]
    assert [float(said) for said in made.said("below")] == pytest.approx([score - 1, score + 1])
    assert made.pixels[0] == plain.pixels[0] != made.pixels[1]
    share = plot.run(asked(), ("[Understudy] Rule value", "0, 100"))
    assert share.said("decision") == ["kept", "redone"] and share.said("share") == ["0", "100"]
    assert share.pixels == made.pixels


def test_two_axes_meet_in_each_cell(plot):
    made = plot.run(
        asked(share=100.0), ("[Understudy] Way back, as noise", "0.3, 0.9"), ("[Understudy] Teacher steps", "2, 4")
    )
    assert made.said("noise") == ["0.3", "0.9"] * 2 and made.said("teacher steps") == ["2", "2", "4", "4"]
    assert made.said("decision") == ["redone"] * 4 and len(set(made.pixels)) == 4
    sigmas = [float(sigma) for sigma in made.said("sigma")]
    assert sigmas[0] == sigmas[2] < sigmas[1] == sigmas[3]


def test_the_oracle_is_one_of_those_that_lie_there(a1111, plot):
    made = plot.run(asked(oracle="none"), ("[Understudy] Oracle", [ORACLE]))
    assert made.said("oracle") == [ORACLE] and made.said("score") != [None]


@pytest.mark.parametrize(
    ("changes", "axis", "words"),
    [
        ({}, ("Rule value", "30, 130"), "share is 130.0; expected 0 to 100"),
        ({}, ("Way back, as noise", "1.5"), "noise is 1.5; expected more than 0 and less than 1"),
        ({}, ("Teacher steps", "0"), "steps is 0; expected 1 to 150"),
        ({}, ("Oracle", ["absent.safetensors"]), "models/oracles has no 'absent.safetensors'"),
        ({"enabled": False}, ("Teacher steps", "2"), "Understudy is off"),
    ],
)
def test_a_bad_value_is_refused_before_anything_is_made(plot, changes, axis, words):
    with pytest.raises(Refused, match=words):
        plot.run(asked(**changes), (f"[Understudy] {axis[0]}", axis[1]))


def test_the_panels_values_come_back_in_the_next_job(a1111, plot):
    plot.run(asked(share=100.0), ("[Understudy] Teacher steps", "5"))
    assert small(a1111, *asked(share=100.0), batch_size=1).said("teacher steps") == ["3"]


def test_what_a_cell_saved_before_an_error_in_it_says_so(a1111, plot):
    """The plot goes on, and closes none of its cells."""
    axis, broken = ("[Understudy] Rule value", "50, 100"), {"sampler_name": "Broken in the third batch"}
    with new_files(a1111) as files:
        plot.run(asked(), axis, **broken, n_iter=4, save_images=True)
        small(a1111, batch_size=1)  # for the last cell: when the next job begins, it is over at the latest
    saved = [path for path in named(files, ".png") if not path.name.startswith("xyz_grid")]
    texts = [Image.open(path).info["parameters"] for path in saved]
    told = [value_of(text, "Understudy decision") for text in texts]
    assert sorted(told[:2]) == ["kept", UNDECIDED] and told[2:] == [UNDECIDED] * 2


def test_axes_are_added_once_and_only_where_there_is_a_plot(monkeypatch):
    class Axis:
        def __init__(self, label, kind, apply, **more):
            self.label = label

    plot = SimpleNamespace(AxisOption=Axis, axis_options=[Axis("Nothing", str, None)])
    loaded = [SimpleNamespace(module=module) for module in (SimpleNamespace(), plot, plot)]
    monkeypatch.setitem(sys.modules, "modules", SimpleNamespace(scripts=SimpleNamespace(scripts_data=loaded)))
    axes.add()
    axes.add()
    labels = [option.label for option in plot.axis_options]
    assert len(labels) == len(set(labels)) == 6 and labels[0] == "Nothing"


def test_a_cell_says_nothing_of_the_one_before_it():
    shared = {"Understudy": "True", "Understudy score": lambda *_: "1", "Schedule type": "Karras"}
    p = SimpleNamespace(extra_generation_params=shared)
    assert begin(p, [False]) is None
    assert p.extra_generation_params == {"Schedule type": "Karras"} and len(shared) == 3


def p_with(*values, **changes):
    p = SimpleNamespace(**({axes.CHANGES: changes} if changes else {}))
    return Choices.of(axes.with_changes(p, values))


def test_changes_take_the_place_of_values_by_position_or_by_name():
    assert p_with(True, "a.pt") == Choices(True, "a.pt")
    assert p_with(True, "a.pt", steps=7) == Choices(True, "a.pt", steps=7)
    assert p_with(True, "a.pt", "below score", oracle="b.pt").oracle == "b.pt"
    assert p_with(True, "a.pt", "below score", **{axes.RULE_VALUE: 0.5}) == Choices(
        True, "a.pt", "below score", score=0.5
    )
    named = {"enabled": True, "oracle": "a.pt", "rule": "below score"}
    assert p_with(named, False, **{axes.RULE_VALUE: 0.5}) == Choices(**named, score=0.5)
    with pytest.raises(RefusedChoice, match="the rule is 'sometimes'"):
        p_with(True, "a.pt", "sometimes", **{axes.RULE_VALUE: 0.5})
