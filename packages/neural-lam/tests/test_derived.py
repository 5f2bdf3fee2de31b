"""Derived inputs, elliptic heads and balanced losses against closed forms."""

import math

import pytest
import torch

from neural_lam.graphs.sides import Sides
from neural_lam.predictors.derived import (
    DERIVATIVES,
    Derived,
    derived_scales,
    gradient_x,
    gradient_y,
    laplacian,
)
from neural_lam.predictors.heads import Elliptic, HeadParts, Increment
from neural_lam.predictors.losses import (
    LeadWeighted,
    LossGrid,
    ScaleBalanced,
    WeightedSquare,
    weighted_square_error,
)


def images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_derivatives_of_a_quadratic_are_exact():
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(9.0), indexing="ij")
    field = (2 * x**2 - 3 * y**2 + x * y + 5 * x - y)[None, None]
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(laplacian(field)[inner], torch.full((1, 1, 5, 7), -2.0))
    torch.testing.assert_close(gradient_x(field)[inner][0, 0], (4 * x + y + 5)[1:-1, 1:-1])
    torch.testing.assert_close(gradient_y(field)[inner][0, 0], (-6 * y + x - 1)[1:-1, 1:-1])
    ring = torch.ones(7, 9, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    for derive in DERIVATIVES.values():
        assert (derive(field)[0, 0][ring] == 0).all()


@pytest.mark.parametrize("name", DERIVATIVES)
def test_around_the_globe_every_column_has_neighbours(name):
    field = images(1, 2, 6, 8)
    derive = DERIVATIVES[name]
    found = derive(field.roll(3, -1), sides=Sides.JOINED)
    torch.testing.assert_close(found, derive(field, sides=Sides.JOINED).roll(3, -1))
    assert found[..., 1:-1, 0].abs().min() > 0


def test_derived_features_are_in_units_of_their_usual_size():
    shape, generator = (12, 14), torch.Generator().manual_seed(0)
    states = torch.randn(40, 168, 2, generator=generator, dtype=torch.float64)
    changes = 0.1 * torch.randn(40, 168, 2, generator=generator, dtype=torch.float64)
    names = ["laplacian", "gradient_x"]
    scales = derived_scales(names, states, changes, shape, sides=Sides.APART)
    # Of white noise of variance one: 20 for the Laplacian, 1/2 for a gradient.
    torch.testing.assert_close(
        scales["laplacian"].std, torch.full((2,), math.sqrt(20.0)).double(), rtol=0.05, atol=0
    )
    torch.testing.assert_close(
        scales["gradient_x"].change_std, torch.full((2,), 0.1 * math.sqrt(0.5)).double(),
        rtol=0.05, atol=0,
    )  # fmt: skip
    module = Derived(scales, shape)
    assert module.num_features == 8
    state, previous = (states[n].unsqueeze(1) for n in (0, 1))
    found = module(state, previous).reshape(*shape, 1, 2, 2, 2)
    image = state.permute(1, 2, 0).reshape(1, 2, *shape)
    raw = laplacian(image)[0, 1] / scales["laplacian"].std[1]
    torch.testing.assert_close(found[:, :, 0, 0, 0, 1], 6 * torch.tanh(raw / 6))
    # After what a state gives stands what its last change gives.
    change = (state - previous).permute(1, 2, 0).reshape(1, 2, *shape)
    raw = gradient_x(change)[0, 0] / scales["gradient_x"].change_std[0]
    torch.testing.assert_close(found[:, :, 0, 1, 1, 0], 6 * torch.tanh(raw / 6))


def test_masked_points_leave_the_usual_size_alone():
    states = torch.randn(30, 80, 1, generator=torch.Generator().manual_seed(0)).double()
    whole = derived_scales(["laplacian"], states, states, (8, 10), sides=Sides.APART)["laplacian"]
    states = states.reshape(30, 8, 10, 1)
    states[:, :, :4] = torch.nan
    part = derived_scales(
        ["laplacian"],
        states.reshape(30, 80, 1),
        states.reshape(30, 80, 1),
        (8, 10),
        sides=Sides.APART,
    )["laplacian"]
    torch.testing.assert_close(part.std, whole.std, rtol=0.15, atol=0)


def parts(shape=(12, 15), width=3, size=2):
    std = torch.tensor([2.0, 3.0, 5.0][:size], dtype=torch.float64)
    left = torch.full((size,), 0.1, dtype=torch.float64)
    return HeadParts(shape, width, std, left, left * 2)


@pytest.mark.parametrize("screening", [0.0, 0.04, 1.0])
def test_an_elliptic_head_inverts_its_operator(screening):
    head = Elliptic([[1.0, 1.0], [1.0, -1.0]], [0.0, screening]).build(parts())
    field = images(2, 2, 12, 15)
    inner = (..., slice(3, -3), slice(3, -3))
    kappa = torch.tensor([0.0, screening]).double()[:, None, None]
    source = laplacian(field)[inner] - kappa * field[inner]
    frame = field.clone()
    frame[inner] = 0
    torch.testing.assert_close(head.solve(source, frame), field)


def test_the_next_state_follows_the_frame_and_the_source():
    given = parts()
    modes = torch.tensor([[1.0, 1.0], [1.0, -1.0]]).double()
    head = Elliptic(modes.tolist(), [0.0, 0.04]).build(given)
    expected, boundary = images(180, 2, 2, seed=1), images(180, 2, 2, seed=2)
    output = images(180, 2, 2, seed=3)
    found = head(output, expected, boundary)
    image = ((found - expected) * given.std).permute(1, 2, 0).reshape(2, 2, 12, 15)
    inner, ring = (..., slice(3, -3), slice(3, -3)), torch.ones(12, 15, dtype=torch.bool)
    ring[inner] = False
    # On the frame it is the given state.
    torch.testing.assert_close(
        found.reshape(12, 15, 2, 2)[ring], boundary.reshape(12, 15, 2, 2)[ring]
    )
    in_modes = torch.einsum("mv,bvyx->bmyx", modes, image)
    left = laplacian(in_modes)[inner] - torch.tensor([0.0, 0.04])[:, None, None] * in_modes[inner]
    source = output.permute(1, 2, 0).reshape(2, 2, 12, 15)[inner] * head.scale
    torch.testing.assert_close(left, source)


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a regular grid with a boundary"):
        Elliptic().build(parts()._replace(width=0))
    with pytest.raises(ValueError, match="must be for 2 features, got"):
        Elliptic([[1.0]], [0.0]).build(parts())
    with pytest.raises(ValueError, match="modes must be independent"):
        Elliptic([[1.0, 1.0], [2.0, 2.0]]).build(parts())
    with pytest.raises(ValueError, match="screening at least 0"):
        Elliptic(screening=[0.0, -1.0]).build(parts())
    assert repr(Increment()) == "Increment()"


def test_a_balanced_loss_counts_small_scales():
    grid = LossGrid((6, 8), Sides.APART, torch.tensor([0.5, 2.0]), torch.tensor([1.0, 3.0]))
    loss = LeadWeighted(ScaleBalanced(WeightedSquare(), 0.5), 0.0).on_grid(grid)
    forecast, truth = images(3, 2, 48, 2, seed=4).float(), images(3, 2, 48, 2, seed=5).float()
    spread, nodes = torch.tensor([0.25, 4.0]), torch.rand(48)

    def small(field):
        image = field.transpose(-1, -2).reshape(6, 2, 6, 8)
        return laplacian(image).flatten(2).transpose(1, 2).reshape(field.shape)

    expected = weighted_square_error(forecast, truth, spread, nodes)
    ratio = torch.tensor([2.0, 1.5])
    expected = expected + 0.5 * weighted_square_error(
        small(forecast), small(truth), spread * ratio, nodes
    )
    torch.testing.assert_close(loss(forecast, truth, spread, nodes), expected)
    with pytest.raises(ValueError, match="needs a grid of rows and columns"):
        ScaleBalanced(WeightedSquare()).on_grid(grid._replace(shape=None))
