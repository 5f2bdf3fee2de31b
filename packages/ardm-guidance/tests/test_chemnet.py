import pytest
import torch
from rdkit import Chem

from ardm_guidance.scores.chemnet import (
    frechet_distance,
    load_chemnet,
    merge_moments,
    moments,
    symbols,
)
from ardm_guidance.shell.errors import InputError


@pytest.fixture(scope="module")
def chemnet():
    try:
        return load_chemnet()
    except InputError as error:
        pytest.skip(str(error))


def draws(seed, count=4000, size=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


def test_the_distance_of_normal_laws_with_diagonal_covariances_is_known():
    a = draws(0)
    a = (a - a.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(moments(a).covariance)).T
    scale, shift = torch.tensor([1.0, 2, 3, 0.5, 0.0]).double(), torch.arange(5).double()
    distance = frechet_distance(moments(a), moments(scale * a + shift))
    assert distance == pytest.approx(float(((scale - 1) ** 2 + shift**2).sum()), abs=1e-6)


def test_a_set_has_no_distance_to_itself_and_order_does_not_matter():
    a, b = moments(draws(1)), moments(2 * draws(2) + 1)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_merged_moments_are_those_of_the_union():
    x = draws(3, 100)
    merged = merge_moments([moments(x[:13]), moments(x[13:14]), moments(x[14:])])
    whole = moments(x)
    assert merged.number == whole.number
    torch.testing.assert_close(merged.mean, whole.mean)
    torch.testing.assert_close(merged.scatter, whole.scatter)


def test_one_molecule_has_no_covariance():
    with pytest.raises(ValueError, match="at least two"):
        frechet_distance(moments(draws(4, 1)), moments(draws(5, 3)))


def test_symbols_of_two_letters_are_one_and_only_the_first_piece_is_read():
    assert symbols("ClCBr") == [5, 0, 8, 34]
    assert symbols("CN.O") == [0, 1, 34]
    assert len(symbols("C" * 500)) == 350


def test_states_do_not_depend_on_how_a_molecule_is_written(chemnet):
    states = chemnet.states(["OCC", "CCO", "c1ccccc1"])
    assert states.shape == (3, 512)
    assert torch.equal(states[0], states[1])
    assert not torch.allclose(states[0], states[2])
    assert Chem.CanonSmiles("OCC") == "CCO"
