import torch

from latentgeom.relaxation.block_tridiagonal import factorize, substitute


def chains(generator, batch=5, nodes=7, dim=3):
    """Random symmetric systems, dominant on the diagonal, and their dense matrices."""
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    blocks = draw(batch, nodes, dim, dim)
    diagonal = blocks @ blocks.mT + 4 * torch.eye(dim)
    upper = draw(batch, nodes - 1, dim, dim) / 2
    dense = torch.zeros(batch, nodes, dim, nodes, dim)
    for i in range(nodes):
        dense[:, i, :, i] = diagonal[:, i]
    for i in range(nodes - 1):
        dense[:, i, :, i + 1] = upper[:, i]
        dense[:, i + 1, :, i] = upper[:, i].mT
    return diagonal, upper, dense.reshape(batch, nodes * dim, nodes * dim)


def test_solution_is_that_of_the_dense_system(generator):
    diagonal, upper, dense = chains(generator)
    right = torch.randn(diagonal.shape[:-1], generator=generator)
    factors = factorize(diagonal, upper)
    expected = torch.linalg.solve(dense, right.flatten(1)).reshape(right.shape)
    assert torch.equal(factors.positive, torch.linalg.eigvalsh(dense)[:, 0] > 0)
    good = factors.positive
    torch.testing.assert_close(substitute(factors, right)[good], expected[good])


def test_indefinite_chains_are_told_from_definite_ones(generator):
    diagonal, upper, dense = chains(generator, batch=200)
    diagonal[::2] -= 4 * torch.eye(3)
    dense[::2] -= 4 * torch.eye(21)
    factors = factorize(diagonal, upper)
    assert torch.equal(factors.positive, torch.linalg.eigvalsh(dense)[:, 0] > 0)
    assert 0 < factors.positive.sum() < 200
    assert torch.isfinite(substitute(factors, torch.ones(200, 7, 3))).all()
