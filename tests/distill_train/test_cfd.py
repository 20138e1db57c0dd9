"""Classifier-based feature distillation on a tiny network."""

from argparse import Namespace
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from understudy.distill_train.config import RecipeError
from understudy.distill_train.methods.cfd import concentration, entropy, feature_kl
from understudy.distill_train.methods.classifier import Classifier, load_classifier
from understudy.distill_train.methods.tiny_decoder import load_tiny_decoder
from understudy.distill_train.run.loop import set_up
from understudy.distill_train.teachers import load_teacher
from understudy.files import CheckpointError

from .tiny import CPU, changed, lowers_its_loss, method


class Eyes(nn.Module):
    """A classifier with timm's two methods."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)

    def forward_features(self, x):
        return self.conv(x)

    def forward_head(self, x, pre_logits=False):
        x = x.mean((2, 3))
        return x if pre_logits else self.head(x)


def eyes():
    return Classifier(Eyes(), torch.full((3,), 0.5), torch.full((3,), 0.25), None)


def test_the_divergence_is_zero_for_equal_features_at_temperature_one():
    h = torch.randn(4, 9)
    assert feature_kl(h, h, 1.0).abs() < 1e-6


def test_with_a_lower_temperature_it_is_the_value_worked_out_by_hand():
    # softmax([0, ln 4] ) = (0.2, 0.8); sharpened at 1/2: softmax([0, ln 16]) = (1/17, 16/17).
    h = torch.tensor([[0.0, 4.0]]).log().nan_to_num(neginf=0.0)
    by_hand = 1 / 17 * torch.tensor(1 / 17 / 0.2).log() + 16 / 17 * torch.tensor(16 / 17 / 0.8).log()
    torch.testing.assert_close(feature_kl(h, h, 0.5), by_hand)
    # The mean over the batch, not over its values.
    torch.testing.assert_close(feature_kl(h.repeat(3, 1), h.repeat(3, 1), 0.5), by_hand)


def test_entropy_and_concentration_are_those_of_the_distributions():
    p = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    torch.testing.assert_close(entropy(p.log()), -(p * p.log()).sum(1).mean())
    mean = p.mean(0)
    torch.testing.assert_close(concentration(p.log()), (mean * mean.log()).sum())


def test_gradients_stay_finite_at_extreme_logits():
    for scale in (1e4, 1e30):
        h = (torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]) * scale).requires_grad_()
        loss = feature_kl(h, h.detach().flip(0), 0.9) + entropy(h) + concentration(h)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(h.grad).all()


@pytest.mark.parametrize("settings", [{}, {"beta": 0.003, "anchor": 0.1}])
def test_one_step_lowers_the_loss(settings):
    cfd = method("cfd", eyes=eyes(), teacher_steps=4, **settings)
    changed(cfd.network)
    assert lowers_its_loss(cfd, rate=1e-4)


def test_a_student_equal_to_its_target_has_no_loss_at_temperature_one_and_an_anchor_adds_pd():
    same = {"teacher_steps": 4, "substeps": 1, "temperature": 1.0}
    cfd = method("cfd", eyes=eyes(), **same)
    assert cfd.loss(cfd.network, 0).abs() < 1e-6
    changed(cfd.network)
    anchored = method("cfd", eyes=eyes(), anchor=0.5, **same)
    pd = method("pd", teacher_steps=4, substeps=1)
    expected = cfd.loss(cfd.network, 0) + 0.5 * pd.loss(cfd.network, 0)
    torch.testing.assert_close(anchored.loss(cfd.network, 0), expected)


def test_entropy_and_diversity_share_beta_by_gamma():
    kl = method("cfd", eyes=eyes(), teacher_steps=4)
    cfd = method("cfd", eyes=eyes(), teacher_steps=4, beta=0.5, gamma=0.75)
    prediction, target = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = cfd.classifier(cfd.decode(prediction))[1]
    terms = 0.75 * entropy(logits) + 0.25 * concentration(logits)
    torch.testing.assert_close(
        cfd.distance(prediction, target, None), kl.distance(prediction, target, None) + 0.5 * terms
    )


def test_pictures_out_of_range_are_compared_as_they_are_so_the_student_learns_to_come_back():
    cfd = method("cfd", eyes=eyes(), teacher_steps=4)
    prediction = torch.full((2, 4, 8, 8), 3.0, requires_grad=True)
    cfd.distance(prediction, torch.full((2, 4, 8, 8), 0.5), None).backward()
    assert prediction.grad[:, :3].abs().amax() > 0


def test_terms_of_a_whole_batch_are_refused_where_it_is_seen_in_parts(tmp_path):
    def start(accumulate, beta):
        made = method("cfd", {"accumulate": accumulate}, eyes=eyes(), teacher_steps=4, beta=beta)
        return set_up(made.recipe, tmp_path / "run", device="cpu", make=lambda *_: made)

    with pytest.raises(RecipeError, match=r"settings.beta is 0.003, .*one process and loop.accumulate = 1"):
        start(2, 0.003)
    assert not (tmp_path / "run").exists()
    start(2, 0.0)


def test_pictures_are_normalised_as_the_classifier_was_trained_and_resized_not_clipped():
    seen = []

    class Watching(Eyes):
        def forward_features(self, x):
            seen.append(x)
            return super().forward_features(x)

    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, 1.0])
    Classifier(Watching(), mean, std, 16)(torch.full((1, 3, 8, 8), 1.5))
    assert seen[0].shape == (1, 3, 16, 16)
    torch.testing.assert_close(seen[0][0, :, 0, 0], (1.5 - mean) / std)


@pytest.mark.parametrize("decoder", ["demo", "taesd"])
def test_pixels_are_whole_precision_under_a_recipe_s_own(decoder, tmp_path):
    from diffusers import AutoencoderTiny

    seen = []

    class Watching(Eyes):
        def forward_features(self, x):
            seen.append(x.dtype)
            return super().forward_features(x)

    eyes = Classifier(Watching(), torch.full((3,), 0.5), torch.full((3,), 0.25), 24)
    if decoder == "demo":
        decode, channels = partial(load_teacher("demo").decode, clamp=False), 8
    else:
        torch.manual_seed(0)
        AutoencoderTiny(latent_channels=4).save_pretrained(tmp_path)
        file = tmp_path / "diffusion_pytorch_model.safetensors"
        decode, channels = method("cfd", eyes=eyes, teacher_steps=4, decoder=str(file)).decode, 4
    latents = torch.randn(1, channels, 8, 8, requires_grad=True)
    expected = eyes(decode(latents))
    with torch.autocast("cpu", torch.bfloat16):
        found = eyes(decode(latents))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
    assert set(seen) == {torch.float32}


def test_a_timm_classifier_comes_from_a_file_by_name_or_by_the_order_of_its_tensors(tmp_path):
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", pretrained=False, num_classes=7).eval()
    state = network.state_dict()
    save_file(state, tmp_path / "own.safetensors")
    torch.save({"state_dict": {f"other.{i}": v for i, v in enumerate(state.values())}}, tmp_path / "other.pth")
    x = torch.rand(2, 3, 32, 32)
    for file in ("own.safetensors", "other.pth"):
        classifier = load_classifier("test_efficientnet", tmp_path / file, CPU, size=0, mean=(0.0,) * 3, std=(1.0,) * 3)
        features, logits = classifier(x)
        torch.testing.assert_close(logits, network(x))
        assert features.shape == (2, network.num_features) and logits.shape == (2, 7)
    # As timm's own training leaves it.
    torch.save({"state_dict": state, "epoch": 3, "args": Namespace(model="test_efficientnet")}, tmp_path / "timm.pth")
    torch.testing.assert_close(
        load_classifier("test_efficientnet", tmp_path / "timm.pth", CPU, size=0).network(x), network(x)
    )
    known = load_classifier("test_efficientnet", tmp_path / "own.safetensors", CPU)
    data = timm.data.resolve_model_data_config(network)
    assert known.size == data["input_size"][-1] and known.mean.flatten().tolist() == pytest.approx(data["mean"])


def test_a_timm_classifier_comes_from_a_folder(tmp_path):
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", pretrained=False, num_classes=7).eval()
    network.pretrained_cfg |= {"mean": (0.1, 0.2, 0.3), "input_size": (3, 40, 40)}
    timm.models.save_for_hf(network, tmp_path / "folder", safe_serialization=True)
    classifier = load_classifier(str(tmp_path / "folder"), None, CPU)
    assert classifier.size == 40 and classifier.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    x = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(classifier.network(x), network(x))


def test_a_classifier_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="'resnet1' ; expected|'resnet1'; expected a model of timm"):
        load_classifier("resnet1", None, CPU)
    with pytest.raises(RecipeError, match="expected the file with the weights of resnet18"):
        load_classifier("resnet18", tmp_path / "missing.safetensors", CPU)
    save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="does not hold test_efficientnet"):
        load_classifier("test_efficientnet", tmp_path / "a.safetensors", CPU)
    for held in ({"net": {"a": torch.zeros(3)}, "acc": 0.9}, {"a": torch.ones(())}):
        torch.save(held, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match="a.pth (holds no tensors|does not hold)"):
            load_classifier("test_efficientnet", tmp_path / "a.pth", CPU)


def test_a_published_tiny_decoder_is_diffusers_own(tmp_path):
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    vae = AutoencoderTiny(latent_channels=4).eval()
    ours = {key: value.clone() for key, value in vae.decoder.state_dict().items()}
    published = {f"{int(k.split('.')[1]) + 1}.{k.split('.', 2)[2]}": v for k, v in ours.items()}
    save_file(published, tmp_path / "taesd_decoder.safetensors")
    vae.save_pretrained(tmp_path / "folder")
    latents = torch.randn(1, 4, 4, 4)
    for file in ("taesd_decoder.safetensors", "folder/diffusion_pytorch_model.safetensors"):
        decoder = load_tiny_decoder(tmp_path / file, 4)
        torch.testing.assert_close(decoder(latents), vae.decode(latents).sample)
    save_file({"what.weight": torch.zeros(1)}, tmp_path / "what.safetensors")
    with pytest.raises(CheckpointError, match="no TAESD decoder"):
        load_tiny_decoder(tmp_path / "what.safetensors", 4)


def test_the_loss_looks_through_the_tiny_decoder(tmp_path):
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    AutoencoderTiny(latent_channels=4).save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    through = method("cfd", eyes=eyes(), teacher_steps=4, decoder=str(file))
    plain = method("cfd", eyes=eyes(), teacher_steps=4)
    assert through.decode(torch.randn(1, 4, 8, 8)).shape == (1, 3, 64, 64)
    assert through.loss(through.network, 0) != plain.loss(plain.network, 0)
