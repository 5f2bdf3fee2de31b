"""Means of fields over forecasts and ranks."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from neural_lam.verification.means import MeanField


def fields(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 3, generator=generator, dtype=torch.float64)


def test_it_is_the_mean_of_all_however_they_come():
    every, metric = fields(7), MeanField()
    for part in every.split([3, 1, 3]):
        metric.update(part)
    torch.testing.assert_close(metric.compute(), every.mean(0))
    metric.reset()
    metric.update(every[:2])
    torch.testing.assert_close(metric.compute(), every[:2].mean(0))


def test_single_precision_is_summed_in_double():
    metric = MeanField()
    metric.float()
    for _ in range(1000):
        metric.update(torch.full((1, 1), 1 + 2**-20))
    assert metric.compute().dtype == torch.float64
    assert abs(float(metric.compute()) - (1 + 2**-20)) < 1e-12


def test_what_ran_off_is_told():
    metric = MeanField()
    metric.update(torch.tensor([[1.0, float("nan")], [2.0, 3.0]]))
    found = metric.compute()
    assert float(found[0]) == 1.5
    assert found[1].isnan()


def _rank(rank, folder):
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    metric = MeanField()
    metric.update(fields(5)[:4] if rank == 0 else fields(5)[4:])
    torch.save(metric.compute(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*:")
def test_ranks_with_different_numbers_of_windows_count_each_once(tmp_path):
    mp.start_processes(_rank, (str(tmp_path),), nprocs=2, start_method="fork")
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, fields(5).mean(0))
