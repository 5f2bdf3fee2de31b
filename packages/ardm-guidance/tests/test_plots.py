import numpy as np
from PIL import Image

from ardm_guidance.evaluation import check
from ardm_guidance.plots import molecule_grid, property_histograms


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
