import math

import pytest
import torch

from ardm_guidance.training.bound_scores import BoundScores


def test_scores_are_means_over_molecules_however_they_are_batched():
    bounds = torch.tensor([-10.0, -20.0, -33.0, -5.0, -7.0])
    sites = torch.tensor([3, 6, 10, 1, 3])
    scores = BoundScores()
    for part in (slice(0, 2), slice(2, 3), slice(3, 5)):
        scores.update(bounds[part], sites[part])
    found = scores.compute()
    nats = -bounds.double()
    assert float(found["nats"]) == pytest.approx(float(nats.mean()), rel=1e-14)
    error = float(nats.std(correction=0)) / math.sqrt(5)
    assert float(found["nats_error"]) == pytest.approx(error, rel=1e-12)
    assert float(found["bits_per_site"]) == pytest.approx(75 / math.log(2) / 23, rel=1e-14)
    assert float(found["count"]) == 5
    scores.reset()
    scores.update(bounds[:1], sites[:1])
    assert float(scores.compute()["nats"]) == 10


def test_a_value_that_is_no_number_is_an_error():
    with pytest.raises(RuntimeError, match="nan"):
        BoundScores().update(torch.tensor([float("nan")]), torch.tensor([3]))


def test_what_the_model_excludes_is_counted_and_not_averaged():
    scores = BoundScores()
    scores.update(torch.tensor([-10.0, -torch.inf, -20.0]), torch.tensor([3, 6, 3]))
    found = {name: float(value) for name, value in scores.compute().items()}
    assert (found["count"], found["excluded"]) == (2, 1)
    assert found["nats"] == pytest.approx(15.0)
    assert found["bits_per_site"] == pytest.approx(30 / math.log(2) / 6)
