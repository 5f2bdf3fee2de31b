import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from latentgeom import Arrays, Scaling
from latentgeom.data.observations import held_out, split
from latentgeom.shell.errors import InputError


@pytest.fixture
def file(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4)) * [1.0, 20.0, 0.3, 0.0] + [3.0, -7.0, 0.0, 5.0]
    np.savez(tmp_path / "a.npz", points=x, label=np.arange(100))
    return str(tmp_path / "a.npz"), x


def parts(data):
    data.setup()
    return data._splits


def test_every_observation_is_in_one_split(file):
    path, _ = file
    test, validation, training = parts(Arrays(path, labels="label", test_share=0.3, seed=4))
    assert [len(test), len(validation), len(training)] == [30, 10, 60]
    labels = torch.cat([part.y for part in (test, validation, training)])
    assert labels.sort().values.tolist() == list(range(100))
    assert labels.tolist() != list(range(100))
    again = parts(Arrays(path, labels="label", test_share=0.3, seed=5))
    assert again[0].y.tolist() != test.y.tolist()


def test_columns_are_scaled_by_what_is_learnt(file):
    path, x = file
    data = Arrays(path, labels="label")
    training = parts(data).training
    torch.testing.assert_close(
        training.x.mean(0), torch.zeros(4, dtype=torch.float32), atol=1e-5, rtol=0
    )
    deviation = training.x.std(0, correction=0)
    torch.testing.assert_close(deviation, torch.tensor([1.0, 1, 1, 0], dtype=torch.float32))
    held = data.held_out()
    original = torch.from_numpy(x)[held.y]
    torch.testing.assert_close(data.scaled.apply(original).float(), held.x)
    torch.testing.assert_close(data.scaled.invert(held.x.double()), original, rtol=1e-5, atol=1e-5)


def test_one_factor_for_all_columns_keeps_the_shape(file):
    x = torch.from_numpy(file[1])
    scaled = Scaling(each_column=False).fit(x)
    y = scaled.apply(x)
    ratio = torch.pdist(y) / torch.pdist(x)
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert y[:, :3].var(0, correction=0).sum() == pytest.approx(4)
    untouched = Scaling(centre=False, scale=False).fit(x)
    assert torch.equal(untouched.apply(x), x)


def test_loaders_give_what_a_model_needs(file):
    data = Arrays(file[0], batch_size=500)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert batch.first.x.shape == (70, 4)
    assert batch.first.x.dtype == torch.float32
    assert sum(len(b.x) for b in data.val_dataloader()) == 10
    assert sum(len(b.x) for b in data.predict_dataloader()) == 20
    assert data.num_features == 4


def test_unusable_settings_are_refused(file, tmp_path):
    with pytest.raises(ValueError, match=r"test_share must be between 0 and 1, got 1\.5"):
        Arrays(file[0], test_share=1.5)
    with pytest.raises(ValueError, match=r"validation_share \+ test_share must be"):
        Arrays(file[0], test_share=0.6, validation_share=0.6)
    np.save(tmp_path / "few.npy", np.zeros((4, 2)))
    with pytest.raises(InputError, match="4 observations are too few to split"):
        Arrays(str(tmp_path / "few.npy")).setup()


def test_any_data_module_has_held_out_observations():
    import lightning.pytorch as lightning

    x, y = torch.randn(7, 3), torch.arange(7)

    class Plain(lightning.LightningDataModule):
        def test_dataloader(self):
            return DataLoader(TensorDataset(x, y), batch_size=3)

    found = held_out(Plain())
    assert torch.equal(found.x, x)
    assert torch.equal(found.y, y)
    assert found.sample_index.tolist() == list(range(7))

    class Bare(lightning.LightningDataModule):
        def test_dataloader(self):
            return DataLoader(x, batch_size=3)

    assert torch.equal(held_out(Bare()).x, x)
    assert held_out(Bare()).y.tolist() == [0] * 7


def test_splits_follow_their_seed():
    x, y = torch.arange(20.0)[:, None], torch.arange(20)
    first, second = split(x, y, 3, 5, seed=1), split(x, y, 3, 5, seed=1)
    assert [len(part) for part in first] == [5, 3, 12]
    assert all(torch.equal(a.x, b.x) for a, b in zip(first, second, strict=True))
