"""Pictures.

Each function draws from plain data onto a file, written under a temporary name and moved.
"""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor, rdMolDescriptors
from rdkit.Chem.Draw import rdMolDraw2D

from ardm_guidance.calibration import Reliability
from ardm_guidance.evaluation import Checked

__all__ = ["molecule_grid", "property_histograms", "reliability_plot"]

_PANEL = (400, 300)
_INK, _GREY, _WARN = "#1f2933", "#6b7785", "#c0392b"


def _save(figure: Figure, path: Path, dpi: int = 150) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    figure.savefig(partial, format="png", dpi=dpi, facecolor="white")
    pyplot.close(figure)
    os.replace(partial, path)


def _depict(item: Checked) -> Chem.Mol:
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(item.smiles, sanitize=item.valid)
    molecule.UpdatePropertyCache(strict=False)
    rdDepictor.SetPreferCoordGen(True)
    rdDepictor.Compute2DCoords(molecule)
    rdDepictor.StraightenDepiction(molecule)
    return molecule


def _panel(item: Checked) -> np.ndarray:
    """One molecule as an RGB image."""
    drawer = rdMolDraw2D.MolDraw2DCairo(*_PANEL)
    options = drawer.drawOptions()
    settings = {
        "padding": 0.12,
        "bondLineWidth": 3,
        "fixedBondLength": 62,
        "minFontSize": 24,
        "prepareMolsBeforeDrawing": item.valid,
    }
    for name, value in settings.items():
        setattr(options, name, value)
    drawer.DrawMolecule(_depict(item))
    drawer.FinishDrawing()
    return np.asarray(Image.open(io.BytesIO(drawer.GetDrawingText())).convert("RGB"))


def _verdict(item: Checked) -> str:
    if not item.valid:
        return "not valid"
    return "" if item.num_fragments == 1 else f"{item.num_fragments} fragments"


def molecule_grid(
    items: Sequence[Checked],
    path: Path,
    *,
    title: str = "",
    caption: str = "",
    columns: int = 8,
) -> None:
    """Draw molecules in a grid; the ones that fail are framed in red and named.

    Arguments:
        items: The molecules, as many as shall be shown.
        path: PNG to write.
        title: First line.
        caption: Second line, smaller.
        columns: Molecules in a row.
    """
    rows = -(-len(items) // columns)
    height = 1.05 * rows + 0.75
    figure, axes = pyplot.subplots(rows, columns, figsize=(1.4 * columns, height), squeeze=False)
    top = 1 - 0.75 / height
    figure.subplots_adjust(0.012, 0.012, 0.988, top, wspace=0.04, hspace=0.04)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, item in zip(axes.flat, items, strict=False):
        axis.imshow(_panel(item), interpolation="antialiased")
        _mark(axis, _verdict(item))
    figure.text(0.02, 1 - 0.27 / height, title, fontsize=14, color=_INK, weight="bold", va="center")
    figure.text(0.02, 1 - 0.55 / height, caption, fontsize=9.5, color=_GREY, va="center")
    _save(figure, path, dpi=200)


def _mark(axis: Axes, verdict: str) -> None:
    if verdict:
        axis.set_axis_on()
        axis.set(xticks=[], yticks=[])
        axis.text(0.5, 0.02, verdict, transform=axis.transAxes, color=_WARN, ha="center", size=8)
    for spine in axis.spines.values():
        spine.set(color=_WARN, linewidth=1.2)


_PROPERTIES: dict[str, Callable[[Chem.Mol], float]] = {
    "heavy atoms": rdMolDescriptors.CalcNumHeavyAtoms,
    "rings": rdMolDescriptors.CalcNumRings,
    "exact mass (Da)": rdMolDescriptors.CalcExactMolWt,
    "octanol-water log P (Crippen)": lambda molecule: rdMolDescriptors.CalcCrippenDescriptors(
        molecule
    )[0],
}


def property_histograms(
    samples: Sequence[str], reference: Sequence[str], path: Path, *, names: tuple[str, str]
) -> None:
    """Histograms of properties of two sets of molecules over one another.

    Arguments:
        samples: Valid SMILES.
        reference: Valid SMILES.
        path: PNG to write.
        names: What the legend calls the two.
    """
    figure, axes = pyplot.subplots(1, len(_PROPERTIES), figsize=(12, 3.1), layout="constrained")
    sets = [[Chem.MolFromSmiles(text) for text in texts] for texts in (samples, reference)]
    for axis, (label, compute) in zip(axes, _PROPERTIES.items(), strict=True):
        drawn, known = (np.array([compute(molecule) for molecule in one]) for one in sets)
        bins = _bins(np.concatenate([drawn, known]))
        style = {"bins": bins, "density": True}
        axis.hist(known, color="#c9d3dd", label=names[1], **style)
        axis.hist(drawn, histtype="step", color="#0b6e99", linewidth=1.8, label=names[0], **style)
        axis.set(xlabel=label, yticks=[])
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0].set_ylabel("density")
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    _save(figure, path)


def _bins(values: np.ndarray) -> np.ndarray:
    """One bin a value for counts, 30 bins otherwise."""
    if np.issubdtype(values.dtype, np.integer):
        return np.arange(values.min(), values.max() + 2) - 0.5
    low, high = np.quantile(values, [0.001, 0.999])
    return np.linspace(low, high, 31)


def reliability_plot(bins: Reliability, path: Path, *, count: int) -> None:
    """Draw predicted against observed shares of real objects.

    Arguments:
        bins: What to draw.
        path: PNG to write.
        count: Number of objects, for the caption.
    """
    figure, axis = pyplot.subplots(figsize=(4.2, 4.2), layout="constrained")
    axis.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle=(0, (4, 3)))
    axis.plot(bins.predicted, bins.observed, color="#0b6e99", marker="o", linewidth=1.8)
    axis.set(xlabel="predicted probability of being real", ylabel="observed share of real ones")
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axis.set_title(f"calibration error {bins.error:.3f} (n = {count})", fontsize=10, color=_INK)
    axis.spines[["top", "right"]].set_visible(False)
    _save(figure, path)
