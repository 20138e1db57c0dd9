import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """The tensors here are tiny: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Gaussian:
    """Data N(mean, std^2) in every dimension, whose denoiser, ODE and consistency function are known exactly."""

    mean, std = 0.7, 0.5

    def denoised(self, x, sigma, **_):
        """E[x0 | x] for x = x0 + sigma * noise."""
        sigma = _like(sigma, x)
        return (self.std**2 * x + sigma**2 * self.mean) / (self.std**2 + sigma**2)

    def velocity(self, x, t):
        """E[noise - x0 | x] for x = (1 - t) x0 + t noise."""
        t = _like(t, x)
        variance = t**2 + (1 - t) ** 2 * self.std**2
        return (x - (1 - t) * self.mean) * (t - (1 - t) * self.std**2) / variance - self.mean

    def ode(self, x, sigma, sigma_next=0.0):
        """Where the probability-flow ODE takes x from sigma to sigma_next."""
        ratio = (self.std**2 + sigma_next**2) / (self.std**2 + _like(sigma, x) ** 2)
        return self.mean + (x - self.mean) * ratio**0.5

    def consistency(self, x, sigma, **_):
        """The consistency function, as a sampler's model."""
        return self.ode(x, sigma)


@pytest.fixture
def gaussian():
    return Gaussian()


def _like(sigma, x):
    sigma = torch.as_tensor(sigma, dtype=x.dtype)
    return sigma.reshape(-1, *[1] * (x.ndim - 1))
