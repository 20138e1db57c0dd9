"""The teacher guided by its own attention, in each method and prediction, on the tiny teacher."""

import copy
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from understudy.demo_family import family
from understudy.distill_train.config import AttentionSettings, Recipe, RecipeError
from understudy.distill_train.guidance import AttentionGuidance, ClassifierFree
from understudy.distill_train.guidance.maps import ModuleMap
from understudy.distill_train.methods import make_method
from understudy.distill_train.process import Discrete, Flow
from understudy.distill_train.run.loop import train
from understudy.pipelines.stable_diffusion import zero_terminal_snr
from understudy.samplers.attention_guidance import attention_mask, blur, scaled_blur
from understudy.samplers.denoisers import scaled_linear

from ..tiny import CPU, TinySource, TinyTeacher, changed, lowers_its_loss, recipe

PREDICTIONS = {
    "eps": lambda: Discrete(scaled_linear()),
    "v": lambda: Discrete(scaled_linear(), "v_prediction"),
    "x0": lambda: Discrete(scaled_linear(), "sample"),
    "flow": lambda: Flow(shift=3.0),
}
METHODS = {"lcm": {"intervals": 10}, "cd": {"intervals": 10, "cfg": 3.0}, "pd": {"teacher_steps": 4, "cfg": 3.0}}


def teacher(prediction="eps"):
    made = TinyTeacher(process=PREDICTIONS[prediction]())
    for projection in ("to_q", "to_k"):  # so that attention is far from even
        getattr(made.unet.get_submodule(made.attention_block), projection).weight.mul_(8)
    return made


def method(name, weight=0.3, prediction="eps", student=None, **settings):
    """weight: of attention guidance; None for none."""
    taught = teacher(prediction)
    asked = recipe(name, None, student, **METHODS[name] | settings)
    attention = None if weight is None else AttentionSettings(weight=weight)
    given = {"teacher": taught, "source": TinySource(taught)}
    return make_method(asked.model_copy(update={"attention": attention}), CPU, **given)


def at(process, place):
    return process.times(torch.tensor([place, place]))


def passes(made, call):
    """The (z, t, context) of each pass of ``call``."""
    seen, own = [], made.teacher.call

    def watching(unet, noisy, t, embeddings):
        seen.append((noisy, t, embeddings["context"]))
        return own(unet, noisy, t, embeddings)

    made.teacher.call = watching
    with torch.no_grad():
        result = call()
    made.teacher.call = own
    return seen, result


def map_of(attention, hidden):
    """The whole self-attention map [B, heads, N, N], as diffusers' older processor has it."""
    q, k = (attention.head_to_batch_dim(project(hidden)) for project in (attention.to_q, attention.to_k))
    return attention.get_attention_scores(q, k).unflatten(0, (len(hidden), -1))


@pytest.mark.parametrize("cfg", [1.0, 3.0, torch.tensor([2.0, 5.0])])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_it_is_the_papers_written_out_by_hand(prediction, cfg):
    """Branch by branch, from the whole map: eps_attn + 1.3 (eps - eps_attn), the picture noised with its own eps."""
    guided = method("lcm", prediction=prediction)
    process, network, words = guided.process, guided.teacher.unet, guided.teacher.embed(["a", "b"])
    z, t = torch.randn(2, 4, 8, 8), at(process, 0.6)
    level, free = process.level(t), guided.teacher.unconditional(2)
    attention, hidden = network.get_submodule(guided.teacher.attention_block), []
    weak_only = isinstance(cfg, float) and cfg == 1
    with torch.no_grad():
        x0, eps = guided.teach(z, t, words, cfg)

        cond_x0, cond_eps = guided.denoise(network, z, t, words)
        hook = attention.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
        told = words if weak_only else free
        weak_x0, weak_eps = guided.denoise(network, z, t, told)
        hook.remove()
        sums = map_of(attention, hidden[0]).mean(1).sum(1)
        mask = attention_mask(sums, 8, 8)
        assert 0.1 < mask.float().mean() < 0.9
        x_bar = torch.where(mask, blur(weak_x0, *scaled_blur(8, 8)), weak_x0)
        _, eps_attn = guided.denoise(network, level.alpha * x_bar + level.sigma * weak_eps, t, told)
        scale = torch.as_tensor(cfg).reshape(-1, 1, 1, 1)
        plain_eps = weak_eps + scale * (cond_eps - weak_eps)
        wanted = plain_eps + 0.3 * (weak_eps - eps_attn)
        if weak_only:
            torch.testing.assert_close(wanted, eps_attn + 1.3 * (cond_eps - eps_attn), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(eps, wanted, rtol=1e-3, atol=2e-4)
    torch.testing.assert_close(x0, (z - level.sigma * wanted) / level.alpha, rtol=1e-3, atol=2e-3)
    assert not torch.allclose(eps, plain_eps, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_without_weight_it_is_the_plain_teacher_to_the_last_bit(prediction, cfg):
    words, z = TinyTeacher().embed(["a", "b"]), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        plain, none, some = (
            (it := method("lcm", weight, prediction)).teach(z, at(it.process, 0.6), words, cfg)
            for weight in (None, 0.0, 0.3)
        )
    for own, left_out, guided in zip(plain, none, some, strict=True):
        assert torch.equal(own, left_out) and not torch.allclose(own, guided, atol=1e-3)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("process", ["zero-snr", "flow"])
def test_it_is_finite_where_there_is_no_signal(process, cfg):
    zero_snr = Discrete(zero_terminal_snr(scaled_linear()), "v_prediction")
    guided = method("lcm", prediction="flow")
    guided.process = guided.process if process == "flow" else zero_snr
    z, t, words = torch.randn(2, 4, 8, 8), at(guided.process, 1.0), guided.teacher.embed(["a", "b"])
    assert guided.process.level(t).alpha.max() < 1e-3
    with torch.no_grad():
        x0, eps = guided.teach(z, t, words, cfg)
        guided.attention = None
        plain, noise = guided.teach(z, t, words, cfg)
    assert x0.isfinite().all() and not torch.allclose(x0, plain, atol=1e-3)
    torch.testing.assert_close(eps, noise, rtol=0, atol=1e-4)  # all of z is noise


@pytest.mark.parametrize(("cfg", "rows"), [(1.0, [2, 2]), (3.0, [4, 2])])
def test_guided_passes_and_what_they_are_told(cfg, rows):
    """Both branches in one pass, the unconditional one second, and it alone once more."""
    guided = method("lcm")
    words, z = guided.teacher.embed(["a", "b"]), torch.randn(2, 4, 8, 8)
    seen, _ = passes(guided, lambda: guided.teach(z, at(guided.process, 0.6), words, cfg))
    assert [len(noisy) for noisy, _, _ in seen] == rows
    branch = words["context"] if cfg == 1 else guided.teacher.unconditional(2)["context"]
    assert torch.equal(seen[0][0][-2:], z) and torch.equal(seen[0][2][-2:], branch)
    assert torch.equal(seen[0][2][:2], words["context"])
    assert torch.equal(seen[1][2], branch) and not torch.equal(seen[1][0], z)
    guided.attention = None
    assert len(passes(guided, lambda: guided.teach(z, at(guided.process, 0.6), words, cfg))[0]) == 1


def test_the_map_is_the_unconditional_branch_s():
    """Where the guided picture is blurred follows from the empty text, whatever the prompt is."""
    guided = method("lcm")
    looked_at = ModuleMap(guided.teacher.unet, guided.teacher.attention_block)
    z, t = torch.randn(2, 4, 8, 8), at(guided.process, 0.6)
    free, words = guided.teacher.unconditional(2), guided.teacher.embed(["a", "b"])
    branches = ClassifierFree(guided.teacher.unconditional, guided.teacher.join).branches
    run = partial(guided._output, guided.teacher.unet)
    with torch.no_grad(), looked_at.recording() as both:
        branches(run, z, t, words, 3.0)
        own = both.take()
        run(z, t, free)
        torch.testing.assert_close(own[2:], both.take(), rtol=0, atol=1e-4)
        run(z, t, words)
        torch.testing.assert_close(own[:2], both.take(), rtol=0, atol=1e-4)
    assert not torch.allclose(own[:2], own[2:], atol=1e-3)


@pytest.mark.parametrize("train", ["full", "lora"])
def test_the_attention_s_own_processor_is_back_and_students_do_not_meet_it(train):
    guided = method("lcm", student={"train": train, "rank": 2})
    changed(guided.network)
    attention = guided.teacher.unet.get_submodule(guided.attention.map.block)
    before, z = attention.processor, torch.randn(2, 4, 8, 8)
    words, t = guided.teacher.embed(["a", "b"]), at(guided.process, 0.6)
    met, own = [], guided.teacher.call

    def watching(unet, *rest):
        met.append((torch.is_grad_enabled(), attention.processor is not before))
        return own(unet, *rest)

    guided.teacher.call = watching
    guided.loss(guided.network, 0).backward()
    assert attention.processor is before
    # The teacher's two passes, the map being taken in the first, the target's, and the student's own with gradients.
    assert met == [(False, True), (False, False), (False, False), (True, False)]
    guided.teacher.call = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        guided.teach(z, t, words, 3.0)
    assert attention.processor is before


@pytest.mark.parametrize("train", ["full", "lora"])
def test_a_changed_student_leaves_its_teacher_as_it_was(train):
    """Also where both are one network, and the adapter lies on the attention's projections."""
    guided = method("lcm", student={"train": train, "rank": 2})
    z, t, words = torch.randn(2, 4, 8, 8), at(guided.process, 0.6), guided.teacher.embed(["a", "b"])
    with torch.no_grad():
        before = guided.teach(z, t, words, 3.0)[0]
        changed(guided.network)
        assert torch.equal(guided.teach(z, t, words, 3.0)[0], before)


@pytest.mark.parametrize("prediction", ["eps", "v", "flow"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_from_the_guided_teacher(name, prediction):
    plain, none, guided = (method(name, weight, prediction) for weight in (None, 0.0, 0.3))
    losses = [made.loss(made.network, 0) for made in (plain, none, guided)]
    assert torch.equal(losses[0], losses[1]) and not torch.allclose(losses[0], losses[2], rtol=1e-4)
    assert lowers_its_loss(guided, 1e-5)
    assert guided.metadata()["attention_guidance"] == "0.3" and "attention_guidance" not in plain.metadata()


def test_only_the_first_teacher_of_progressive_distillation_is_guided():
    """Its students have learned it, as they have the scale of classifier-free guidance."""
    guided = method("pd")
    seen, _ = passes(guided, lambda: guided.loss(guided.network, 0))
    assert [len(noisy) for noisy, _, _ in seen] == [8, 4, 8, 4, 4]
    guided.begin(1)
    seen, _ = passes(guided, lambda: guided.loss(guided.network, 0))
    assert [len(noisy) for noisy, _, _ in seen] == [4, 4, 4]


def test_the_block_is_chosen_by_name():
    taught = teacher()
    names = [name for name, _ in taught.unet.named_modules() if name.endswith("attn1")]
    assert taught.attention_block in names and len(names) == 4

    def guided(block):
        asked = AttentionSettings(block=block)
        return AttentionGuidance(ClassifierFree(taught.unconditional, taught.join), taught, asked)

    assert guided(None).map.block == taught.attention_block and guided(names[0]).map.block == names[0]
    made, z, words = method("lcm"), torch.randn(2, 4, 8, 8), taught.embed(["a", "b"])
    with torch.no_grad():
        middle = made.teach(z, at(made.process, 0.6), words, 3.0)[0]
        made.attention.map.block = names[0]
        assert not torch.allclose(made.teach(z, at(made.process, 0.6), words, 3.0)[0], middle, atol=1e-3)
    for wrong in ("mid_block", names[0].replace("attn1", "attn2")):
        with pytest.raises(RecipeError, match=rf"tiny.safetensors has no self-attention '{wrong}'; expected one of"):
            guided(wrong)
    taught.unet = torch.nn.Linear(2, 2)
    with pytest.raises(RecipeError, match="it needs attention, so leave it out"):
        guided(None)
    with pytest.raises(ValueError, match="expected an odd number"):
        AttentionSettings(kernel=8)


def test_every_shipped_architecture_has_its_block(sd15, sdxl):
    from understudy.distill_train.guidance.maps import self_attentions
    from understudy.distill_train.teachers import load_teacher

    for path in ("demo", sd15[1], sdxl[1]):
        loaded = load_teacher(path)
        assert loaded.attention_block in self_attentions(loaded.unet)


@pytest.fixture(scope="module")
def small_teacher(tmp_path_factory):
    import json

    torch.manual_seed(0)
    config = family.UNET_CONFIG | {"block_out_channels": [8, 8], "norm_num_groups": 4}
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    network = family.SceneNetwork(config)
    family.save(network, path, {"understudy": "demo-teacher", "config": json.dumps(config)})
    return path


def test_a_resumed_run_is_the_unbroken_one_to_the_last_bit(small_teacher, tmp_path):
    loop = {"steps": 4, "batch_size": 2, "lr": 1e-3, "log_every": 1, "sample_every": 4, "checkpoint_every": 2}
    asked = Recipe(
        method="cd",
        seed=1,
        export="student.safetensors",
        loop=loop | {"tracker": "none"},
        teacher={"path": small_teacher},
        attention={"weight": 0.3},
        student={"train": "full", "dtype": "fp32"},
        data={"kind": "scenes", "pictures": 4},
        samples={"teacher_steps": 1},
        settings={"cfg": 3.0},
    )
    unbroken = copy.deepcopy(load_file(train(asked, tmp_path / "run", device="cpu")))
    (tmp_path / "run" / "checkpoints" / "step-00000004.pt").unlink()
    (tmp_path / "run" / "exports" / "student.safetensors").unlink()
    resumed = load_file(train(asked, tmp_path / "run", resume=True, device="cpu"))
    assert all(torch.equal(resumed[key], value) for key, value in unbroken.items())
    with pytest.raises(RecipeError, match=r"these differ: attention.weight \(0.3, now 0.2\)"):
        again = asked.model_copy(update={"attention": AttentionSettings(weight=0.2)})
        train(again, tmp_path / "run", resume=True, device="cpu")
    plain = load_file(train(asked.model_copy(update={"attention": None}), tmp_path / "plain", device="cpu"))
    assert any(not torch.equal(plain[key], value) for key, value in unbroken.items())
