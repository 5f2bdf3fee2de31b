import pytest
import torch

from diffsmc import Gaussian
from diffsmc.potentials.learned import VectorNetwork
from diffsmc.potentials.monte_carlo import log_ratio_and_grad
from diffsmc.training.losses import score_matching_loss


class Exact(torch.nn.Module):
    """What the network must add for a Gaussian N(m, v): linear in x, and known.

    The exact log-potential's gradient is x + (a m - x) / (a^2 v + lambda), a^2 = 1 - lambda.
    The naive part gives (1 - lambda) a (a x + (m - a x) / v). A scalar lambda <f, x> with
    f = c x / 2 + d has gradient lambda (c x + d).
    """

    dim = 1

    def __init__(self, mean, variance):
        super().__init__()
        self.mean, self.variance = mean, variance

    def forward(self, x, lam):
        lam = lam[..., None]
        a = (1 - lam).sqrt()
        marginal = a.square() * self.variance + lam
        slope = 1 - 1 / marginal - (1 - lam) * a.square() * (1 - 1 / self.variance)
        shift = a * self.mean / marginal - (1 - lam) * a * self.mean / self.variance
        return (slope * x / 2 + shift) / lam


@pytest.mark.parametrize("lam", [0.05, 0.5, 0.95])
def test_the_exact_score_is_the_regression_mean(lam, generator):
    """Residuals of the exact potential have mean zero given x: they correlate with nothing."""
    num, mean, variance = 200_000, 0.7, 0.4
    target = Gaussian([mean], [[variance]])
    noise, start = torch.randn(2, num, 1, generator=generator, dtype=torch.float64)
    x_0 = mean + variance**0.5 * start
    grad_0 = log_ratio_and_grad(target, x_0)[1]
    level = torch.full((num,), lam, dtype=torch.float64)
    losses = []
    for change in (-0.2, 0.0, 0.2):

        class Shifted(Exact):
            def forward(self, x, variance_now, change=change):
                return super().forward(x, variance_now) + change / variance_now[..., None]

        network = Shifted(mean, variance)
        losses.append(score_matching_loss(network, target, x_0, grad_0, level, noise))
    # the loss is a parabola in a constant change of the score, lowest at the exact one
    slope = (losses[2] - losses[0]) / 0.4
    assert abs(slope.mean() / (slope.std() / num**0.5)) < 4
    curvature = (losses[2] + losses[0] - 2 * losses[1]).mean()
    assert curvature.item() == pytest.approx(2 * 0.2**2, rel=1e-6)


def test_the_loss_reaches_the_weights(generator):
    network = VectorNetwork(2, 8)
    x = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    level = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    loss = score_matching_loss(network, Gaussian([0.5, 0.0]), x, x, level, x.flip(0))
    loss.mean().backward()
    assert network.layers[-1].weight.grad.abs().max() > 0
