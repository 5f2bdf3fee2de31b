import pytest
import torch

from latentgeom.data.partners import PairLoader
from latentgeom.shell.loading import EvaluationLoader


class Numbers:
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return index


def both(batch):
    return torch.stack([batch.first, batch.second], -1)


def firsts(loader):
    return torch.cat([batch.first for batch in loader])


@pytest.fixture
def ranks(monkeypatch):
    def pretend(rank, size):
        monkeypatch.setattr("latentgeom.shell.loading._rank_and_size", lambda: (rank, size))

    return pretend


def test_an_epoch_is_a_permutation_and_epochs_differ():
    loader = PairLoader(Numbers(24), 8)
    first, second = firsts(loader), firsts(loader)
    assert torch.equal(first.sort().values, torch.arange(24))
    assert torch.equal(second.sort().values, torch.arange(24))
    assert not torch.equal(first, second)


def test_partners_come_from_the_whole_data_set():
    partners = torch.cat([batch.second for batch in PairLoader(Numbers(24), 8)])
    assert torch.equal(partners.sort().values, torch.arange(24))


def test_ranks_share_each_global_batch(ranks):
    whole = list(PairLoader(Numbers(40), 8))
    parts = []
    for rank in range(2):
        ranks(rank, 2)
        parts.append(list(PairLoader(Numbers(40), 4)))
    for batch, *shares in zip(whole, *parts, strict=True):
        together = torch.cat([both(share) for share in shares])
        assert {tuple(p) for p in together.tolist()} == {tuple(p) for p in both(batch).tolist()}


@pytest.mark.parametrize("stop", range(6))
def test_a_restored_loader_continues_with_the_next_batch(stop):
    whole = PairLoader(Numbers(24), 8)
    batches = [*whole, *whole]
    stopped = PairLoader(Numbers(24), 8)
    taken = []
    while len(taken) < stop:
        for batch in stopped:
            taken.append(batch)
            if len(taken) == stop:
                break
    restored = PairLoader(Numbers(24), 8)
    restored.load_state_dict(stopped.state_dict())
    rest = list(restored)
    if len(taken) + len(rest) < len(batches):
        rest += list(restored)
    assert torch.equal(
        torch.cat([both(batch) for batch in [*taken, *rest]]),
        torch.cat([both(batch) for batch in batches]),
    )


@pytest.mark.parametrize("length", [2, 7, 8, 13])
def test_evaluation_meets_every_sample_once(ranks, length):
    seen = []
    for rank in range(2):
        ranks(rank, 2)
        loader = EvaluationLoader(Numbers(length), 3)
        batches = list(loader)
        assert len(batches) == len(loader)
        seen += batches
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(length))


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="at most the 5 training samples, got 8 x 1"):
        len(PairLoader(Numbers(5), 8))
