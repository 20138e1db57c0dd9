"""Settings upstream of a socket: the same for the same way of making images, different for any other."""

import json
import math

import pytest
import torch
from understudy.nodes.upstream import as_json, changes_every_run, demo_settings, settings_upstream, unknown


def graph(**changes):
    nodes = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a boat"}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 4}},
        "8": {"class_type": "PrimitiveInt", "inputs": {"value": 5}},
        "9": {"class_type": "PrimitiveInt", "inputs": {"value": 6}},
        "4": {
            "class_type": "KSampler",
            "inputs": {"model": ["1", 0], "positive": ["2", 0], "latent_image": ["3", 0], "seed": ["8", 0],
                       "steps": ["9", 0]},
        },
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "UnderstudyScoreImages",
              "inputs": {"images": ["5", 0], "prompt": "a boat", "oracle": ["7", 0]}},
        "7": {"class_type": "UnderstudyLoadOracle", "inputs": {"oracle_name": "clip.safetensors"}},
    }  # fmt: skip
    for name, inputs in changes.items():
        nodes[name[1:]]["inputs"].update(inputs)
    return nodes


def settings(prompt, node="6", inputs=("images",), **options):
    return settings_upstream(prompt, node, inputs, **options)


def test_widgets_and_classes_are_recorded_flat():
    found = settings(graph())
    assert found["CheckpointLoaderSimple.ckpt_name"] == "a.safetensors"
    assert found["images"] == "VAEDecode[0]"
    assert found["KSampler.latent_image"] == "EmptyLatentImage[0]"
    assert found["KSampler.steps"] == "PrimitiveInt[0]" and found["PrimitiveInt.value"] == 6


def test_seeds_texts_and_what_feeds_them_do_not_count():
    assert settings(graph()) == settings(graph(n8={"value": 99}, n2={"text": "a tree"}))


def test_the_batch_s_size_does_not_count():
    found = settings(graph())
    assert found == settings(graph(n3={"batch_size": 16})) == settings(graph(n3={"batch_size": ["8", 0]}))
    assert "EmptyLatentImage.width" in found


def test_only_what_feeds_the_images_counts():
    assert settings(graph()) == settings(graph(n7={"oracle_name": "other.safetensors"}, n6={"prompt": "x"}))


def test_a_widget_or_another_structure_is_another_setting():
    assert settings(graph()) != settings(graph(n9={"value": 7}))
    assert settings(graph()) != settings(graph(n4={"latent_image": ["5", 0]}))


def test_node_ids_do_not_count():
    renamed = {f"{key}0": {**node, "inputs": {name: [f"{value[0]}0", value[1]] if isinstance(value, list) else value
                                             for name, value in node["inputs"].items()}}
               for key, node in graph().items()}  # fmt: skip
    assert settings(renamed, "60") == settings(graph())


def test_a_class_met_twice_is_numbered():
    prompt = graph(n4={"negative": ["10", 0]})
    prompt["10"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "", "weight": 2}}
    found = settings(prompt)
    assert found["CLIPTextEncode.weight"] == 2 and found["CLIPTextEncode#2.clip"] == "CheckpointLoaderSimple[1]"


def test_multiline_widgets_are_texts_and_file_prefixes_do_not_count():
    def options(class_type, inputs):
        return {"words": {"type": "STRING", "multiline": True}} if class_type == "Styler" else {}

    def with_styler(**inputs):
        prompt = graph(n5={"style": ["11", 0]})
        prompt["11"] = {
            "class_type": "Styler",
            "inputs": {"strength": 1.0, "filename_prefix": "a", "words": "x", **inputs},
        }
        return settings(prompt, options_of=options)

    assert with_styler() == with_styler(words="y", filename_prefix="b")
    assert with_styler() != with_styler(strength=0.5)
    assert with_styler() != with_styler(text_encoder="t5.safetensors")
    assert with_styler(text_encoder=["7", 0]) != with_styler(text_encoder=["1", 1])


def test_an_unconnected_input_gives_nothing():
    assert settings(graph(), inputs=("mask",)) == {}


def demo_graph(more=(), **changes):
    inputs = {
        "model": ["1", 0],
        "latent_image": ["2", 0],
        "positive": ["7", 0],
        "negative": ["8", 0],
        "seed": 1,
        "preset": "demo",
        "steps": 2,
        "cfg": 1,
        "denoise": 1,
    }
    return settings(
        {
            "1": {"class_type": "UnderstudyLoadDemo", "inputs": {"part": "student"}},
            "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 4}},
            "3": {"class_type": "UnderstudyStudentSampler", "inputs": {**inputs, **changes}},
            "4": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["1", 2]}},
            "6": {"class_type": "UnderstudyScoreImages", "inputs": {"images": ["4", 0]}},
            "7": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a red star"}},
            "8": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
            **dict(more),
        }
    )


def test_the_shipped_calibration_s_settings_are_those_of_the_same_graph():
    from understudy.pipelines.adaptive_run import described
    from understudy.pipelines.demo import STUDENT

    assert demo_settings(demo_graph(steps=STUDENT.steps)) == described(STUDENT)
    assert demo_settings(demo_graph(steps=7))["steps"] == 7
    assert demo_settings(demo_graph(cfg=1.5))["cfg"] == 1.5
    assert demo_settings(demo_graph(preset="auto")) == demo_settings(demo_graph())


def test_another_graph_keeps_its_own_settings():
    scaled = {
        "4": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "5": {"class_type": "LatentUpscaleBy", "inputs": {"samples": ["3", 0], "scale_by": 1.0}},
    }
    decoded = {"4": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["9", 0]}}}
    decoded["9"] = {"class_type": "VAELoader", "inputs": {"vae_name": "other"}}
    strong = {"7": {"class_type": "ConditioningSetMask", "inputs": {"conditioning": ["8", 0], "strength": 2}}}
    for other in (
        demo_graph(denoise=0.5),
        demo_graph(preset="consistency"),
        demo_graph(scaled),
        demo_graph(decoded),
        demo_graph(strong),
        demo_graph(settings_from="loras/mine.safetensors"),
    ):
        assert demo_settings(other) is other


def test_a_calibration_from_before_a_widget_still_fits():
    assert demo_graph(settings_from="none") == demo_graph()


@pytest.mark.parametrize(
    ("node", "name", "options", "expected"),
    [
        # uploads and captures
        ("LoadImage", "image", {"type": "COMBO", "image_upload": True}, True),
        ("LoadImage", "image", {"type": "COMBO", "image_upload": False}, False),
        ("LoadVideo", "file", {"type": "COMBO", "video_upload": True}, True),
        ("Load3D", "model_file", {"type": "COMBO", "file_upload": True}, True),
        ("Painter", "mask", {"type": "STRING", "image_upload": True}, True),
        ("WebcamCapture", "image", {"type": "WEBCAM"}, True),
        ("LoadLatent", "latent", {"type": "COMBO"}, True),
        ("LoraLoader", "lora_name", {"type": "COMBO"}, False),
        # seeds
        ("Any", "noise", {"type": "INT", "control_after_generate": True}, True),
        ("Any", "model.seed", {"type": "INT"}, True),
        ("Any", "model.noise_seed_2", {}, True),
        ("LatentBatchSeedBehavior", "seed_behavior", {"type": "COMBO"}, False),
        ("Any", "fixed_seed", {"type": "BOOLEAN"}, False),
        ("Any", "ckpt", {"type": "COMBO", "control_after_generate": True}, False),
        # texts
        ("CLIPTextEncodeFlux", "t5xxl", {"type": "STRING", "multiline": True}, True),
        ("Any", "prompts.prompt_12", {"type": "STRING"}, True),
        ("Any", "model.text", {}, True),
        ("CLIPTextEncodeLumina2", "system_prompt", {"type": "COMBO"}, False),
        ("Any", "text_scale", {"type": "FLOAT"}, False),
        ("Any", "text_encoder1", {}, False),
        ("GLSLShader", "fragment_shader", {"type": "STRING", "multiline": True}, False),
        ("ComfyMathExpression", "expression", {"type": "STRING", "multiline": True}, False),
        # places and prefixes
        ("EmptyLatentImage", "batch_size", {"type": "INT"}, True),
        ("ImageFromBatch", "batch_index", {"type": "INT"}, True),
        ("ImageFromBatch", "length", {"type": "INT"}, True),
        ("WanImageToVideo", "length", {"type": "INT"}, False),
        ("RepeatLatentBatch", "amount", {"type": "INT"}, True),
        ("ImageBlur", "amount", {"type": "INT"}, False),
        ("SaveImage", "nested.filename_prefix", {"type": "STRING"}, True),
        # what is no more than a number or a file
        ("KSampler", "steps", {"type": "INT"}, False),
        ("ControlNetApplyAdvanced", "strength", {"type": "FLOAT"}, False),
        ("ManualSigmas", "sigmas", {"type": "STRING", "multiline": False}, False),
    ],
)
def test_what_changes_every_run_is_told_by_its_kind(node, name, options, expected):
    assert changes_every_run(node, name, options) == expected


def test_a_list_of_numbers_is_no_link_to_a_node_of_that_number():
    assert settings(graph(n5={"size": [1, 2]}))["VAEDecode.size"] == [1, 2]


class Model:
    """Something of which no file says what it is."""


@pytest.mark.parametrize("carried", [torch.rand(1, 4, 4, 3), {"samples": torch.rand(1, 4, 8, 8)}, [[Model(), {}]]])
def test_what_a_loop_carries_is_told_as_not_known(carried):
    found = settings(graph(n5={"carried": carried, "steps": 4}))
    assert json.loads(json.dumps(found)) == found and found["VAEDecode.steps"] == 4
    assert unknown(found) and unknown(found)[0].startswith("VAEDecode.carried")
    assert unknown(settings(graph(n6={"images": carried})))[0].startswith("images")


def test_all_else_is_told_as_json_has_it():
    assert as_json((1, True, None, "x", 0.5, math.inf, {"a": (2,)})) == [1, True, None, "x", 0.5, "inf", {"a": [2]}]
    assert unknown(settings(graph(n6={"images": None}))) == [] == unknown(settings(graph()))
