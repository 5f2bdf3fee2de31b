import pytest
import torch
from torch import nn

from latentgeom import Chart, LocalVariance, Pullback, Solver, geodesics, georce
from latentgeom.solvers import memory
from latentgeom.solvers.memory import bytes_a_point, pairs_at_once


def test_allocations_are_counted_and_views_are_not():
    assert bytes_a_point(lambda z: z * 2, torch.zeros(5)) == 40
    assert bytes_a_point(lambda z: z.mT, torch.zeros(5)) == 1
    assert bytes_a_point(lambda z: (z @ torch.zeros(5, 100), z + 1), torch.zeros(5)) >= 840


def test_the_cap_scales_the_number_of_pairs():
    a = torch.zeros(4, 2)
    counts = [pairs_at_once(nn.Identity(), torch.sin, a, 31, m) for m in (1e-3, 4e-3)]
    assert counts[0] == int(1e6 / (memory._ALIVE * 16 * 32))
    assert counts[1] == pytest.approx(4 * counts[0], abs=4)
    assert pairs_at_once(nn.Identity(), torch.sin, a, 31, 1e-12) == 1
    with pytest.raises(ValueError, match="memory_gb must be positive, got 0"):
        pairs_at_once(nn.Identity(), torch.sin, a, 31, 0.0)


class Seen(nn.Module):
    """A map that remembers how many points it was given at once."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def forward(self, z):
        self.most = max(self.most, z.numel() // z.shape[-1])
        return torch.cat([z, z.square()], -1)


def test_the_cap_of_a_metric_reaches_its_solver(generator):
    a, b = torch.randn(2, 40, 2, generator=generator)
    most = []
    for memory_gb in (1e-6, 1.0):
        seen = Seen()
        Pullback(seen, 2, Solver(8, memory_gb=memory_gb)).connect(a, b)
        most.append(seen.most)
    assert most[0] < most[1] / 4


def test_metrics_of_data_are_solved_in_parts(generator, monkeypatch):
    data = torch.randn(300, 2, generator=generator)
    a, b = torch.randn(2, 6, 2, generator=generator) / 2
    sizes = []
    tensor = LocalVariance.metric_tensor

    def counted(self, z):
        sizes.append(z.shape[0])
        return tensor(self, z)

    monkeypatch.setattr(LocalVariance, "metric_tensor", counted)
    few = LocalVariance(data, 1.0, solver=Solver(8, memory_gb=1e-6)).connect(a, b)
    assert max(sizes) <= 2  # on which the size is measured
    whole = LocalVariance(data, 1.0, solver=Solver(8)).connect(a, b)
    assert max(sizes) >= 6
    torch.testing.assert_close(few.length, whole.length)
    assert few.points.shape == whole.points.shape


def test_parts_with_other_numbers_of_nodes_are_put_together(generator):
    # One pair crosses a wall and gets more segments than the other.
    def tensor(z):
        cost = 1 + 50 * torch.exp(-((z[..., 0] - 0.3) / 0.05).square() / 2)
        return cost[..., None, None] * torch.eye(2)

    a = torch.tensor([[-1.0, 0.0], [-1.0, 0.2]])
    b = torch.tensor([[-0.5, 0.1], [1.0, 0.0]])
    batch = georce(tensor, a, b, num_segments=8, memory_gb=1e-9)
    assert batch.points.shape[1] > 9
    assert torch.equal(batch.points[:, 0], a)
    torch.testing.assert_close(batch.points[:, -1], b)


def test_a_solver_refuses_impossible_settings():
    with pytest.raises(ValueError, match="num_segments must be a multiple of 4 from 8 on, got 9"):
        Solver(9)
    with pytest.raises(ValueError, match="memory_gb must be positive, got 0"):
        Solver(memory_gb=0)
    with pytest.raises(ValueError, match="tolerance must be positive, got -1"):
        Solver(tolerance=-1)
    assert Solver() == Solver(32, 1e-9, 1.0)


def test_the_same_geodesics_come_from_the_solver_and_the_metric(generator):
    a, b = torch.randn(2, 5, 2, generator=generator)
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5)).requires_grad_(False)
    metric = Pullback(decoder, 2, Solver(16))
    assert metric.connect(a, b).points.shape[1] == 17
    direct = geodesics(Chart(decoder, 2), a, b, num_segments=16)
    torch.testing.assert_close(metric.connect(a, b).length, direct.length)
