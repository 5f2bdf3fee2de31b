import torch

from neural_lam.losses import interior_mean, scaled_square_error


def test_the_mean_leaves_the_boundary_out():
    field = torch.tensor([[9.0], [1.0], [3.0], [9.0]]).double()
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0]).double()
    torch.testing.assert_close(interior_mean(field, weights), torch.tensor([2.5]).double())


def test_errors_of_one_change_count_one_in_every_variable():
    truth = torch.zeros(2, 3, 4, 2).double()
    scale = torch.tensor([10.0, 0.1]).double()
    weights = torch.tensor([0.0, 1.0, 1.0, 1.0]).double()
    loss = scaled_square_error(truth + scale, truth, weights, scale)
    torch.testing.assert_close(loss, torch.tensor(1.0).double())
