import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from latentgeom.data.digits import Digits
from latentgeom.data.observations import Observations, Samples
from latentgeom.data.partners import Pairs
from latentgeom.metrics.explicit import ConstantCurvature
from latentgeom.models.losses import RelaxedPenalty, relative_metric, relaxed_distortion
from latentgeom.models.networks import Autoencoder, Perceptron
from latentgeom.shell.guards import NonFiniteError, NonFiniteGuard
from latentgeom.shell.randomness import keyed_uniform
from latentgeom.training.isometric import IsometricAutoencoder


class FewDigits(Digits):
    """Forty digits to train on and thirteen to validate, so that ranks get unequal shares."""

    def setup(self, stage=None):
        super().setup(stage)
        test, validation, training = self._splits
        first = [Observations(s.x[:n], s.y[:n]) for s, n in ((validation, 13), (training, 40))]
        self._splits = [test, *first]


def autoencoder():
    networks = Perceptron(64, 2, [16]), Perceptron(2, 64, [16])
    return IsometricAutoencoder(Autoencoder(*networks, ConstantCurvature(2, -1.0)))


@pytest.fixture(autouse=True)
def _single_precision(_one_thread_in_double_precision):
    torch.set_default_dtype(torch.float32)


class Record(lightning.Callback):
    """Validation losses and final weights, as plain numbers."""

    def __init__(self, path):
        self.path = path

    def on_fit_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            weights = torch.cat([p.detach().flatten() for p in pl_module.parameters()])
            torch.save(
                {"weights": weights, "loss": trainer.callback_metrics["val/isometry"]}, self.path
            )


def fit(path, *, devices=1, batch_size=8, epochs=2, ckpt_path=None, callbacks=(), **options):
    torch.manual_seed(0)
    torch.set_num_threads(1)
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
        default_root_dir=path,
        callbacks=[Record(path / "record.pt"), NonFiniteGuard(), *callbacks],
        **options,
    )
    model, data = autoencoder(), FewDigits(batch_size=batch_size)
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    return torch.load(path / "record.pt")


@pytest.mark.filterwarnings("ignore:.*:")
def test_one_device_with_eight_equals_two_with_four(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = fit(tmp_path / "one", batch_size=8)
    two = fit(tmp_path / "two", batch_size=4, devices=2)
    torch.testing.assert_close(two["weights"], one["weights"], rtol=0, atol=1e-6)
    torch.testing.assert_close(two["loss"], one["loss"], rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("step", [3, 5, 7], ids=["middle", "end", "second"])
def test_stop_and_resume_equals_no_stop(tmp_path, step):
    for name in ("whole", "stopped", "resumed"):
        (tmp_path / name).mkdir()
    whole = fit(tmp_path / "whole")
    save = ModelCheckpoint(
        tmp_path / "stopped", every_n_train_steps=step, save_top_k=-1, filename="{step}"
    )
    fit(tmp_path / "stopped", callbacks=[save])
    resumed = fit(tmp_path / "resumed", ckpt_path=str(tmp_path / "stopped" / f"step={step}.ckpt"))
    assert torch.equal(resumed["weights"], whole["weights"])
    assert torch.equal(resumed["loss"], whole["loss"])


@pytest.mark.filterwarnings("ignore:.*:")
def test_a_non_finite_gradient_stops_before_the_weights_change(tmp_path):
    class Poison(lightning.Callback):
        def on_after_backward(self, trainer, pl_module):
            if trainer.global_step == 3:
                next(pl_module.parameters()).grad.fill_(torch.nan)

    with pytest.raises(NonFiniteError, match=r"step 3 .*none yet"):
        fit(tmp_path, callbacks=[Poison()])


@pytest.mark.filterwarnings("ignore:Attribute '(autoencoder|penalty)'")
@pytest.mark.parametrize("curvature", [-1.0, 0.0])
def test_a_training_step_is_its_formula_on_three_samples(curvature):
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    networks = Perceptron(5, 2, [6]), Perceptron(2, 5, [6])
    net = Autoencoder(*networks, ConstantCurvature(2, curvature))
    for place in net.parameters():  # so that the decoder bends
        place.data *= 3
    net.log_scale.data.fill_(0.3)
    model = IsometricAutoencoder(net, isometry_weight=1.7, seed=4)
    model.log = lambda *arguments, **options: None
    x, partner = torch.randn(2, 3, 5)
    index = torch.tensor([5, 0, 9])
    batch = Pairs(Samples(x, index, index), Samples(partner, index, index))
    found = model.training_step(batch, 0)
    u = keyed_uniform(4, 0, index, (1,), x.dtype)

    def objective(times):
        total = 0.0
        for i in range(3):
            a, b = net.encode(x[i]), net.encode(partner[i])
            z = net.metric.expmap(a, times[i] * net.metric.logmap(a, b)).detach()
            slope = torch.autograd.functional.jacobian(net.decode, z, create_graph=True)
            relative = torch.linalg.solve(net.metric.metric_tensor(z), slope.mT @ slope)
            gap = relative / net.log_scale.exp() - torch.eye(2)
            miss = (net.decode(a) - x[i]).square().sum()
            total = total + (miss + 1.7 * (gap @ gap).trace()) / 3
        return total

    expected = objective(1.2 * u.square() - 0.2)
    torch.testing.assert_close(found, expected)
    places = list(net.parameters())
    for one, two in zip(
        torch.autograd.grad(found, places), torch.autograd.grad(expected, places), strict=True
    ):
        torch.testing.assert_close(one, two)
    # Isometry asked for at the codes alone is another objective.
    assert (objective(torch.zeros(3, 1)) - found).abs() > 1e-3 * found.abs()
    relaxed = IsometricAutoencoder(net, 1.7, seed=4, penalty=RelaxedPenalty())
    relaxed.log = model.log
    a, b = net.encode(x), net.encode(partner)
    z = net.metric.expmap(a, (1.2 * u.square() - 0.2) * net.metric.logmap(a, b))
    miss = (net.decode(a) - x).square().sum(-1).mean()
    penalty = relaxed_distortion(relative_metric(net.decode, net.metric, z))
    torch.testing.assert_close(relaxed.training_step(batch, 0), miss + 1.7 * penalty)
    plain = IsometricAutoencoder(net, isometry_weight=0.0)
    plain.log = model.log
    miss = (net.decode(net.encode(x)) - x).square().sum(-1).mean()
    torch.testing.assert_close(plain.training_step(batch, 0), miss)
