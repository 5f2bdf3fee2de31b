from functools import partial

import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
import xarray as xr

from neural_lam.data.domain import domain_from_dict, domain_to_dict
from neural_lam.data.module import GriddedData
from neural_lam.fields.areas import frame_interior
from neural_lam.networks.graph_lam import GraphLAM
from neural_lam.predictors.boundary import FutureBoundary
from neural_lam.predictors.day_guess import fit_day_guess
from neural_lam.predictors.direct import DirectResidual, damping_factors
from neural_lam.predictors.losses import interior_mean
from neural_lam.predictors.step import (
    BoundaryForced,
    Standardised,
    StepPredictor,
    correction_used,
    keep_correction,
)
from neural_lam.training.building import build_direct_predictor
from neural_lam.training.direct import DirectForecaster

pytestmark = pytest.mark.filterwarnings("ignore:.*:")

SHAPE, PERIOD = (9, 11), 4


def days(num_times=120):
    """A diurnal cycle that grows, and waves of which two fit into every field."""
    t, y, x = np.ogrid[:num_times, : SHAPE[0], : SHAPE[1]]
    cycle = (10 + 0.05 * t) * np.sin(2 * np.pi * t / PERIOD) * (1 + 0.1 * y)
    wave = np.cos(0.4 * x - 0.17 * t) + 0.6 * np.sin(0.5 * y + 0.29 * t)
    return torch.from_numpy(280 + cycle + wave).flatten(1)[..., None].float()


def written(path, fields):
    values = fields.reshape(-1, *SHAPE).numpy()
    times = np.datetime64("2020-03-01", "ns") + np.arange(len(values)) * np.timedelta64(6, "h")
    xr.Dataset(
        {"t2m": (("time", "latitude", "longitude"), values, {"units": "K"})},
        {"time": times, "latitude": 50.0 + np.arange(9), "longitude": np.arange(11.0)},
    ).to_zarr(path, consolidated=False)
    return str(path)


@pytest.fixture
def store(tmp_path):
    """They as a zarr store."""
    return written(tmp_path / "days.zarr", days())


def data(store, *, held=False):
    return GriddedData(
        store, ["t2m"], ["hour"], boundary_width=2, day_components=4, held_boundary=held,
        rollout_steps=4, lead_steps=4, batch_size=4, validation_from=0.6, test_from=0.8,
    )  # fmt: skip


def predictor(given, *, held=False):
    torch.manual_seed(0)
    network = partial(GraphLAM, hidden_size=8, num_layers=1)
    return build_direct_predictor(given.domain, network, FutureBoundary(held))


def silent(found):
    """Leaves the linear guess alone."""
    keep_correction(found, 0)
    found.eval()
    return found


def run(found, batch, boundary=None):
    leads = torch.arange(batch.target.shape[1])
    given = batch.target if boundary is None else boundary
    with torch.no_grad():
        return found(batch.initial, batch.forcing, given, batch.sample, leads)


@pytest.mark.parametrize("held", [False, True])
def test_the_guess_is_exact_where_change_since_yesterday_is_linear(store, held):
    # Cycle and waves are sums of a few exponentials in time: two states in each of four
    # components fix them, and the growth of the cycle is the change since yesterday itself.
    given = data(store, held=held)
    batch = next(iter(given.test_dataloader()))
    found = run(silent(predictor(given, held=held)), batch)
    inside = given.domain.interior > 0
    error = (found - batch.target)[:, :, inside].square().mean().sqrt()
    yesterday = (batch.initial[:, 2:6] - batch.target)[:, :, inside].square().mean().sqrt()
    assert error < 0.06 * yesterday


def test_the_guess_reads_the_future_on_the_boundary_alone(store):
    given = data(store)
    batch, found = next(iter(given.test_dataloader())), predictor(data(store))
    inside = given.domain.interior > 0
    hidden = batch.target.clone()
    hidden[:, :, inside] = torch.nan
    assert torch.equal(run(found, batch, hidden), run(found, batch))
    assert torch.equal(run(found, batch)[:, :, ~inside], batch.target[:, :, ~inside])
    shifted = batch.target + 1
    assert not torch.allclose(
        run(found, batch, shifted)[:, :, inside], run(found, batch)[:, :, inside]
    )


def test_without_the_boundary_nothing_of_the_future_is_read(store):
    given = data(store, held=True)
    batch, found = next(iter(given.test_dataloader())), predictor(given, held=True)
    nothing = torch.full_like(batch.target, torch.nan)
    expected = run(found, batch, batch.initial[:, -1:].expand_as(batch.target))
    assert torch.isfinite(expected).all()
    assert torch.equal(run(found, batch, nothing), expected)


def test_training_times_get_weights_that_were_fitted_without_them():
    states, interior = days(), frame_interior(SHAPE, 2)
    guess = fit_day_guess(states, interior, SHAPE, period=PERIOD, num_components=4)
    assert guess.blocks[0] == PERIOD + 1
    noisy = states.clone()
    # Noise in one block's targets must not change that block's own weights, but all others'.
    first, last = int(guess.blocks[1]), int(guess.blocks[2])
    generator = torch.Generator().manual_seed(0)
    part = slice(first + PERIOD, last - PERIOD)
    noise = torch.randn(states[part].shape, generator=generator)
    noisy[part] += 1e-3 * noise
    other = fit_day_guess(noisy, interior, SHAPE, period=PERIOD, num_components=4)

    def fields(found, block):
        # Components may turn or change sign; what they forecast may not.
        return found.interior_basis @ found.maps[block, 0, :4] @ found.target_basis.T

    def moved(block):
        return float((fields(other, block) - fields(guess, block)).abs().max())

    assert moved(1) < 0.2 * min(moved(0), moved(2), moved(3), moved(4))


def test_a_domain_with_a_guess_survives_a_checkpoint(store):
    domain = data(store).domain
    again = domain_from_dict(domain_to_dict(domain))
    assert torch.equal(again.day_guess.maps, domain.day_guess.maps)
    assert again.day_guess.shape == SHAPE


def test_training_reduces_the_loss_and_repeats_itself(store, tmp_path):
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        model = DirectForecaster(partial(GraphLAM, hidden_size=8, num_layers=1), num_leads=2)
        trainer = lightning.Trainer(
            max_steps=30, logger=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0, default_root_dir=tmp_path, accelerator="cpu",
            enable_checkpointing=False, use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(model, data(store))
        losses.append(float(trainer.callback_metrics["val/loss"]))
    assert losses[0] == losses[1]
    assert np.isfinite(losses[0])


def test_the_damping_leaves_the_least_error(tmp_path):
    torch.manual_seed(0)
    fields = days()
    store = written(tmp_path / "noisy.zarr", fields + torch.randn(fields.shape))
    model = DirectForecaster(partial(GraphLAM, hidden_size=8, num_layers=1))
    trainer = lightning.Trainer(
        logger=False, enable_progress_bar=False, default_root_dir=tmp_path, accelerator="cpu",
        use_distributed_sampler=False,
    )  # fmt: skip
    given = data(store)
    [found] = trainer.validate(model, given, verbose=False)
    factors = model.predictor.correction.clone()
    assert ((factors >= 0) & (factors <= 1)).all()
    [again] = trainer.validate(model, given, verbose=False)
    assert again == found
    model.eval()
    batches = list(given.val_dataloader())

    def error():
        with torch.no_grad():
            squares = [
                interior_mean(model._squares(batch), model.loss_weights) for batch in batches
            ]
        return float(torch.cat(squares)[:, 0].sum())

    least = error()
    for factor in (0.0, 1.0, float(factors[0]) * 0.9):
        model.predictor.correction[0] = factor
        assert error() >= least * (1 - 1e-6)
    assert damping_factors(
        torch.tensor([2.0, -1.0, 0.5, 0.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    ).tolist() == [1, 0, 0.5, 0]


def test_model_and_data_must_agree(store):
    with pytest.raises(ValueError, match="must agree on held_boundary"):
        predictor(data(store, held=True))
    plain = GriddedData(store, ["t2m"], boundary_width=2, lead_steps=4)
    with pytest.raises(ValueError, match="needs data with day_components"):
        predictor(plain)


def test_a_period_too_short_for_a_guess_is_refused():
    with pytest.raises(ValueError, match="needs 36 states, got 20"):
        fit_day_guess(days(20), frame_interior(SHAPE, 2), SHAPE, period=PERIOD)


def test_each_half_is_scored_with_the_factors_of_the_other():
    model = DirectForecaster(lambda *sizes: None)
    model.register_buffer("loss_scale", torch.ones(1))
    model.predictor = torch.nn.Module()
    model.predictor.register_buffer("correction", torch.ones(1, 1))
    reported = []
    model._report = lambda split, square: reported.append(square)
    # Half 0 would take half of the correction, half 1 none of it.
    model.means.update(
        torch.tensor([[[[1.0], [0.5], [1.0]], [[1.0], [0.0], [1.0]]]], dtype=torch.float64)
    )
    model.on_validation_epoch_end()
    assert float(model.predictor.correction) == 0.25
    torch.testing.assert_close(reported[0].flatten(), torch.tensor([1.0 + 1.25]).double())


def test_it_goes_through_the_wrappers_of_every_forecast(store):
    given = data(store)
    domain, batch = given.domain, next(iter(given.test_dataloader()))
    found = predictor(given)
    kinds = [type(module) for module in found.modules()]
    assert [k for k in kinds if issubclass(k, StepPredictor)] == [
        BoundaryForced, Standardised, DirectResidual,
    ]  # fmt: skip
    inside = domain.interior > 0
    free = run(found.eval(), batch)[:, :, inside]
    # Bounds on both sides of which the free forecast has values.
    middle = free.median()
    torch.manual_seed(0)
    network = partial(GraphLAM, hidden_size=8, num_layers=1)
    bounds = middle[None], torch.tensor([torch.inf])
    bounded = run(build_direct_predictor(domain, network, bounds=bounds), batch)[:, :, inside]
    assert free.min() < middle <= bounded.min()


def test_other_units_give_the_same_forecast(store):
    given = data(store)
    batch, domain = next(iter(given.test_dataloader())), given.domain
    expected = run(silent(predictor(given)), batch)
    # Degrees Fahrenheit: a factor and a constant.
    mean, std = domain.statistics[:2]
    other = domain._replace(
        statistics=domain.statistics._replace(mean=1.8 * mean - 459.67, std=1.8 * std),
        day_guess=domain.day_guess._replace(scale=1.8 * domain.day_guess.scale),
    )
    network = partial(GraphLAM, hidden_size=8, num_layers=1)
    fields = {n: 1.8 * getattr(batch, n) - 459.67 for n in ("initial", "target")}
    found = run(silent(build_direct_predictor(other, network)), batch._replace(**fields))
    torch.testing.assert_close((found + 459.67) / 1.8, expected, rtol=0, atol=1e-3)


def test_a_correction_that_counts_for_nothing_may_be_anything(store):
    given = data(store)
    batch, found = next(iter(given.test_dataloader())), silent(predictor(given))
    expected = run(found, batch)
    assert not correction_used(found)
    with torch.no_grad():
        for weight in found.residual.network.parameters():
            weight.fill_(torch.nan)
    assert torch.equal(run(found, batch), expected)
    found.correction[1] = 1
    assert correction_used(found)
    inside = given.domain.interior > 0
    assert run(found, batch)[:, 1, inside].isnan().all()


def test_each_window_takes_the_weights_of_its_own_block(tmp_path):
    torch.manual_seed(0)
    fields = days()
    given = data(written(tmp_path / "noisy.zarr", fields + torch.randn(fields.shape)))
    found = silent(predictor(given))
    windows = given.train_dataloader().dataset
    batch = windows[torch.tensor([0, len(windows) // 2, len(windows) - 1])]
    assert len(set(found._block(batch.sample).tolist())) == 3
    together = run(found, batch)
    for number in range(3):
        alone = type(batch)(*(field[number : number + 1] for field in batch))
        torch.testing.assert_close(together[number : number + 1], run(found, alone))
    # The weights differ: those of another block give another forecast.
    other = batch._replace(sample=batch.sample.flip(0))
    assert (run(found, other)[0] - together[0]).abs().max() > 1e-2
