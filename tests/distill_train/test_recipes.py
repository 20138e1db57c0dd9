"""Recipes and the command around them."""

import re
import shlex
from pathlib import Path

import pytest
from understudy.cli import main
from understudy.distill_train.config import Recipe, RecipeError, Strict, load_recipe, tomllib
from understudy.distill_train.data import read_settings
from understudy.distill_train.methods import distillations, make_method, method_classes
from understudy.distill_train.methods.base import TABLES
from understudy.distill_train.methods.distillation import check_data
from understudy.distill_train.run.command import RECIPES, find_recipe, shipped
from understudy.distill_train.run.help_config import help_config, sections


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_valid_and_their_settings_too(name):
    recipe = load_recipe(RECIPES / f"{name}.toml")
    settings = method_classes()[recipe.method].Settings.model_validate(recipe.settings)
    assert recipe.settings.keys() <= settings.model_fields_set
    assert recipe.loop.accumulate == "auto" or recipe.loop.batch_size % recipe.loop.accumulate == 0


# Precision, and the decays of the exported average and of the target's, where they have any.
PUBLIC = {
    "lcm-lora": ("fp16", 0.0, 0.0),
    "lcm-lora-reward": ("fp16", 0.0, 0.0),
    "lcm": ("fp16", 0.0, 0.95),
    "cd": ("fp16", 0.999, 0.95),
    "dmd": ("bf16", 0.0, None),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_precision_and_averages_are_those_of_the_public_scripts(name):
    recipe = load_recipe(RECIPES / f"{name}.toml")
    assert (recipe.loop.precision, recipe.loop.ema, recipe.settings.get("target_ema")) == PUBLIC[name]


@pytest.mark.parametrize("name", shipped())
def test_what_a_recipe_says_to_type_is_accepted(name):
    """The command and the [data] in its comments."""
    text = (RECIPES / f"{name}.toml").read_text()
    said = "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.splitlines() if line.startswith("#"))
    commands = re.findall(r"^ *(understudy train (?:.*\\\n)*.*)$", said, re.MULTILINE)
    for command in commands:
        _, _, recipe, *rest = shlex.split(command.replace("\\\n", " "))
        changes = [rest[at + 1] for at, word in enumerate(rest) if word == "--set"]
        asked = load_recipe(RECIPES / f"{recipe}.toml", tuple(changes))
        if asked.data:
            check_data(asked.data)
    if "\n[data]\n" in said and "# [data]\n" in text:
        check_data(tomllib.loads("[data]" + said.partition("\n[data]")[2])["data"])


def test_a_recipe_with_an_oracle_needs_its_file_and_the_prompts():
    recipe = load_recipe(RECIPES / "lcm-lora-reward.toml", ("data.path=prompts.txt", "data.filter.oracle=oracle.pt"))
    assert read_settings(recipe.data).filter.percentile == 50
    with pytest.raises(RecipeError, match="filter.oracle: Field required"):
        read_settings(load_recipe(RECIPES / "lcm-lora-reward.toml", ("data.path=prompts.txt",)).data)


@pytest.mark.parametrize("name", method_classes())
def test_a_method_says_what_it_is_and_has_a_recipe_and_a_row_in_the_guide(name):
    method = method_classes()[name]
    assert method.summary and method.source and issubclass(method.Settings, Strict) and method.__doc__
    recipes = [path.stem for path in RECIPES.glob("*.toml") if load_recipe(path).method == name]
    assert recipes, f"distill_train/recipes has no recipe with method = {name!r}"
    if name in distillations():
        guide = (RECIPES.parent / "README.md").read_text(encoding="utf-8")
        for recipe in recipes:
            rows = [line for line in guide.splitlines() if line.startswith(f"| `{recipe}` |")]
            assert len(rows) == 1, f"distill_train/README.md has no row for the recipe {recipe}"
            assert rows[0].endswith(f"| `{name}` | {method.source} |")


def test_every_file_of_methods_is_one_or_shared_by_some():
    """What lies in methods/ and is found by being there is nothing else by chance."""
    from understudy.distill_train import methods

    shared = {"__init__", "base", "distillation", "sferd", "classifier", "distances", "flow_usage", "preview"}
    shared |= {"tiny_decoder"}
    files = {path.stem for path in Path(methods.__file__).parent.glob("*.py")} - shared
    places = [method.__module__.rpartition(".") for method in method_classes().values()]
    assert files == {file for package, _, file in places if package == methods.__name__}


def test_help_names_the_distillations(monkeypatch):
    shown = help_config()
    guided = next(line for line in shown.splitlines() if line.startswith("[attention]"))
    asking = {name: method_classes()[name].asks_teacher for name in distillations()}
    assert {name: name in re.findall(r"[\w-]+", guided) for name in asking} == asking
    assert set(asking.values()) == {True, False}
    for table in ("teacher", "student", "samples"):
        line = next(line for line in shown.splitlines() if line.startswith(f"[{table}]"))
        assert all(name in line for name in distillations())
    monkeypatch.setattr("understudy.distill_train.run.help_config.distillations", lambda: ("cd", "new"))
    assert help_config().count("(for cd and new)") == 3


def test_every_key_is_explained(capsys):
    for table, _, settings in sections():
        for name, field in settings.model_fields.items():
            assert field.description, f"{table} {name}"
    with pytest.raises(SystemExit) as end:
        main(["train", "--help-config"])
    assert not end.value.code
    shown = capsys.readouterr().out
    for text in ("[loop]", "keep_checkpoints = 2", "huber_c = 0.001", "temperature = 0.9", "steps = required  # int"):
        assert text in shown
    permitted = (
        'decay = "cosine"  # "cosine" or "constant" or "wsd"\n',
        'train = "lora"  # "full" or "lora" or "control" or "predictor" or "prior"\n',
        'weight = "uniform"  # "uniform" or "snr" or "snr+1" or "truncated-snr"\n',
        "steps = required  # int, > 0\n",
        "ema = 0.999  # >= 0, < 1\n",
        'accumulate = 1  # int > 0 or "auto"\n',
        'checkpointing = false  # bool or "auto"\n',
        "alpha = (none)  # > 0\n",
        'kind = "folder"\n',
        "data = a table, see below\n",
        "loop = required  # a table\n",
    )
    for text in permitted:
        assert text in shown
    lcm = help_config("lcm")
    assert "w_max = 15" in lcm and "temperature" not in lcm


def test_keys_are_set_from_the_command_line(tmp_path):
    changes = ("loop.steps=7", "teacher.path=C:\\models\\my model.safetensors", "loop.betas=[0.5, 0.6]")
    changes += ("export=a.safetensors",)
    recipe = load_recipe(RECIPES / "lcm-lora.toml", changes)
    assert recipe.loop.steps == 7 and recipe.loop.betas == (0.5, 0.6) and recipe.export == "a.safetensors"
    assert str(recipe.teacher.path) == "C:\\models\\my model.safetensors"
    for wrong, said in (
        ("loop.stepz=7", "loop.stepz"),
        ("loop.steps", "expected KEY=VALUE"),
        ("seed.a=1", "not a table"),
        *((f"export={name!r}", "file name that ends in .safetensors") for name in ("", "a/b.safetensors", "a.pt")),
    ):
        with pytest.raises(RecipeError, match=said):
            load_recipe(RECIPES / "lcm-lora.toml", (wrong,))


def test_a_name_is_the_pack_s_recipe_and_a_path_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cd").mkdir()
    assert find_recipe(Path("cd")) == (load_recipe(RECIPES / "cd.toml"), "cd")
    for missing in ("mine/lcm.toml", "lcm.tml", "lcm.toml"):
        with pytest.raises(RecipeError, match="there is no recipe"):
            find_recipe(Path(missing))
    with pytest.raises(RecipeError, match="there is no recipe"):
        find_recipe(tmp_path)
    text = (RECIPES / "lcm.toml").read_text()
    (tmp_path / "lcm").write_text("\ufeff" + text.replace("seed = 0", "seed = 5"), encoding="utf-8")
    assert find_recipe(Path("lcm"))[0].seed == 5
    (tmp_path / "lcm").write_bytes(text.encode() + b"# \xe4")
    with pytest.raises(RecipeError, match="lcm is not a text file in UTF-8"):
        find_recipe(Path("lcm"))


@pytest.mark.parametrize("name", method_classes())
def test_a_table_that_a_method_does_not_read_is_refused(name):
    values = {"teacher": {"path": "demo"}, "attention": {"weight": 0.5}, "student": {"rank": 3}, "data": {"kind": "x"}}
    values["samples"] = {"seed": 3}
    assert values.keys() == set(TABLES)
    plain = {"method": name, "seed": 0, "export": "a.safetensors", "loop": {"steps": 1, "batch_size": 1, "lr": 1}}
    wrong = plain | {"settings": {"no_such": 1}}  # which is refused next, before anything is made
    for table in TABLES:
        said = "settings of" if name in distillations() else rf"{name} does not read \[{table}\]; leave out"
        with pytest.raises(RecipeError, match=said):
            make_method(Recipe(**wrong, **{table: values[table]}), "cpu")
    before = Recipe.model_validate_json(
        Recipe(**wrong).model_dump_json()
    )  # as a run that goes on has it, with all keys
    with pytest.raises(RecipeError, match="settings of"):
        make_method(before, "cpu")


def test_bad_requests_are_one_line_and_leave_nothing(capsys, tmp_path):
    demo = ["pd", "--set", "teacher.path=demo", "--set", "data.kind=scenes"]
    for arguments, said in (
        (["pd"], "pd needs a [teacher] with its path, e.g. --set teacher.path=FILE"),
        ([*demo, "--set", f"teacher.path={tmp_path / 'x.safetensors'}"], "no such file"),
        (["pd", "--set", "teacher.path=demo", "--set", "data.kind=folder"], "data: path: Field required"),
        (["codi", *demo[1:], "--set", "data.condition=outline"], "train all weights (student.base = full)"),
        (
            ["pe-codi", *demo[1:]],
            "pe-codi needs a condition picture for each sample: data of the kind folder, webdatas",
        ),
        (
            ["controlnet", *demo[1:], "--set", "attention.weight=0.3"],
            "controlnet asks no guided teacher while it learns",
        ),
        (["codi", *demo[1:], "--set", "attention.weight=0.3"], "leave [attention] out"),
        (["pd", "--set", "settings.cgf=1"], "settings of pd: cgf"),
        ([*demo, "--set", "samples.oracle=missing.safetensors"], "missing.safetensors: no such file"),
        (["nothing"], "there is no recipe 'nothing'; expected a file, or one of the pack's own: cd, cfd, codi,"),
        (["cody"], "there is no recipe 'cody'; did you mean codi"),
        (["mine/pd.tml"], "did you mean pd"),
        ([*demo, "--set", "data.condition=outline"], "pd reads no condition pictures; leave data.condition out"),
        (["demo-oracle", *demo[1:]], "oracle does not read [teacher] or [data]; leave out what stands there"),
        (["pd", "--device", "tpu"], "device 'tpu' is unknown"),
    ):
        with pytest.raises(SystemExit) as end:
            main(
                ["train", *arguments, "--out", str(tmp_path / "run")]
                + ([] if "--device" in arguments else ["--device", "cpu"])
            )
        assert end.value.code == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
