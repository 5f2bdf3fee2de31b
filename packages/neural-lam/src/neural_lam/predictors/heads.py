r"""What a network's output means: an increment, or the source of an elliptic equation.

An *increment* is added to the first guess in units of what that usually leaves. An *elliptic* head
takes the output for a source :math:`f` and solves, in the interior and for each mode :math:`m`
of the variables,

.. math:: (\nabla^2 - \kappa_m)\, u_m = f_m,

with :math:`u` given on the frame, as what the guess leaves there: the next state is then
continuous across the frame's inner edge, where a jump would grow from step to step. Large scales,
which a local network sees in parts only, follow from small ones, as the streamfunction does from
the potential vorticity. In modes :math:`M` of two layers, sum and difference, :math:`\kappa` is 0
and the squared inverse deformation radius in grid steps.

The five-point Laplacian of a rectangle is diagonal in sines: with
:math:`S_{jk} = \sqrt{2/(n+1)} \sin(\pi j k/(n+1))` along each axis, its eigenvalues are
:math:`-4 \sin^2(\pi k / (2 (n+1)))` (Buneman 1969; Swarztrauber 1977).
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neural_lam.predictors.derived import laplacian
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line

__all__ = [
    "Elliptic",
    "EllipticHead",
    "Head",
    "HeadModule",
    "HeadParts",
    "Increment",
    "IncrementHead",
]


class HeadParts(NamedTuple):
    """What a head is built from, in standardised units.

    Arguments:
        shape: Rows and columns of the grid, if it has them.
        width: Of the frame around the interior; nothing if that is no frame.
        std: Standard deviation of the state in physical units, ``(V,)``.
        left_std: Of what the first guess leaves, ``(V,)``.
        laplacian_std: Of the Laplacian of a one-step change, ``(V,)``.
    """

    shape: tuple[int, int] | None
    width: int | None
    std: Tensor
    left_std: Tensor
    laplacian_std: Tensor | None


class HeadModule(nn.Module, ABC):
    """From a network's output to the next state."""

    @abstractmethod
    def forward(self, output: Tensor, expected: Tensor, boundary: Tensor) -> Tensor:
        """The next state from what is expected, ``(G, B, V)`` each."""


class Head(ABC):
    """How a network's output is read, for a configuration."""

    __str__ = in_a_line

    @abstractmethod
    def build(self, parts: HeadParts) -> HeadModule:
        """The head of a domain.

        Raises:
            InputError: The domain doesn't fit.
        """


class IncrementHead(HeadModule):
    """Adds the output in units of what the guess leaves.

    Arguments:
        scale: Of the output, ``(V,)``.
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, output: Tensor, expected: Tensor, boundary: Tensor) -> Tensor:
        """The next state, ``(G, B, V)``."""
        return expected + output * self.scale


class Increment(Head):
    """The output is the correction of the first guess."""

    def build(self, parts: HeadParts) -> IncrementHead:
        """The head of a domain."""
        return IncrementHead(parts.left_std)

    def __repr__(self) -> str:
        return "Increment()"


def _sines(size: int) -> tuple[Tensor, Tensor]:
    """The orthogonal sine transform of a side, ``(n, n)``, and the Laplacian's eigenvalues."""
    k = torch.arange(1, size + 1, dtype=torch.float64)
    sines = torch.sin(math.pi * k[:, None] * k / (size + 1)) * math.sqrt(2 / (size + 1))
    return sines, -4 * torch.sin(math.pi * k / (2 * (size + 1))) ** 2


class EllipticHead(HeadModule):
    r"""Solves for the correction, mode by mode.

    Arguments:
        modes: Rows that combine variables in physical units, ``(V, V)``.
        screening: :math:`\kappa` of each mode, in inverse squared grid steps, ``(V,)``.
        scale: Usual size of each mode's source, ``(V,)``.
        std: Standard deviation of the state in physical units, ``(V,)``.
        shape: Rows and columns of the grid.
        width: Of the frame.

    References:
        Buzbee et al. (1970), On direct methods for solving Poisson's equations,
        doi.org/10.1137/0707049.
    """

    to_modes: Tensor
    from_modes: Tensor
    scale: Tensor
    inverse: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        modes: Tensor,
        screening: Tensor,
        scale: Tensor,
        std: Tensor,
        shape: tuple[int, int],
        width: int,
    ) -> None:
        super().__init__()
        self.shape, self.width = shape, width
        self.register_buffer("to_modes", (modes * std).to(std))
        self.register_buffer("from_modes", torch.linalg.inv((modes * std).double()).to(std))
        self.register_buffer("scale", scale.to(std)[:, None, None])
        (rows, along_y), (columns, along_x) = (_sines(size - 2 * width) for size in shape)
        self.register_buffer("rows", rows.to(std))
        self.register_buffer("columns", columns.to(std))
        values = along_y[:, None] + along_x - screening.double()[:, None, None]
        self.register_buffer("inverse", values.reciprocal().to(std))

    def solve(self, source: Tensor, frame: Tensor) -> Tensor:
        """The field of a source, in modes.

        Arguments:
            source: In the interior, ``(B, V, y - 2 w, x - 2 w)``.
            frame: Given values, zero in the interior, ``(B, V, y, x)``.

        Returns:
            ``(B, V, y, x)``.
        """
        w = self.width
        inner = (..., slice(w, frame.shape[-2] - w), slice(w, frame.shape[-1] - w))
        # What the frame adds to the operator at the points beside it.
        known = laplacian(frame)[inner]
        spectrum = self.rows @ (source - known) @ self.columns
        field = self.rows @ (spectrum * self.inverse) @ self.columns
        return nn.functional.pad(field, (w, w, w, w)) + frame

    def forward(self, output: Tensor, expected: Tensor, boundary: Tensor) -> Tensor:
        """The next state, ``(G, B, V)``."""
        _, batch, num_variables = output.shape
        w, image = self.width, (batch, num_variables, *self.shape)
        source = output.permute(1, 2, 0).reshape(image)
        inner = (..., slice(w, self.shape[0] - w), slice(w, self.shape[1] - w))
        left = (boundary - expected) @ self.to_modes.T
        frame = left.permute(1, 2, 0).reshape(image).clone()
        frame[inner] = 0
        field = self.solve(source[inner] * self.scale, frame)
        correction = field.flatten(2).permute(2, 0, 1) @ self.from_modes.T
        return expected + correction


class Elliptic(Head):
    """The output is the source of an elliptic equation whose solution is the correction.

    Arguments:
        modes: Rows that combine variables, in physical units; by default each for itself.
        screening: Of each mode, in inverse squared grid steps: 0 for a Laplacian; for the
            difference of two layers, the squared inverse deformation radius.

    References:
        Hoskins et al. (1985), On the use and significance of isentropic potential vorticity maps,
        doi.org/10.1002/qj.49711147002.
    """

    def __init__(
        self, modes: list[list[float]] | None = None, screening: list[float] | None = None
    ) -> None:
        self.modes, self.screening = modes, screening

    def build(self, parts: HeadParts) -> EllipticHead:
        """The head of a domain."""
        size = len(parts.std)
        if parts.shape is None or parts.width is None or parts.width < 1:
            raise InputError("an elliptic head needs a regular grid with a boundary around it")
        if parts.laplacian_std is None:
            raise InputError("an elliptic head needs the statistics of Laplacians in the domain")
        modes = torch.eye(size) if self.modes is None else torch.tensor(self.modes)
        screening = torch.tensor(self.screening or [0.0] * size)
        if modes.shape != (size, size) or screening.shape != (size,):
            raise InputError(
                f"modes and screening must be for {size} features, got {tuple(modes.shape)}"
                f" and {tuple(screening.shape)}"
            )
        if bool((screening < 0).any()) or not bool(torch.linalg.det(modes).abs() > 1e-6):
            raise InputError("modes must be independent and screening at least 0")
        modes = modes.to(parts.std)
        sizes = (modes * parts.std * parts.laplacian_std).square().sum(1).sqrt()
        return EllipticHead(modes, screening, sizes, parts.std, parts.shape, parts.width)

    def __repr__(self) -> str:
        return f"Elliptic(modes={self.modes}, screening={self.screening})"
