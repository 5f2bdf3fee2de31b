import pytest
import torch

from ardm_guidance.guidance.toys import (
    MarginalRatio,
    consistent,
    inconsistent,
    law,
    log_marginals,
    objects,
    total_variation,
)

D, K = 4, 3


@pytest.fixture
def log_joint():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn((K,) * D, generator=generator).double().flatten().log_softmax(0).view((K,) * D)
    )


def test_marginals_are_sums_over_completions(log_joint):
    marginals = log_marginals(log_joint).exp()
    assert marginals[0, 0, 0, 0] == pytest.approx(1)
    torch.testing.assert_close(marginals[0, 2, 0, 1], log_joint.exp()[:, 1, :, 0].sum())
    torch.testing.assert_close(marginals[1:, 1:, 1:, 1:], log_joint.exp())


def test_consistent_conditionals_give_the_joint_in_every_order(log_joint):
    every = law(consistent(log_joint), D, K)
    assert every.shape == (24, 81)
    torch.testing.assert_close(every, log_joint.flatten().expand(24, 81), rtol=0, atol=1e-12)


def test_inconsistent_conditionals_give_another_law_in_every_order(log_joint):
    base = inconsistent(log_joint, 0.5, generator=torch.Generator().manual_seed(1))
    every = law(base, D, K).exp()
    torch.testing.assert_close(every.sum(-1), torch.ones(24).double(), rtol=0, atol=1e-12)
    assert total_variation(every[0], every[1:]).min() > 0.01


def test_the_ratio_of_a_law_to_itself_is_one(log_joint):
    ratio = MarginalRatio(log_joint, log_joint)
    assert torch.equal(ratio(objects(D, K)), torch.zeros(81).double())
