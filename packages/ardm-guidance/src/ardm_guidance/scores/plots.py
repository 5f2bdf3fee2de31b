"""Pictures.

Each function draws from plain data onto a file, written under a temporary name and moved.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter
from PIL import Image
from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor, rdMolDescriptors
from rdkit.Chem.Draw import rdMolDraw2D
from torch import Tensor

from ardm_guidance.guidance.calibration import Reliability
from ardm_guidance.guidance.smc import Run
from ardm_guidance.scores.evaluation import Checked
from ardm_guidance.shell.writing import whole
from ardm_guidance.sites.graphs import MASK, PAD
from ardm_guidance.sites.molecules import MoleculeAlphabet

__all__ = [
    "ancestry_plot",
    "evaluations_plot",
    "film_strip",
    "molecule_grid",
    "property_histograms",
    "reliability_plot",
]

_PANEL = (400, 300)
_INK, _GREY, _WARN, _BLUE = "#1f2933", "#6b7785", "#c0392b", "#0b6e99"
_MARKER = (0.62, 0.85, 0.95)


def _save(figure: Figure, path: Path, dpi: int = 150) -> None:
    with whole(path) as partial:
        figure.savefig(partial, format="png", dpi=dpi, facecolor="white")
    pyplot.close(figure)


def _depict(item: Checked) -> Chem.Mol:
    """The molecule with coordinates; an empty one where the SMILES cannot be read at all."""
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(item.smiles, sanitize=item.valid) or Chem.Mol()
    molecule.UpdatePropertyCache(strict=False)
    rdDepictor.SetPreferCoordGen(True)
    rdDepictor.Compute2DCoords(molecule)
    rdDepictor.StraightenDepiction(molecule)
    return molecule


def _drawer(**settings: Any) -> rdMolDraw2D.MolDraw2DCairo:
    drawer = rdMolDraw2D.MolDraw2DCairo(*_PANEL)
    style = {"padding": 0.12, "bondLineWidth": 3, "fixedBondLength": 62, "minFontSize": 24}
    for name, value in (style | settings).items():
        setattr(drawer.drawOptions(), name, value)
    drawer.drawOptions().setHighlightColour(_MARKER)
    return drawer


def _image(drawer: rdMolDraw2D.MolDraw2DCairo) -> np.ndarray:
    drawer.FinishDrawing()
    return np.asarray(Image.open(io.BytesIO(drawer.GetDrawingText())).convert("RGB"))


def _panel(item: Checked, pattern: Chem.Mol | None = None) -> np.ndarray:
    """One molecule as an RGB image, its match of the pattern highlighted."""
    drawer = _drawer(prepareMolsBeforeDrawing=item.valid)
    molecule = _depict(item)
    atoms = molecule.GetSubstructMatch(pattern) if pattern is not None and item.valid else ()
    bonds = [
        bond.GetIdx()
        for bond in molecule.GetBonds()
        if {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()} <= set(atoms)
    ]
    drawer.DrawMolecule(molecule, highlightAtoms=list(atoms), highlightBonds=bonds)
    return _image(drawer)


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
    pattern: Chem.Mol | None = None,
) -> None:
    """Draw molecules in a grid; the ones that fail are framed in red and named.

    Arguments:
        items: The molecules, as many as shall be shown.
        path: PNG to write.
        title: First line.
        caption: Second line, smaller.
        columns: Molecules in a row.
        pattern: Scaffold to highlight where a molecule has it.
    """
    rows = -(-len(items) // columns)
    height = 1.05 * rows + 0.75
    figure, axes = pyplot.subplots(rows, columns, figsize=(1.4 * columns, height), squeeze=False)
    top = 1 - 0.75 / height
    figure.subplots_adjust(0.012, 0.012, 0.988, top, wspace=0.04, hspace=0.04)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, item in zip(axes.flat, items, strict=False):
        axis.imshow(_panel(item, pattern), interpolation="antialiased")
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


def cyclomatic_number(molecule: Chem.Mol) -> float:
    """Independent rings: bonds - atoms + pieces."""
    pieces = len(Chem.GetMolFrags(molecule))
    return float(molecule.GetNumBonds() - molecule.GetNumAtoms() + pieces)


_PROPERTIES: dict[str, Callable[[Chem.Mol], float]] = {
    "heavy atoms": rdMolDescriptors.CalcNumHeavyAtoms,
    # Bonds - atoms + pieces: cages have more faces than rings.
    "rings (cyclomatic number)": cyclomatic_number,
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
        axis.hist(drawn, histtype="step", color=_BLUE, linewidth=1.8, label=names[0], **style)
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
    axis.plot(bins.predicted, bins.observed, color=_BLUE, marker="o", linewidth=1.8)
    axis.set(xlabel="predicted probability of being real", ylabel="observed share of real ones")
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axis.set_title(f"calibration error {bins.error:.3f} (n = {count})", fontsize=10, color=_INK)
    axis.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def film_strip(
    frames: Sequence[Tensor], alphabet: MoleculeAlphabet, path: Path, *, title: str = ""
) -> None:
    """Draw one molecule while it is generated.

    Atoms keep their place, that of the finished molecule; hidden ones are dots.

    Arguments:
        frames: Sites of partial molecules, each ``(D,)``, the last one complete.
        alphabet: Of the molecules.
        path: PNG to write.
        title: Above the frames.
    """
    number = len(frames)
    figure, axes = pyplot.subplots(1, number, figsize=(2.1 * number, 2.5), squeeze=False)
    figure.subplots_adjust(0.01, 0.12, 0.99, 0.86, wspace=0.03)
    for axis, sites in zip(axes[0], frames, strict=True):
        image, dots = _frame(sites, frames[-1], alphabet)
        axis.imshow(image, interpolation="antialiased")
        axis.plot(*dots, "o", color="#b8c4ce", markersize=4)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set(color="#d6dde4")
        shown, every = int((sites >= 0).sum()), int((sites != PAD).sum())
        axis.set_xlabel(f"{shown} of {every} sites", fontsize=9, color=_GREY)
    figure.text(0.01, 0.93, title, fontsize=12, color=_INK, weight="bold", va="center")
    _save(figure, path, dpi=180)


def _frame(
    sites: Tensor, finished: Tensor, alphabet: MoleculeAlphabet
) -> tuple[np.ndarray, list[list[float]]]:
    """The shown part of a molecule, laid out as the finished one, and places of hidden atoms."""
    layout = alphabet.structure(finished)
    layout.UpdatePropertyCache(strict=False)
    rdDepictor.Compute2DCoords(layout)
    hidden = (sites[: layout.GetNumAtoms()] == MASK).nonzero()[:, 0].tolist()
    shown = alphabet.structure(sites.masked_fill(sites == MASK, 0))
    for atom in shown.GetAtoms():
        # Hydrogens complete an atom whose bonds are all known, and no other.
        atom.SetNoImplicit(bool((sites == MASK).any()))
    for index in hidden:
        shown.GetAtomWithIdx(index).SetAtomicNum(0)
        shown.GetAtomWithIdx(index).SetProp("atomLabel", " ")
    shown.UpdatePropertyCache(strict=False)
    shown.AddConformer(layout.GetConformer())
    drawer = _drawer(prepareMolsBeforeDrawing=False, centreMoleculesBeforeDrawing=False)
    drawer.DrawMolecule(shown)
    points = [drawer.GetDrawCoords(index) for index in hidden]
    return _image(drawer), [[point.x for point in points], [point.y for point in points]]


def ancestry_plot(run: Run, path: Path, *, group: int = 0, title: str = "") -> None:
    """Draw effective sample size and ancestry of a group over the steps.

    Lines join particles to their ancestors; the ones that lead to a final particle are dark.

    Arguments:
        run: Finished groups.
        path: PNG to write.
        group: The one to draw.
        title: Above the panels.
    """
    ess, ancestors = run.ess[:, group].cpu(), run.ancestors[:, group].cpu()
    steps, number = ancestors.shape
    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(9, 4.6), sharex=True, layout="constrained", height_ratios=[1, 1.6]
    )
    above.plot(range(1, steps + 1), ess, color=_BLUE, marker="o", markersize=3, linewidth=1.4)
    resampled = run.resampled[:, group].cpu().nonzero()[:, 0] + 1
    above.plot(resampled, ess[resampled - 1], "o", color=_WARN, markersize=5, label="resampled")
    above.set(ylabel="effective sample size", ylim=(0, number * 1.06))
    if len(resampled):
        above.legend(frameon=False, fontsize=8, loc="lower right")
    for alive, colour, width in ((False, "#cfd8df", 0.8), (True, _INK, 1.3)):
        for t, (parents, kept) in enumerate(zip(ancestors, _alive(ancestors), strict=True)):
            for child in (kept == alive).nonzero()[:, 0].tolist():
                below.plot([t, t + 1], [int(parents[child]), child], color=colour, linewidth=width)
    below.set(xlabel="step", ylabel="particle", yticks=range(number))
    for axis in (above, below):
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=12, color=_INK, weight="bold", x=0.01, ha="left")
    _save(figure, path)


def _alive(ancestors: Tensor) -> list[Tensor]:
    """Which particles after each step have a descendant at the end, ``(T, N)``."""
    kept = torch.ones(ancestors.shape[1], dtype=torch.bool)
    rows = [kept]
    for parents in reversed(ancestors[1:]):
        kept = torch.zeros_like(kept).index_fill(0, parents[rows[-1]], True)
        rows.append(kept)
    return rows[::-1]


def evaluations_plot(
    results: Mapping[str, Sequence[tuple[float, float]]], path: Path, *, score: str
) -> None:
    """Draw the quality of methods against the network evaluations that a sample takes.

    Arguments:
        results: Pairs of evaluations and score by method.
        path: PNG to write.
        score: Name of the score.
    """
    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    markers = "osD^vP*"
    for place, (name, pairs) in enumerate(results.items()):
        calls, values = zip(*sorted(pairs), strict=True)
        line = "-" if len(set(calls)) > 1 else ""
        axis.plot(calls, values, line, marker=markers[place % len(markers)], label=name)
    axis.set(xscale="log", xlabel="network evaluations a sample", ylabel=score)
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xticks(sorted({calls for pairs in results.values() for calls, _ in pairs}))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    _save(figure, path)
