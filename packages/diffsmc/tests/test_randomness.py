import pytest
import torch
from scipy import stats

from diffsmc.shell.randomness import _mix, keyed_generator, keyed_normal, keyed_uniform

# First outputs of SplitMix64 for state 1234567, from the published reference program.
REFERENCE = [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_the_mixer_is_splitmix64():
    golden = 0x9E3779B97F4A7C15
    states = [(1234567 + k * golden) % 2**64 for k in range(3)]
    signed = torch.tensor([s - 2**64 if s >= 2**63 else s for s in states])
    assert [int(word) % 2**64 for word in _mix(signed)] == REFERENCE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_follow_their_law(dtype):
    index = torch.arange(2000)
    uniform = keyed_uniform(0, 3, index, (50,), dtype)
    assert uniform.min() > 0
    assert uniform.max() < 1
    assert stats.kstest(uniform.flatten().double().numpy(), "uniform").pvalue > 1e-3
    normal = keyed_normal(0, 3, index, (50,), dtype)
    assert stats.kstest(normal.flatten().double().numpy(), "norm").pvalue > 1e-3
    for other in (keyed_normal(1, 3, index, (50,), dtype), keyed_normal(0, 4, index, (50,), dtype)):
        correlation = torch.corrcoef(torch.stack([normal.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation) < 4 / normal.numel() ** 0.5


def test_numbers_belong_to_samples_not_to_batches():
    index = torch.tensor([5, 2, 9])
    whole = keyed_normal(0, 1, index, (4,))
    assert torch.equal(whole[1:2], keyed_normal(0, 1, index[1:2], (4,)))


def test_generators_repeat_and_differ_by_key():
    draw = lambda *key: torch.rand(4, generator=keyed_generator(*key))  # noqa: E731
    assert torch.equal(draw(0, 1, 2), draw(0, 1, 2))
    assert not torch.equal(draw(0, 1, 2), draw(0, 2, 1))
