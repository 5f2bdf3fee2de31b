import pytest
import torch

from ardm_guidance.data.splits import Split


def test_parts_are_disjoint_and_cover_everything():
    parts = Split(0.05, 0.1, 3).indices(1003)
    assert [len(parts[name]) for name in ("test", "val", "train")] == [100, 50, 853]
    assert torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(1003))


def test_the_seed_names_the_split():
    first, again, other = (Split(0.1, 0.1, seed).indices(100)["test"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (
        Split(0.1, 0.1, 1).describe(100) == "random split of 100: 80 train, 10 val, 10 test, seed 1"
    )


@pytest.mark.parametrize("shares", [(-0.1, 0.1), (0.5, 0.5)])
def test_shares_that_leave_nothing_are_refused(shares):
    with pytest.raises(ValueError, match="sum below 1"):
        Split(*shares).check()
