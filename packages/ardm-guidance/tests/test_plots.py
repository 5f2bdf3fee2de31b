import numpy as np
import torch
from PIL import Image
from rdkit import Chem

from ardm_guidance.guidance.smc import Run
from ardm_guidance.models.ardm import hide
from ardm_guidance.scores.evaluation import check
from ardm_guidance.scores.plots import (
    _alive,
    ancestry_plot,
    evaluations_plot,
    film_strip,
    molecule_grid,
    property_histograms,
)
from ardm_guidance.sites.molecules import MoleculeAlphabet, read_smiles


def red_pixels(path):
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return ((image - np.array([0xC0, 0x39, 0x2B])) ** 2).sum(-1) < 300


def test_molecules_that_fail_are_marked_and_others_not(tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    fine = [check(smiles) for smiles in ("CCC", "C1CCC1")]
    molecule_grid(fine, good, columns=2)
    molecule_grid([fine[0], check("C(C)(C)(C)(C)C"), check("C.C")], bad, columns=3)
    assert not red_pixels(good).any()
    columns = np.flatnonzero(red_pixels(bad).any(0)) / red_pixels(bad).shape[1]
    assert columns.min() > 1 / 3 - 0.02
    assert columns.max() > 0.9


def test_histograms_are_drawn_and_nothing_partial_stays(tmp_path):
    path = tmp_path / "deep" / "properties.png"
    property_histograms(["CCO", "C1CC1"], ["CCC", "CCCCC"], path, names=("a", "b"))
    assert np.asarray(Image.open(path)).std() > 0
    assert [file.name for file in path.parent.iterdir()] == ["properties.png"]


def pixels(path, colour, tolerance=300):
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return ((image - np.array(colour)) ** 2).sum(-1) < tolerance


def test_a_scaffold_is_highlighted_where_a_molecule_has_it(tmp_path):
    path, marker = tmp_path / "grid.png", (158, 217, 242)
    items = [check(smiles) for smiles in ("Cc1ccccc1", "CCCCC")]
    molecule_grid(items, path, columns=2, pattern=Chem.MolFromSmarts("c1ccccc1"))
    columns = np.flatnonzero(pixels(path, marker).any(0)) / pixels(path, marker).shape[1]
    assert len(columns)
    assert columns.max() < 0.5
    molecule_grid(items, path, columns=2)
    assert not pixels(path, marker).any()


def test_a_film_strip_starts_empty_and_ends_with_the_molecule(tmp_path):
    alphabet = MoleculeAlphabet()
    sites = alphabet.encode(read_smiles("CC(=O)OCN"))
    order = torch.randperm(45, generator=torch.Generator().manual_seed(0))
    order = torch.cat([order[sites[order] >= 0], order[sites[order] < 0]])
    frames = [hide(sites, order, torch.tensor(shown)) for shown in (0, 10, 21)]
    path = tmp_path / "film.png"
    film_strip(frames, alphabet, path, title="")
    image = np.asarray(Image.open(path).convert("L"))
    ink = [(part < 128).mean() for part in np.array_split(image[: image.shape[0] * 8 // 10], 3, 1)]
    assert ink[0] < ink[2]


def finished():
    """Three steps of four particles; the second step keeps the offspring of particle 2 alone."""
    ancestors = torch.tensor([[[0, 1, 2, 3]], [[2, 2, 2, 2]], [[0, 1, 1, 3]]])
    ess = torch.tensor([[4.0], [1.1], [2.6]])
    nothing = torch.zeros(1, 4)
    return Run(nothing, nothing, nothing[0], ess, ancestors, ess < 3)


def test_lines_that_survive_are_found_backwards(tmp_path):
    alive = torch.stack(_alive(finished().ancestors[:, 0])).tolist()
    assert alive == [
        [False, False, True, False],
        [True, True, False, True],
        [True, True, True, True],
    ]
    path = tmp_path / "ancestry.png"
    ancestry_plot(finished(), path, title="")
    assert red_pixels(path).any()


def test_every_method_is_drawn(tmp_path):
    path = tmp_path / "calls.png"
    evaluations_plot({"a": [(45, 2.0), (90, 1.0)], "b": [(700, 0.5)]}, path, score="FCD")
    assert pixels(path, (31, 119, 180)).any()
    assert pixels(path, (255, 127, 14)).any()
