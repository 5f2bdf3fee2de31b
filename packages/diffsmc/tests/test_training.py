import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from diffsmc import SkewedGaussian
from diffsmc.methods.tempering import Tempering
from diffsmc.potentials.learned import VectorNetwork
from diffsmc.results.files import read_result, to_record
from diffsmc.shell.checkpoints import CheckpointError
from diffsmc.shell.errors import InputError
from diffsmc.shell.guards import NonFiniteError, NonFiniteGuard
from diffsmc.smc.estimators import evidence
from diffsmc.smc.moves import HMC
from diffsmc.training.particles import ParticleData
from diffsmc.training.potential import IslandWriter, PotentialTraining, TrainedPotential

pytestmark = pytest.mark.filterwarnings("ignore:.*:")


class Record(lightning.Callback):
    """Validation losses and final weights, as plain numbers."""

    def __init__(self, path):
        self.path = path

    def on_fit_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            weights = torch.cat([p.detach().flatten() for p in pl_module.parameters()])
            loss = trainer.callback_metrics["val/loss"]
            torch.save({"weights": weights, "loss": loss}, self.path)


def particle_data(batch_size=10, **options):
    pilot = Tempering(0.6, move=HMC(3), num_moves=1, adapt_islands=None)
    target = SkewedGaussian(2, 2.0)
    return ParticleData(target, pilot, num_particles=20, batch_size=batch_size, **options)


def trainer_at(path, *, devices=1, epochs=2, callbacks=(), **options):
    torch.set_num_threads(1)
    return lightning.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=path,
        callbacks=[NonFiniteGuard(), *callbacks],
        **options,
    )


def model(**options):
    torch.manual_seed(0)
    return PotentialTraining(VectorNetwork(2, 16), num_steps=6, num_particles=40, **options)


def fit(path, *, batch_size=10, ckpt_path=None, callbacks=(), **options):
    path.mkdir(exist_ok=True)
    trainer = trainer_at(path, callbacks=[Record(path / "record.pt"), *callbacks], **options)
    resume = {"ckpt_path": ckpt_path, "weights_only": True} if ckpt_path else {}
    trainer.fit(model(), particle_data(batch_size), **resume)
    return torch.load(path / "record.pt")


def test_one_device_with_ten_equals_two_with_five(tmp_path):
    one = fit(tmp_path / "one", batch_size=10)
    two = fit(tmp_path / "two", batch_size=5, devices=2)
    torch.testing.assert_close(two["weights"], one["weights"], rtol=0, atol=1e-6)
    torch.testing.assert_close(two["loss"], one["loss"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("step", [4, 6, 9], ids=["middle", "end", "second"])
def test_stop_and_resume_equals_no_stop(tmp_path, step):
    whole = fit(tmp_path / "whole")
    save = ModelCheckpoint(
        tmp_path / "stopped", every_n_train_steps=step, save_top_k=-1, filename="{step}"
    )
    fit(tmp_path / "stopped", callbacks=[save])
    resumed = fit(tmp_path / "resumed", ckpt_path=str(tmp_path / "stopped" / f"step={step}.ckpt"))
    assert torch.equal(resumed["weights"], whole["weights"])
    assert torch.equal(resumed["loss"], whole["loss"])


def test_a_non_finite_gradient_stops_before_the_weights_change(tmp_path):
    class Poison(lightning.Callback):
        def on_after_backward(self, trainer, pl_module):
            if trainer.global_step == 3:
                next(pl_module.parameters()).grad.fill_(torch.nan)

    with pytest.raises(NonFiniteError, match=r"step 3 .*none yet"):
        fit(tmp_path, callbacks=[Poison()])


def test_training_lowers_the_score_error(tmp_path):
    pilot = Tempering(0.6, move=HMC(3), num_moves=1, adapt_islands=None)
    target = SkewedGaussian(2, 4.0)
    data = ParticleData(target, pilot, num_particles=600, batch_size=60)
    network, trainer = model(learning_rate=1e-2), trainer_at(tmp_path, epochs=20)
    before = trainer.validate(network, data, verbose=False)[0]["val/loss"]
    trainer.fit(network, data)
    assert trainer.callback_metrics["val/loss"] < 0.97 * before  # most of the error is noise


def test_prediction_does_not_depend_on_the_number_of_devices(tmp_path):
    normalizers = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        trainer = trainer_at(folder, devices=devices, callbacks=[IslandWriter()])
        trainer.predict(model(), particle_data(num_islands=5), return_predictions=False)
        normalizers.append(to_record(read_result(folder / "predicted.nc")).log_normalizers)
        assert [file.name for file in folder.iterdir()] == ["predicted.nc"]
    assert len(normalizers[0]) == 5
    torch.testing.assert_close(normalizers[1], normalizers[0], rtol=1e-12, atol=0)


def test_a_prediction_never_replaces_an_earlier_one_unasked(tmp_path):
    (tmp_path / "predicted.nc").write_text("somebody's")
    trainer = trainer_at(tmp_path, callbacks=[IslandWriter()])
    with pytest.raises(InputError, match=r"predicted.nc: is there already; --overwrite"):
        trainer.predict(model(), particle_data(num_islands=2), return_predictions=False)
    assert (tmp_path / "predicted.nc").read_text() == "somebody's"


def test_the_validation_error_is_the_mean_over_particles_and_no_nan_passes(tmp_path):
    """Batches of 8, 8 and 4: a mean of batches would be another number."""
    network, data = model(), particle_data(batch_size=8)
    with torch.no_grad():
        network.network.layers[-1].weight.fill_(0.1)
    (found,) = trainer_at(tmp_path).validate(network, data, verbose=False)
    batch = data.validation[torch.arange(20)]
    with torch.no_grad():
        expected = network._loss(batch, 0)
    assert found["val/loss"] == pytest.approx(float(expected.mean()), rel=1e-6)
    assert abs(float(expected[:16].reshape(2, 8).mean(-1).sum() + expected[16:].mean()) / 3
               - found["val/loss"]) > 1e-3  # fmt: skip
    data.validation.grad[3] = torch.nan
    with pytest.raises(RuntimeError, match="nan"):
        trainer_at(tmp_path).validate(network, data, verbose=False)


def test_predicted_evidence_is_unbiased_without_any_training(tmp_path):
    output = str(tmp_path / "islands.nc")
    trainer = trainer_at(tmp_path, callbacks=[IslandWriter(output)])
    network = model()
    network.num_particles = 200
    trainer.predict(network, particle_data(num_islands=60), return_predictions=False)
    one = evidence(to_record(read_result(output)).log_normalizers)
    assert abs(one.log_normalizer) < 3.5 * one.standard_error


def test_a_dimension_that_does_not_fit_is_refused(tmp_path):
    wrong = PotentialTraining(VectorNetwork(3, 4))
    with pytest.raises(ValueError, match=r"network.dim must be the target's 2, got 3"):
        trainer_at(tmp_path).fit(wrong, particle_data())


def test_a_checkpoint_from_python_is_not_taken_for_one_of_the_command_line(tmp_path):
    fit(tmp_path)
    (path,) = tmp_path.rglob("*.ckpt")
    with pytest.raises(CheckpointError, match="its network was built in Python"):
        TrainedPotential(str(path))


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("nan"), float("inf")])
def test_learning_rates_that_learn_nothing_are_refused(rate):
    from diffsmc import PotentialTraining, VectorNetwork

    with pytest.raises(ValueError, match="learning_rate must be"):
        PotentialTraining(VectorNetwork(2), learning_rate=rate)
