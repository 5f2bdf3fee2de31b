from functools import partial
from itertools import pairwise

import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from neural_lam.data.module import GriddedData
from neural_lam.networks.graph_lam import GraphLAM
from neural_lam.shell.guards import NonFiniteError, NonFiniteGuard
from neural_lam.training.forecaster import Forecaster, rollout_length
from neural_lam.training.schedule import warmup_cosine

pytestmark = pytest.mark.filterwarnings("ignore:.*:")


class Record(lightning.Callback):
    """Scores and final weights, as plain numbers."""

    def __init__(self, path):
        self.path = path

    def on_fit_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            weights = torch.cat([p.detach().flatten() for p in pl_module.parameters()])
            scores = {
                k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")
            }
            torch.save({"weights": weights, "scores": scores}, self.path)


def model(**options):
    torch.manual_seed(0)
    network = partial(GraphLAM, hidden_size=8, num_layers=2)
    return Forecaster(network, look_ahead=True, curriculum={0: 1, 6: 2}, warmup_steps=2, **options)


def data(path, batch_size=8):
    return GriddedData(
        path, ["height"], ["hour"], boundary_width=2, rollout_steps=2, lead_steps=3,
        batch_size=batch_size,        validation_from=0.75, test_from=0.9,
    )  # fmt: skip


def fit(
    store,
    path,
    *,
    devices=1,
    batch_size=8,
    epochs=2,
    ckpt_path=None,
    callbacks=(),
    learning_rate=1e-3,
    **options,
):
    path.mkdir(exist_ok=True)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        default_root_dir=path,
        callbacks=[Record(path / "record.pt"), NonFiniteGuard(), *callbacks],
        **options,
    )
    forecaster = model(learning_rate=learning_rate)
    trainer.fit(
        forecaster,
        data(store, batch_size),
        ckpt_path=ckpt_path,
        weights_only=True if ckpt_path else None,
    )
    return torch.load(path / "record.pt")


def test_one_device_with_eight_equals_two_with_four(tmp_path, wave_store):
    one = fit(wave_store, tmp_path / "one", batch_size=8)
    two = fit(wave_store, tmp_path / "two", batch_size=4, devices=2)
    torch.testing.assert_close(two["weights"], one["weights"], rtol=0, atol=1e-6)
    assert two["scores"] == pytest.approx(one["scores"], rel=1e-5)


@pytest.mark.parametrize("step", [3, 5, 7], ids=["middle", "end", "second"])
def test_stop_and_resume_equals_no_stop(tmp_path, wave_store, step):
    whole = fit(wave_store, tmp_path / "whole")
    save = ModelCheckpoint(
        tmp_path / "stopped", every_n_train_steps=step, save_top_k=-1, filename="{step}"
    )
    fit(wave_store, tmp_path / "stopped", callbacks=[save])
    resumed = fit(
        wave_store, tmp_path / "resumed", ckpt_path=str(tmp_path / "stopped" / f"step={step}.ckpt")
    )
    assert torch.equal(resumed["weights"], whole["weights"])
    assert resumed["scores"] == whole["scores"]


def test_training_learns_to_beat_persistence(tmp_path, wave_store):
    scores = fit(wave_store, tmp_path, epochs=10, batch_size=1, learning_rate=5e-3)["scores"]
    source = data(wave_store)
    errors = [
        (batch.target[:, 0] - batch.initial[:, 1])[:, source.domain.interior > 0, 0]
        for batch in source.val_dataloader()
    ]
    assert scores["val/rmse_height_250_step_1"] < 0.9 * float(
        torch.cat(errors).square().mean().sqrt()
    )


def test_a_checkpoint_is_complete(tmp_path, wave_store):
    fit(wave_store, tmp_path, callbacks=[ModelCheckpoint(tmp_path, filename="last")])
    path = tmp_path / "last.ckpt"
    rebuilt = model()
    content = torch.load(path, weights_only=True)
    rebuilt.on_load_checkpoint(content)
    rebuilt.load_state_dict(content["state_dict"])
    source = data(wave_store)
    batch = next(iter(source.test_dataloader()))
    assert torch.isfinite(rebuilt(batch)).all()
    again = Forecaster.load_from_checkpoint(
        path, network=partial(GraphLAM, hidden_size=8, num_layers=2)
    )
    torch.testing.assert_close(again(batch), rebuilt(batch), rtol=0, atol=0)


def test_the_forecast_does_not_read_the_future_interior(wave_store):
    forecaster, source = model(), data(wave_store)
    forecaster.adopt(source.domain)
    batch = next(iter(source.test_dataloader()))
    inside = source.domain.interior[:, None] > 0
    hidden = torch.where(inside, torch.full_like(batch.target, 1e6), batch.target)
    with torch.no_grad():
        expected, found = forecaster(batch), forecaster(batch._replace(target=hidden))
    assert torch.equal(found, expected)
    assert torch.equal(found[:, :, ~inside[:, 0]], batch.target[:, :, ~inside[:, 0]])


def test_a_non_finite_gradient_stops_before_the_weights_change(tmp_path, wave_store):
    class Poison(lightning.Callback):
        def on_after_backward(self, trainer, pl_module):
            if trainer.global_step == 3:
                next(pl_module.parameters()).grad.fill_(torch.nan)

    with pytest.raises(NonFiniteError, match=r"step 3 .*none yet"):
        fit(wave_store, tmp_path, callbacks=[Poison()])


def test_the_learning_rate_rises_and_falls():
    factors = [warmup_cosine(step, warmup=4, total=20) for step in range(21)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[12] == pytest.approx(0.5)
    assert factors[20] == pytest.approx(0.0)
    assert all(a >= b for a, b in pairwise(factors[4:]))


def test_the_curriculum_holds_from_its_step_on():
    assert [rollout_length(step, {0: 1, 3: 2, 5: 4}) for step in range(7)] == [1, 1, 1, 2, 2, 4, 4]
    with pytest.raises(ValueError, match="must start at 0"):
        Forecaster(GraphLAM, curriculum={3: 1})


def test_a_checkpoint_holds_the_average_of_the_weights(wave_store, tmp_path):
    class Trace(lightning.Callback):
        def __init__(self):
            self.weights = []

        def on_train_batch_end(self, trainer, pl_module, *_):
            self.name, weight = next(iter(pl_module.named_parameters()))
            self.weights.append(weight.detach().clone())

    trace = Trace()
    average = EMAWeightAveraging(decay=0.8)
    saved = ModelCheckpoint(dirpath=tmp_path, filename="last", enable_version_counter=False)
    options = {"limit_val_batches": 0, "limit_train_batches": 6}
    fit(wave_store, tmp_path, epochs=1, callbacks=[average, trace, saved], **options)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    found = state[trace.name]
    expected = trace.weights[0]
    for weights in trace.weights[1:]:
        expected = 0.8 * expected + 0.2 * weights
    assert not torch.allclose(found, trace.weights[-1], atol=1e-6)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
