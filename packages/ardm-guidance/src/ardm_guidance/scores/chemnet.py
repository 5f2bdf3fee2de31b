r"""Fréchet ChemNet distance.

ChemNet is a network trained to predict bioactivities from SMILES: two convolutions over
characters, then two LSTMs that read backwards.  Its last state, 512 numbers, describes a molecule;
with the means and covariances of these over two sets,

.. math::
    \mathrm{FCD} = \|\mu_1 - \mu_2\|^2 + \operatorname{tr}\big(\Sigma_1 + \Sigma_2
      - 2 (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2}\big).

The weights are those of the ``fcd-torch`` distribution, read by path; nothing of it is imported.

References:
    Preuer et al., "Fréchet ChemNet Distance", J. Chem. Inf. Model. 58 (2018).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from rdkit import Chem
from torch import Tensor, nn
from torch.nn import functional

from ardm_guidance.data.files import installed_folder
from ardm_guidance.shell.errors import InputError

__all__ = [
    "ChemNet",
    "Moments",
    "frechet_distance",
    "load_chemnet",
    "merge_moments",
    "moments",
    "symbols",
]

_LENGTH = 350
_SYMBOLS = (
    "C N O H F Cl P B Br S I Si # ( ) + - 1 2 3 4 5 6 7 8 = [ ] @ c n o s X .".split()  # noqa: SIM905
)
_CODES = {symbol: code for code, symbol in enumerate(_SYMBOLS)}
_UNKNOWN, _END = _CODES["X"], _CODES["."]


class Moments(NamedTuple):
    """Moments of a set of states.

    Attributes:
        number: Of molecules.
        mean: ``(C,)``, float64.
        scatter: Sum of the outer products of the deviations from the mean, ``(C, C)``.
    """

    number: int
    mean: Tensor
    scatter: Tensor

    @property
    def covariance(self) -> Tensor:
        """Unbiased, ``(C, C)``."""
        return self.scatter / (self.number - 1)


def moments(states: Tensor) -> Moments:
    """Moments of states ``(N, C)``."""
    states = states.double()
    mean = states.mean(0)
    centred = states - mean
    return Moments(len(states), mean, centred.T @ centred)


def merge_moments(parts: Sequence[Moments]) -> Moments:
    """Moments of the union of sets."""
    number = sum(part.number for part in parts)
    mean = torch.stack([part.number * part.mean for part in parts]).sum(0) / number
    shifts = [part.number * torch.outer(part.mean - mean, part.mean - mean) for part in parts]
    scatter = torch.stack([part.scatter for part in parts]) + torch.stack(shifts)
    return Moments(number, mean, scatter.sum(0))


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Fréchet distance of the normal laws with these moments.

    Raises:
        ValueError: A set has fewer than two molecules, so that it has no covariance.

    References:
        Preuer et al. (2018), Fréchet ChemNet distance, arXiv:1803.09518.
    """
    if min(a.number, b.number) < 2:
        raise ValueError(f"expected at least two molecules a set, got {a.number} and {b.number}")
    values, vectors = torch.linalg.eigh(a.covariance)
    # Covariances of fewer molecules than features are singular: rounding dips below zero.
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp(min=0)
    trace = a.covariance.trace() + b.covariance.trace() - 2 * product.sqrt().sum()
    return float((a.mean - b.mean).square().sum() + trace)


def symbols(smiles: str) -> list[int]:
    """Codes of the symbols of a SMILES with the end mark; only the first piece is read."""
    codes, place = [], 0
    text = smiles + "."
    while True:
        width = 2 if text[place + 1] in "ril" else 1
        codes.append(_CODES.get(text[place : place + width], _UNKNOWN))
        place += width
        if text.startswith(".", place) or len(codes) == _LENGTH - 1:
            return [*codes, _END]


def _one_hot(smiles: Sequence[str], device: torch.device) -> Tensor:
    """Scaled indicators of the symbols, ``(B, 35, 350)``."""
    rows = [symbols(text) for text in smiles]
    codes = torch.full((len(rows), _LENGTH), -1)
    for row, values in zip(codes, rows, strict=True):
        row[: len(values)] = torch.tensor(values)
    classes = torch.arange(len(_SYMBOLS), device=device)
    hot = codes.to(device)[:, None] == classes[:, None]
    return hot.float() / len(_SYMBOLS)


class ChemNet(nn.Module):
    """The part of ChemNet below its outputs.

    Arguments:
        layers: Kind, and weights with settings, of each layer, as ``fcd-torch`` stores them.
    """

    def __init__(self, layers: Sequence[tuple[str, Any]]) -> None:
        super().__init__()
        convolutions: list[nn.Module] = []
        recurrent: list[nn.Module] = []
        kinds: dict[str, tuple[type[nn.Module], list[nn.Module]]] = {
            "Conv1d": (nn.Conv1d, convolutions)
        }
        for kind, (weights, settings, _) in layers:
            build, stack = kinds.get(kind, (nn.LSTM, recurrent))
            layer = build(**settings)
            layer.load_state_dict(weights)
            stack.append(layer)
        self.convolutions, self.recurrent = nn.ModuleList(convolutions), nn.ModuleList(recurrent)
        self.eval().requires_grad_(False)

    def forward(self, one_hot: Tensor) -> Tensor:
        """States ``(B, 512)`` of scaled indicators ``(B, 35, 350)``."""
        x = one_hot
        for layer in self.convolutions:
            assert isinstance(layer, nn.Conv1d)
            kernel, stride = layer.kernel_size[0], layer.stride[0]
            missing = max(kernel - (x.shape[-1] % stride or stride), 0)
            left = missing // 2
            x = functional.selu(layer(functional.pad(x, (left, missing - left))))
        x = x.mT
        for layer in self.recurrent:
            x, _ = layer(x.flip(1))
        return x[:, -1]

    @torch.no_grad()
    def states(self, smiles: Sequence[str], batch_size: int = 256) -> Tensor:
        """States of molecules, ``(N, 512)``.

        Arguments:
            smiles: Valid SMILES; canonicalised here, since ChemNet depends on the writing.
            batch_size: Molecules at once.
        """
        device = next(self.parameters()).device
        canonical = [Chem.MolToSmiles(Chem.MolFromSmiles(text)) for text in smiles]
        batches = [
            self(_one_hot(canonical[start : start + batch_size], device)).cpu()
            for start in range(0, len(canonical), batch_size)
        ]
        return torch.cat(batches) if batches else torch.zeros(0, 512)


def load_chemnet() -> ChemNet:
    """ChemNet with the weights of the installed ``fcd-torch``.

    Raises:
        InputError: It is not installed, or its file is not readable.
    """
    path = installed_folder("fcd_torch", "fcd-torch==1.0.7") / "ChemNet_v0.13_pretrained.pt"
    try:
        return ChemNet(torch.load(path, weights_only=True))
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: not readable ({error})") from error
