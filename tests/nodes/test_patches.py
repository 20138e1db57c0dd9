"""Telling patches which images are sampled, and which patches may not listen; within the host see tests/host."""

import pytest
import torch
from understudy.nodes.patches import params_of_rows, warning


def test_rows_are_told_and_what_stands_there_already_is_composed():
    own = {"sub_idxs": [1, 3], "full_length": 4, "context_length": 2}
    assert params_of_rows(None, [1, 3], 4) == params_of_rows({}, [1, 3], 4) == own
    before = {"sub_idxs": [7, 2, 5], "full_length": 9, "context_length": 3, "view": "x"}
    assert params_of_rows(before, [2, 0], 3) == {"sub_idxs": [5, 7], "full_length": 9, "context_length": 2, "view": "x"}
    assert before["sub_idxs"] == [7, 2, 5]
    assert params_of_rows({"sub_idxs": None, "full_length": 9}, [0], 4)["full_length"] == 4
    with pytest.raises(ValueError, match="name 3 images, but 4 are sampled"):
        params_of_rows(before, [0], 4)


class Patch:
    def __init__(self, **held):
        vars(self).update(held)

    def __call__(self):
        return None

    def method(self):
        return None


class Model:
    def __init__(self, options=None, wrappers=None, objects=None):
        self.model_options, self.wrappers, self.object_patches = options or {}, wrappers or {}, objects or {}


def closing(held):
    def patch():
        return held

    return patch


@pytest.mark.parametrize(
    "patch", [Patch(hints=torch.zeros(4, 3)), Patch(hints=torch.zeros(4, 3)).method, closing(torch.zeros(4))]
)
@pytest.mark.parametrize(
    "place",
    [
        lambda patch: Model({"transformer_options": {"patches": {"attn1_patch": [patch]}}}),
        lambda patch: Model({"transformer_options": {"patches_replace": {"attn2": {("input", 1, 0): patch}}}}),
        lambda patch: Model({"transformer_options": {"wrappers": {"diffusion_model": {None: [patch]}}}}),
        lambda patch: Model({"model_function_wrapper": patch}),
        lambda patch: Model(wrappers={"apply_model": {"key": [patch]}}),
        lambda patch: Model(objects={"diffusion_model.block": patch}),
    ],
)
def test_patches_with_an_entry_for_each_image_are_named_wherever_they_are(place, patch):
    model = place(patch)
    assert any(name in warning(model, 4) for name in ("Patch", "patch"))
    assert warning(model, 3) is None


def test_other_patches_are_not_named():
    patches = [Patch(scale=torch.tensor(4.0)), Patch(hints=[torch.zeros(4)], name="four"), closing(4), torch.zeros(4)]
    assert warning(Model({"transformer_options": {"patches": {"attn1_patch": patches}}}), 4) is None
