r"""Fields on grids: the lattice :math:`\varphi^4` model and a log-Gaussian Cox process."""

import csv
import math
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from diffsmc.targets.target import Target

__all__ = ["LatticeField", "LogGaussianCox", "finnish_pines"]

LOG_2PI = math.log(2 * math.pi)


class LatticeField(Target):
    r"""The :math:`\varphi^4` model on a periodic lattice.

    .. math:: -\log\gamma(\varphi) = \sum_x \tfrac\kappa2\sum_\mu(\varphi_{x+\mu}-\varphi_x)^2
        + \tfrac{m}2\varphi_x^2 + \lambda\varphi_x^4

    With :math:`m < 0` there are two modes of mass 1/2 each, of either sign. :math:`\log Z` is known
    on a ring, by the transfer matrix, and without the quartic term, by Fourier transform.

    Arguments:
        shape: Sites in each direction.
        coupling: :math:`\kappa`.
        mass: :math:`m`, the squared mass; negative for two modes.
        quartic: :math:`\lambda`.
        scale: Standard deviation of the wide start.

    References:
        Albergo, Kanwar & Shanahan, Flow-based generative models for Markov chain Monte Carlo in
        lattice field theory, Physical Review D 2019.
    """

    def __init__(
        self,
        shape: list[int],
        coupling: float = 1.0,
        mass: float = -1.0,
        quartic: float = 0.5,
        scale: float = 2.0,
    ) -> None:
        if not shape or min(shape) < 1:
            raise ValueError(f"shape must be at least one positive length, got {shape}")
        if quartic < 0 or (quartic == 0 and mass <= 0):
            raise ValueError(f"no such density: quartic {quartic} and mass {mass}")
        self.shape, self.coupling, self.mass, self.quartic = tuple(shape), coupling, mass, quartic
        super().__init__(math.prod(shape), scale=scale, log_normalizer=self._log_normalizer())

    def _log_normalizer(self) -> float | None:
        if self.quartic == 0:
            waves = [2 - 2 * torch.cos(2 * math.pi * torch.arange(n) / n) for n in self.shape]
            energy = sum(torch.meshgrid(*waves, indexing="ij"), start=torch.zeros(()))
            spectrum = (self.mass + self.coupling * energy.double()).log().sum()
            return math.prod(self.shape) / 2 * LOG_2PI - 0.5 * float(spectrum)
        return self._transfer() if len(self.shape) == 1 else None

    def _site(self, u: float) -> float:
        return 0.5 * self.mass * u**2 + self.quartic * u**4

    def _transfer(self, num: int = 801) -> float:
        """Trace of the L-th power of the transfer matrix, by the trapezoidal rule."""
        well = max(0.0, -self.mass / (4 * self.quartic)) ** 0.5
        shift, edge = self._site(well), well + 1.0
        # beyond the edge lies e^-45 of the peak
        while self._site(edge) < shift + 45:
            edge *= 1.1
        u = torch.linspace(-edge, edge, num, dtype=torch.float64)
        potential = 0.5 * self.mass * u.square() + self.quartic * u.pow(4)
        bond = 0.5 * self.coupling * (u[:, None] - u).square()
        site = potential[:, None] / 2 + potential / 2 - shift
        matrix = torch.exp(-bond - site) * (u[1] - u[0])
        values = torch.linalg.eigvalsh(matrix).clamp(min=0)
        length = self.shape[0]
        top = values.max()
        return float(length * (top.log() - shift) + (values / top).pow(length).sum().log())

    def _field(self, x: Tensor) -> tuple[Tensor, list[int]]:
        field = x.reshape(*x.shape[:-1], *self.shape)
        return field, list(range(-len(self.shape), 0))

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self.log_prob_and_grad(x)[0]

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        field, axes = self._field(x)
        action = 0.5 * self.mass * field.square() + self.quartic * field.pow(4)
        force = self.mass * field + 4 * self.quartic * field.pow(3)
        for axis in axes:
            ahead = torch.roll(field, -1, axis) - field
            action = action + 0.5 * self.coupling * ahead.square()
            force = force + self.coupling * (torch.roll(ahead, 1, axis) - ahead)
        return -action.flatten(x.dim() - 1).sum(-1), -force.reshape(x.shape)


class LogGaussianCox(Target):
    r"""Log-Gaussian Cox process on the unit square, cut into cells.

    With counts :math:`y_i` in :math:`M^2` cells of area :math:`a = 1/M^2` and a field
    :math:`f = \mu + Lz`, :math:`LL^\top = K`,
    :math:`K_{ij} = \sigma^2 e^{-|i-j|/(\beta M)}` for cells at integer places :math:`i, j`,

    .. math:: \log\gamma(z) = \sum_i\big(y_if_i - a\,e^{f_i}\big) + \log N(z; 0, I)

    (the factorials of the counts are left out, as in the published benchmarks). The coordinates
    :math:`z` are white: the wide start is the prior.

    Arguments:
        counts: Points in each cell, ``(M, M)``.
        variance: :math:`\sigma^2`.
        length: :math:`\beta`.
        mean: :math:`\mu`; the log of the number of points less half the variance by default.

    References:
        Møller, Syversveen & Waagepetersen, Log Gaussian Cox processes, Scandinavian Journal of
        Statistics 1998.
    """

    def __init__(
        self,
        counts: list[list[float]],
        variance: float = 1.91,
        length: float = 1 / 33,
        mean: float | None = None,
    ) -> None:
        y = torch.as_tensor(counts, dtype=torch.float64)
        if y.dim() != 2 or y.shape[0] != y.shape[1]:
            raise ValueError(f"counts must be a square table, got {tuple(y.shape)}")
        if bool((y < 0).any()) or float(y.sum()) == 0:
            raise ValueError("counts must not be negative, nor all zero")
        cells = y.shape[0]
        super().__init__(cells**2, scale=1.0)
        self.mean = math.log(float(y.sum())) - 0.5 * variance if mean is None else mean
        place = torch.cartesian_prod(*[torch.arange(cells, dtype=torch.float64)] * 2)
        covariance = variance * torch.exp(-torch.cdist(place, place) / (length * cells))
        self.register_buffer("counts", y.flatten())
        self.register_buffer("factor", torch.linalg.cholesky(covariance))

    counts: Tensor
    factor: Tensor

    def field(self, z: Tensor) -> Tensor:
        """Give the log-intensity of the cells, ``(..., M * M)``, for white coordinates."""
        return self.mean + z @ self.factor.T

    @override
    def log_prob(self, x: Tensor) -> Tensor:
        return self._log_prob(x, self.field(x))

    def _log_prob(self, z: Tensor, field: Tensor) -> Tensor:
        likelihood = field @ self.counts - field.exp().sum(-1) / self.dim
        return likelihood - 0.5 * z.square().sum(-1) - 0.5 * self.dim * LOG_2PI

    @override
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        field = self.field(x)
        residual = self.counts - field.exp() / self.dim
        return self._log_prob(x, field), residual @ self.factor - x


def finnish_pines(path: str, cells: int = 40) -> LogGaussianCox:
    """Log-Gaussian Cox process of the 126 Finnish pines.

    Arguments:
        path: CSV file whose last two columns are places in the unit square, with a header.
        cells: Cells in each direction; 40 in the published benchmarks.

    References:
        Møller, Syversveen & Waagepetersen (1998), Log Gaussian Cox processes, Scandinavian Journal
        of Statistics 25.
    """
    with Path(path).open(newline="", encoding="utf-8") as handle:
        rows = list(csv.reader(handle))[1:]
    place = torch.tensor([[float(v) for v in row[-2:]] for row in rows], dtype=torch.float64)
    if bool(((place < 0) | (place > 1)).any()):
        raise ValueError(f"{path}: places must lie in the unit square")
    cell = (place * cells).long().clamp(max=cells - 1)
    counts = torch.zeros(cells, cells, dtype=torch.float64)
    counts.index_put_((cell[:, 0], cell[:, 1]), torch.ones(len(cell)).double(), accumulate=True)
    return LogGaussianCox(counts.tolist())
