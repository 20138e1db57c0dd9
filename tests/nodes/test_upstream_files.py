"""Which files a model was made from, by the graph: loaders, LoRAs, stacks, switches."""

import pytest
from understudy.nodes.upstream_files import ModelFile, model_files

FOLDERS = {
    "base.safetensors": "checkpoints",
    "other.safetensors": "checkpoints",
    "z_image_turbo_bf16.safetensors": "diffusion_models",
    "one.safetensors": "loras",
    "two.safetensors": "loras",
}
KINDS = {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "lora_stack": "LORA_STACK", "positive": "CONDITIONING"}
LOADER = ("CheckpointLoaderSimple", {"ckpt_name": "base.safetensors"})


def find(name, lora):
    return (FOLDERS[name], f"/models/{FOLDERS[name]}/{name}") if name in FOLDERS else None


def options_of(class_type, inputs):
    return {name: {"type": KINDS.get(name.rstrip("12"), "COMBO" if name.endswith("_name") else "*")} for name in inputs}


def upstream(*nodes, last=None):
    """Of a sampler whose model is the last node's; ``nodes`` are numbered from 1."""
    prompt = {str(i): {"class_type": kind, "inputs": inputs} for i, (kind, inputs) in enumerate(nodes, 1)}
    prompt["99"] = {"class_type": "Sampler", "inputs": {"model": last or [str(len(nodes)), 0], "positive": ["1", 0]}}
    return model_files(prompt, "99", "model", find, options_of)


def names(*nodes, **last):
    found = upstream(*nodes, **last)
    assert not found.undecided
    return [file.name for file in found.files]


def lora(name="one.safetensors", model="1", strength=1.0, **more):
    return "LoraLoader", {"model": [model, 0], "lora_name": name, "strength_model": strength, "strength_clip": 1} | more


def test_loaders_and_loras_nearest_first():
    found = upstream(LOADER, lora(), lora("two.safetensors", "2")).files
    assert found == [
        ModelFile("two.safetensors", "LoraLoader (node 3)", "/models/loras/two.safetensors", True),
        ModelFile("one.safetensors", "LoraLoader (node 2)", "/models/loras/one.safetensors", True),
        ModelFile("base.safetensors", "CheckpointLoaderSimple (node 1)", "/models/checkpoints/base.safetensors"),
    ]
    assert str(found[0]) == "two.safetensors of LoraLoader (node 3)"


def test_a_lora_of_no_strength_does_not_count():
    assert names(LOADER, lora(strength=0)) == ["base.safetensors"]
    assert names(LOADER, lora(strength=0.0), lora("two.safetensors", "2", -0.5))[0] == "two.safetensors"
    alone = {"model": ["1", 0], "lora_name": "one.safetensors", "strength_model": ["2", 0]}
    for strength, seen in ((0, 1), (1, 2)):
        linked = (LOADER, ("PrimitiveFloat", {"value": strength}), ("LoraLoaderModelOnly", alone))
        assert len(names(*linked)) == seen


def test_only_what_the_model_is_made_from_counts():
    other = ("CheckpointLoaderSimple", {"ckpt_name": "other.safetensors"})
    assert names(LOADER, other, lora(clip=["2", 1])) == ["one.safetensors", "base.safetensors"]
    whole = ("Loader", {"ckpt_name": "base.safetensors", "vae_name": "other.safetensors", "text": "one.safetensors, a"})
    assert names(whole) == ["base.safetensors"]
    assert names(("ModelMergeSimple", {"model1": ["2", 0], "model2": ["3", 0]}), LOADER, other,
                 last=["1", 0]) == ["base.safetensors", "other.safetensors"]  # fmt: skip
    assert names(("Odd", {"a": 1})) == [] and names(last="not linked") == []


@pytest.mark.parametrize(
    ("stack", "seen"),
    [
        ({"lora_name_1": "one.safetensors", "model_weight_1": 0, "clip_weight_1": 1, "switch_1": "On",
          "lora_name_2": "two.safetensors", "model_weight_2": 1, "switch_2": "On"}, ["two.safetensors"]),
        ({"lora_name_1": "one.safetensors", "switch_1": "Off", "lora_name_2": "None"}, []),
        ({"lora_01": "one.safetensors", "strength_01": 1.0, "lora_02": "two.safetensors", "strength_02": 0},
         ["one.safetensors"]),
        ({"lora_1": {"on": True, "lora": "one.safetensors", "strength": 1},
          "lora_2": {"on": False, "lora": "two.safetensors", "strength": 1}}, ["one.safetensors"]),
        ({"lora_1": {"on": True, "lora": "one.safetensors", "strength": 0}}, []),
        ({"toggle": False, "lora_1_name": "one.safetensors", "lora_1_strength": 1}, []),
    ],
    ids=str,
)  # fmt: skip
def test_stacks_of_loras(stack, seen):
    assert names(LOADER, ("Stack", {"model": ["1", 0], **stack})) == [*seen, "base.safetensors"]
    applied = ("Apply", {"model": ["1", 0], "lora_stack": ["2", 0]})
    assert sorted(names(LOADER, ("Stack", stack), applied)) == sorted([*seen, "base.safetensors"])


@pytest.mark.parametrize("on", [True, False])
def test_a_switch_of_the_host_hands_on_the_one_that_it_says(on):
    switch = ("ComfySwitchNode", {"switch": ["3", 0], "on_false": ["1", 0], "on_true": ["2", 0]})
    seen = ["one.safetensors", "base.safetensors"][not on :]
    assert names(LOADER, lora(), ("PrimitiveBoolean", {"value": on}), switch) == seen
    assert names(LOADER, lora(), ("ComfySoftSwitchNode", {"switch": on, "on_true": ["2", 0]}))[0] == "one.safetensors"
    negated = upstream(LOADER, lora(), ("ComfyNotNode", {"value": on}), switch)
    assert negated.undecided == ["what ComfySwitchNode (node 4) hands on"] and not negated.files


def test_a_file_that_another_node_names_is_not_known():
    named = lora(["2", 0], "1")
    found = upstream(LOADER, ("PickOne", {"seed": 1}), named)
    assert found.undecided == ["lora_name of LoraLoader (node 3)"]
    assert names(LOADER, ("PrimitiveString", {"value": "two.safetensors"}), named)[0] == "two.safetensors"


def test_the_demo_s_models_have_no_file():
    patch = ("ModelSamplingDiscrete", {"model": ["1", 0], "sampling": "v_prediction"})
    (file,) = upstream(("UnderstudyLoadDemo", {"part": "student"}), patch).files
    assert (file.part, file.path, str(file)) == ("student", None, "the student of UnderstudyLoadDemo (node 1)")
