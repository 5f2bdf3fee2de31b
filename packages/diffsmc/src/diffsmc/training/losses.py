r"""Score matching for learned potentials.

For :math:`x_0\sim\pi`, :math:`x = \sqrt{1-\lambda}\,x_0 + \sqrt\lambda\,\epsilon`, the
gradient of the exact log-potential is the conditional mean of each of

.. math::
    \sqrt{1-\lambda}\,\nabla\log g_0(x_0) \qquad\text{and}\qquad x - \epsilon/\sqrt\lambda

(the novel and the denoising score matching targets). The first has a small variance
near the data, the second near the noise; so the regression target is their mixture with
weights :math:`1-\lambda` and :math:`\lambda`, whose conditional mean is the same.

References:
    Phillips et al., Particle denoising diffusion sampler, ICML 2024, section 3.
    Vincent, A connection between score matching and denoising autoencoders, 2011.
"""

import torch
from torch import Tensor, nn

from diffsmc.potentials.learned import network_potential
from diffsmc.potentials.monte_carlo import log_ratio_and_grad
from diffsmc.targets.target import Target

__all__ = ["score_matching_loss"]


def score_matching_loss(
    network: nn.Module, target: Target, x_0: Tensor, grad_0: Tensor, variance: Tensor, noise: Tensor
) -> Tensor:
    r"""Give the squared error of each sample's log-potential gradient, by dimension.

    Arguments:
        network: Network of the learned potential.
        target: Whitened target.
        x_0: Samples of the target, ``(B, D)``.
        grad_0: :math:`\nabla\log g_0(x_0)`, ``(B, D)``.
        variance: :math:`\lambda`, in (0, 1), ``(B,)``.
        noise: :math:`\epsilon`, ``(B, D)``.

    Returns:
        ``(B,)``.
    """
    lam = variance[:, None]
    shrink = (1 - lam).sqrt()
    x = shrink * x_0 + lam.sqrt() * noise
    wanted = (1 - lam) * shrink * grad_0 + lam * (x - noise / lam.sqrt())
    naive = (1 - lam) * shrink * log_ratio_and_grad(target, shrink * x)[1]
    # copies made outside inference mode, under which evaluation runs
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        learned = network_potential(network, leaf, variance.clone())
        (slope,) = torch.autograd.grad(learned.sum(), leaf, create_graph=torch.is_grad_enabled())
    return (naive + slope - wanted).square().mean(-1)
