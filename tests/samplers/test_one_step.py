import pytest
import torch
from understudy.samplers import DiscreteDenoiser, sample_one_step, scaled_linear

NOISE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def network(seen):
    def predict(x, t, word):
        seen.append((x, t, word))
        return x / 3

    return predict


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_one_evaluation_gives_the_model_s_x0(prediction):
    seen, calls = [], []
    model = DiscreteDenoiser(network(seen), scaled_linear(), prediction)
    sigmas = torch.stack([model.sigmas[999], torch.tensor(0.0)])
    x = NOISE * sigmas[0]
    x0 = sample_one_step(model, x, sigmas, {"word": "extra"}, calls.append)
    assert torch.equal(x0, model(x, sigmas[0], word="extra")) and len(seen) == 2
    assert [call["i"] for call in calls] == [0] and calls[0]["denoised"] is x0 and torch.equal(calls[0]["x"], x)
    if prediction == "x0":
        torch.testing.assert_close(x0, seen[0][0] / 3)


def test_full_noise_is_noise_of_unit_variance_at_any_timestep():
    """DMD2's one step: the network sees the noise itself, told timestep 399."""
    seen = []
    model = DiscreteDenoiser(network(seen), scaled_linear())
    sigmas = torch.stack([model.sigmas[399], torch.tensor(0.0)])
    x0 = sample_one_step(model, NOISE * sigmas[0], sigmas, {"word": ""}, full_noise=True)
    torch.testing.assert_close(seen[0][0], NOISE)
    assert seen[0][1].tolist() == [399, 399]
    ab = scaled_linear()[399].float()
    torch.testing.assert_close(x0, (NOISE - (1 - ab).sqrt() * NOISE / 3) / ab.sqrt())  # x0 of eps, Ho et al. 2020
    sample_one_step(model, NOISE * sigmas[0], sigmas, {"word": ""})
    assert seen[1][0].std() < 0.8


@pytest.mark.parametrize("sigmas", [[1.0], [2.0, 1.0, 0.0], [2.0, 1.0]])
def test_other_steps_are_an_error(sigmas):
    with pytest.raises(ValueError, match="one step, to 0"):
        sample_one_step(None, NOISE, torch.tensor(sigmas))
