"""A second kind of objects goes through every verb without a line of the package changed."""

import itertools
import json
import math

import lightning.pytorch as lightning
import pyarrow.parquet
import pytest
import torch
from torch import nn

from ardm_guidance import (
    BSDG,
    DiscreteARDM,
    Domain,
    GraphTransformer,
    MoleculeAlphabet,
    MoleculeARDM,
    MoleculeGraphs,
    log_prob,
)
from ardm_guidance.data.modules import Batch
from ardm_guidance.guidance.potentials import Reward
from ardm_guidance.models.orders import by_keys
from ardm_guidance.shell.loading import EvaluationLoader, TrainingLoader
from ardm_guidance.sites.constraints import Connectivity, Constraint, Valence
from ardm_guidance.sites.graphs import MASK, PAD
from ardm_guidance.sites.strain import Unstrained
from ardm_guidance.training.sampling import SamplingTrainer, WriteResults

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning")

LETTERS = "ab"
LONGEST = 4


class NoTwins(Constraint):
    """The letter b never stands beside another one."""

    def forward(self, sites, positions):
        padded = nn.functional.pad(sites, (1, 1), value=PAD)
        beside = torch.stack([padded.gather(-1, positions), padded.gather(-1, positions + 2)])
        free = ~(beside == 1).any(0)
        return torch.stack([torch.ones_like(free), free], -1)

    def holds(self, sites):
        return ~((sites[..., 1:] == 1) & (sites[..., :-1] == 1)).any(-1)


class Words:
    """Words of up to four letters."""

    max_size = num_sites = LONGEST

    def check(self, network):
        if network.net[-1].out_features != LONGEST * len(LETTERS):
            raise ValueError("network must answer for each letter")

    def constraints(self):
        return []

    def look_ahead(self):
        return [NoTwins()]

    def empty(self, sizes):
        present = torch.arange(LONGEST, device=sizes.device) < sizes[..., None]
        return torch.where(present, MASK, PAD)

    def sizes(self, sites):
        return (sites != PAD).sum(-1)

    def columns(self, sites):
        return {"word": "".join(LETTERS[letter] for letter in sites if letter >= 0)}


class Network(nn.Module):
    """Logits of all letters from all that is shown."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        width = LONGEST * (len(LETTERS) + 2)
        self.net = nn.Sequential(nn.Linear(width, 16), nn.Tanh(), nn.Linear(16, LONGEST * 2))

    def forward(self, sites):
        shown = nn.functional.one_hot(sites - PAD, len(LETTERS) + 2).flatten(-2)
        return self.net(shown.to(self.net[0].weight.dtype)).view(*sites.shape, len(LETTERS))


class Dataset:
    def __init__(self, sites):
        self.sites = sites

    def __len__(self):
        return len(self.sites)

    def __getitem__(self, index):
        return Batch(self.sites[index], index)


class WordData(lightning.LightningDataModule):
    """Words in which b is rare, four times as many of them long as short."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        letters = (torch.rand(200, LONGEST, generator=generator) < 0.2).long()
        twins = (letters[:, 1:] == 1) & (letters[:, :-1] == 1)
        letters[:, 1:] -= twins.long()
        sizes = torch.where(torch.arange(200) % 5 == 0, 2, LONGEST)
        self.sites = letters.masked_fill(torch.arange(LONGEST) >= sizes[:, None], PAD)

    def size_counts(self):
        return torch.bincount((self.sites != PAD).sum(-1), minlength=LONGEST + 1)

    def columns(self, row):
        return Words().columns(self.sites[row])

    def train_dataloader(self):
        return TrainingLoader(Dataset(self.sites), 20, 0)

    def val_dataloader(self):
        return EvaluationLoader(Dataset(self.sites), 50)

    test_dataloader = predict_dataloader = val_dataloader


def trainer(path, **options):
    torch.set_num_threads(1)
    return SamplingTrainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, num_sanity_val_steps=0, default_root_dir=path,
        callbacks=[WriteResults()], **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("words")
    model = DiscreteARDM(Words(), Network(), learning_rate=0.02, warmup_steps=5)
    trainer(path, max_epochs=12).fit(model, WordData())
    torch.save({"state_dict": model.state_dict()}, path / "words.ckpt")
    return path, model.eval()


def every_word():
    for size in range(LONGEST + 1):
        for letters in itertools.product(range(2), repeat=size):
            yield torch.tensor([*letters, *[PAD] * (LONGEST - size)])


def test_the_domains_are_domains():
    assert isinstance(Words(), Domain)
    assert isinstance(MoleculeGraphs(MoleculeAlphabet()), Domain)


@torch.no_grad()
def test_probabilities_of_all_words_sum_to_one(trained):
    words = torch.stack(list(every_word()))
    model = trained[1]
    shares = model.size_counts / model.size_counts.sum()
    for seed in range(3):
        keys = torch.rand(1, LONGEST, generator=torch.Generator().manual_seed(seed))
        order = by_keys(words, keys.expand(len(words), -1))
        log_p = log_prob(model.ardm(), words, order)
        total = (log_p.exp() * shares[model.domain.sizes(words)]).sum()
        assert float(total) == pytest.approx(1, abs=1e-5)


def test_words_are_trained_scored_and_sampled(trained, tmp_path):
    folder, model = trained
    run = trainer(tmp_path)
    run.test(model, WordData(), verbose=False)
    scores = json.loads((tmp_path / "test.json").read_text())
    # A law of independent letters has 2.31 nats a word; the labelled graphs are molecules' alone.
    assert scores["nats"] < 2.6
    assert "log_labellings" not in scores
    run.predict(model, WordData(), return_predictions=False)
    rows = pyarrow.parquet.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert [row["index"] for row in rows] == list(range(200))
    assert set(rows[0]) == {"index", "word", "log_prob_bound"}
    fresh = DiscreteARDM(Words(), Network())
    run.sample(fresh, ckpt_path=str(folder / "words.ckpt"), num_samples=400)
    words = [
        row["word"] for row in pyarrow.parquet.read_table(tmp_path / "samples.parquet").to_pylist()
    ]
    assert not any("bb" in word for word in words)
    assert {len(word) for word in words} == {2, 4}
    short = sum(len(word) == 2 for word in words) / len(words)
    assert short == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / 400))
    assert not (tmp_path / "film_strip.png").exists()


@torch.no_grad()
def test_words_are_guided(trained):
    model = trained[1]
    reward = Reward(lambda sites: (sites == 1).sum(-1).double(), 2.0)
    index = torch.arange(60)
    plain, guided = (
        (drawn.sites == 1).double().sum(-1).mean()
        for drawn in (model.draw(index, 0), BSDG(16).draw(model, reward, index, 0))
    )
    assert guided > plain + 0.5


def test_a_network_of_another_alphabet_is_refused():
    other = Network()
    other.net[-1] = nn.Linear(16, 3)
    with pytest.raises(ValueError, match="network must answer for each letter"):
        DiscreteARDM(Words(), other)


def test_a_molecule_model_is_one_of_its_domain():
    network = GraphTransformer(8, 4, 9, width=8, pair_width=8, num_layers=1, num_heads=2)
    model = MoleculeARDM(network, unstrained=True)
    assert [type(one) for one in model.constraints] == [Valence]
    assert [type(one) for one in model.look_ahead] == [Connectivity, Unstrained]
    loose = MoleculeARDM(network, connected=False)
    assert [type(one) for one in loose.look_ahead] == [Valence]
    both = MoleculeARDM(network, connected=False, unstrained=True)
    assert [type(one) for one in both.look_ahead] == [Valence, Unstrained]
