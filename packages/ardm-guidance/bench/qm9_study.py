"""Discriminator guidance on QM9: FADG against no guidance, ARDG, BSDG and best-of-N.

One command runs everything, for each seed: train a generator for 1800 CPU-seconds, generate
negatives, train and calibrate a discriminator for 900 (together three quarters of 30 minutes on
2 cores), sample 10 000 molecules by each method, score them against the test split.  A budget in
CPU-seconds means the same on a loaded machine.  Every stage goes on where it was stopped; finished
records stay in ``qm9_study.json`` beside this file, with the settings that they were made with.

Samples are drawn with compiled networks in bfloat16, 1.5 times as fast as in float32 and eagerly;
training and scores are in float32.  A network evaluation is a row that a network is given.

    python bench/qm9_study.py                            # everything
    python bench/qm9_study.py --seeds 0 --until train    # a part of it
    python bench/qm9_study.py --methods unguided fadg    # and another
    python bench/qm9_study.py --merge a.json b.json      # records of runs side by side
    python bench/qm9_study.py --train_seconds 60 ... --output other.json --folder other

Needs ``qm9pack`` and ``fcd-torch`` (``pip install --no-deps``).
"""

import argparse
import json
import logging
import math
import os
import statistics as stdlib_statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import lightning.pytorch as lightning  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from ardm_guidance.data.files import Molecules, read_molecules  # noqa: E402
from ardm_guidance.data.modules import MoleculeData  # noqa: E402
from ardm_guidance.data.splits import Split  # noqa: E402
from ardm_guidance.guidance.discriminator import Discriminator  # noqa: E402
from ardm_guidance.guidance.potentials import LateStart, Potential  # noqa: E402
from ardm_guidance.methods.ardg import ARDG  # noqa: E402
from ardm_guidance.methods.best_of import BestOf  # noqa: E402
from ardm_guidance.methods.bsdg import BSDG  # noqa: E402
from ardm_guidance.methods.fadg import FADG  # noqa: E402
from ardm_guidance.methods.importance import Importance  # noqa: E402
from ardm_guidance.methods.method import Method  # noqa: E402
from ardm_guidance.methods.unguided import Plain  # noqa: E402
from ardm_guidance.models.ardm import OrderAgnosticARDM, sample  # noqa: E402
from ardm_guidance.models.networks import GraphTransformer  # noqa: E402
from ardm_guidance.scores.chemnet import load_chemnet  # noqa: E402
from ardm_guidance.scores.evaluation import check, score  # noqa: E402
from ardm_guidance.scores.moses import distances, statistics  # noqa: E402
from ardm_guidance.scores.plots import evaluations_plot  # noqa: E402
from ardm_guidance.shell.checkpoints import read_checkpoint  # noqa: E402
from ardm_guidance.sites.molecules import MoleculeAlphabet  # noqa: E402
from ardm_guidance.training.discriminator import (  # noqa: E402
    DiscriminatorData,
    JudgedDataset,
    MoleculeDiscriminator,
    load_discriminator,
    read_generated,
)
from ardm_guidance.training.molecule_ardm import MoleculeARDM  # noqa: E402
from ardm_guidance.training.sampling import write_parquet  # noqa: E402

HERE = Path(__file__).parent
ALPHABET = MoleculeAlphabet()
NETWORK = {"width": 96, "pair_width": 48, "num_layers": 4, "num_heads": 4}
PEAK, HORIZON, BATCH = 2e-3, 1000, 128
GUIDE_PEAK, GUIDE_BATCH = 5e-4, 128
SITES, ROWS = 45, 128
STAGES = ("train", "negatives", "discriminator", "sample", "score")
SETTINGS = (
    "train_seconds", "guide_seconds", "negatives", "samples", "particles", "guide_start",
)  # fmt: skip
COLUMNS = ("valid", "valid_connected", "unique", "novel", "vun", "fcd", "snn")
METHODS = ("unmasked", "unguided", "ardg", "fadg", "best", "proportional", "bsdg")


class CpuBudget(lightning.Callback):
    """Ends training when its CPU time is spent; the learning rate follows half a cosine of it.

    Arguments:
        seconds: CPU time of the training, all threads together.
        peak: Largest learning rate.
        path: Checkpoint, written every minute of CPU time.
        warmup: Steps of the rise.
    """

    def __init__(self, seconds: float, peak: float, path: Path, warmup: int = 200) -> None:
        self.seconds, self.peak, self.path, self.warmup = seconds, peak, path, warmup
        self.spent, self.saved = 0.0, 0.0

    def state_dict(self) -> dict[str, float]:
        """CPU seconds spent."""
        return {"spent": self.spent}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on with the clock."""
        self.spent = self.saved = state["spent"]

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Start the clock of this process."""
        self.start = time.process_time() - self.spent

    def on_train_batch_start(self, trainer: lightning.Trainer, *others: Any) -> None:
        """Set the learning rate."""
        self.spent = time.process_time() - self.start
        fraction = min(1.0, self.spent / self.seconds)
        rise = min(1.0, (trainer.global_step + 1) / self.warmup)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.peak * rise * (0.505 + 0.495 * math.cos(math.pi * fraction))

    def on_train_batch_end(self, trainer: lightning.Trainer, *others: Any) -> None:
        """Save, and stop when the time is spent."""
        self.spent = time.process_time() - self.start
        done = self.spent >= self.seconds
        if done or self.spent - self.saved > 60:
            self.saved = self.spent
            unfinished = self.path.with_name(self.path.name + ".part")
            trainer.save_checkpoint(unfinished)
            os.replace(unfinished, self.path)
        trainer.should_stop = trainer.should_stop or done


def trainer(folder: Path, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    """A quiet Trainer on the CPU."""
    return lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=-1, logger=False, callbacks=callbacks,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        gradient_clip_val=1.0, limit_val_batches=1.0, check_val_every_n_epoch=10**9,
        num_sanity_val_steps=0, default_root_dir=folder, use_distributed_sampler=False,
    )  # fmt: skip


class Study:
    """Records, settings and files of the study.

    Arguments:
        options: The command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder = options, Path(options.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = Path(options.output)
        self.settings = {name: getattr(options, name) for name in SETTINGS} | {
            "network": NETWORK, "learning_rate": PEAK, "average_horizon": HORIZON, "batch": BATCH,
            "masked_loss": False, "guide_learning_rate": GUIDE_PEAK, "guide_batch": GUIDE_BATCH,
            "sampling": "compiled, bfloat16",
            "data": "qm9pack, 130 831 molecules, random split seed 0", "threads": 1,
        }  # fmt: skip
        self.records: list[dict[str, Any]] = self._read()
        self.molecules = self._data()
        self.parts = Split(0.05, 0.1, 0).indices(len(self.molecules.sites))

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        content = json.loads(self.path.read_text())
        if content["settings"] != self.settings:
            raise SystemExit(f"{self.path}: made with other settings; give another --output")
        records: list[dict[str, Any]] = content["records"]
        return records

    def add(self, **record: Any) -> None:
        """Append a record and write the file, whole or not at all."""
        self.records.append(record)
        content = {
            "command": "python bench/qm9_study.py", "settings": self.settings,
            "records": self.records,
        }  # fmt: skip
        unfinished = self.path.with_name(self.path.name + ".part")
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        os.replace(unfinished, self.path)
        print(json.dumps(record), flush=True)

    def merge(self, paths: list[str]) -> None:
        """Add the records of other files, made with the same settings, that are not here yet."""
        for path in paths:
            try:
                content = json.loads(Path(path).read_text())
            except (OSError, ValueError) as error:
                raise SystemExit(f"{path}: expected the records of a run, got {error}") from None
            if content["settings"] != self.settings:
                raise SystemExit(f"{path}: made with other settings than asked for")
            for record in content["records"]:
                if not self.done(**record):
                    self.add(**record)

    def done(self, **key: Any) -> bool:
        """Whether there is a record with these values."""
        return any(key.items() <= record.items() for record in self.records)

    def _data(self) -> Molecules:
        path = self.folder / "qm9.pt"
        if not path.is_file():
            molecules = read_molecules("qm9", ALPHABET)
            assert not molecules.rejected
            keep({"sites": molecules.sites, "smiles": molecules.smiles}, path)
        content = torch.load(path, weights_only=True)
        return Molecules(content["sites"].to(torch.int8), content["smiles"], [], {})

    def data(self, seed: int) -> MoleculeData:
        """The molecules as a data module."""
        data = MoleculeData("qm9", batch_size=BATCH, seed=seed)
        data.molecules, data.parts = self.molecules, self.parts
        return data

    def generator_path(self, seed: int) -> Path:
        """Checkpoint of a generator."""
        return self.folder / f"generator-{seed}.ckpt"

    def guide_path(self, seed: int) -> Path:
        """Checkpoint of a discriminator."""
        return self.folder / f"discriminator-{seed}.ckpt"

    def generator(self, seed: int) -> MoleculeARDM:
        """A trained generator."""
        model = untrained(seed)
        model.load_state_dict(read_checkpoint(self.generator_path(seed))["state_dict"])
        return model.eval().requires_grad_(False)


def network() -> GraphTransformer:
    """The size of the study, of generators and discriminators alike."""
    return GraphTransformer(ALPHABET.num_atom_classes, 4, ALPHABET.max_atoms, **NETWORK)


def untrained(seed: int) -> MoleculeARDM:
    """A generator to be trained; without masks in its loss, so that it can go without them."""
    return MoleculeARDM(
        network(), learning_rate=PEAK, average_horizon=HORIZON, seed=seed, masked_loss=False
    )


def keep(content: Any, path: Path) -> None:
    """Save, whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    torch.save(content, unfinished)
    os.replace(unfinished, path)


def fit(
    study: Study,
    module: lightning.LightningModule,
    data: lightning.LightningDataModule,
    budget: CpuBudget,
) -> lightning.Trainer:
    """Train until the budget is spent, from its checkpoint where there is one."""
    runner = trainer(study.folder, [budget])
    start = budget.path if budget.path.is_file() else None
    runner.fit(module, data, ckpt_path=start, weights_only=True)
    return runner


def train(study: Study, seed: int) -> None:
    """Generator, and its bound on the validation split."""
    lightning.seed_everything(seed, verbose=False)
    module = untrained(seed)
    data = study.data(seed)
    budget = CpuBudget(study.options.train_seconds, PEAK, study.generator_path(seed))
    runner = fit(study, module, data, budget)
    steps = runner.global_step
    found = runner.validate(module, data, verbose=False)[0]
    study.add(
        seed=seed, stage="train", cpu_seconds=budget.spent, steps=steps,
        epochs=steps * BATCH / len(study.parts["train"]),
        parameters=sum(weight.numel() for weight in module.network.parameters()),
        validation={key.removeprefix("val/"): value for key, value in found.items()},
    )  # fmt: skip


class Quick:
    """A function of rows, compiled for batches of one size in bfloat16, that counts them.

    Arguments:
        function: Maps tensors ``(B, ...)`` to one tensor or a tuple of them.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = torch.compile(function, dynamic=False, options={"freezing": True})
        self.rows = 0

    def _piece(self, *rows: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16):
            found = self.function(*rows)
        return found if isinstance(found, tuple) else (found,)

    def __call__(self, *rows: Tensor) -> Any:
        """The function's values, in float32."""
        number = len(rows[0])
        self.rows += number
        fill = torch.arange(-(-number // ROWS) * ROWS).clamp(max=number - 1)
        batches = zip(*(values[fill].split(ROWS) for values in rows), strict=True)
        parts = [self._piece(*batch) for batch in batches]
        joined = [torch.cat(column)[:number].float() for column in zip(*parts, strict=True)]
        return joined[0] if len(joined) == 1 else tuple(joined)


class Quickened(NamedTuple):
    """A generator and a guide whose networks are compiled, and what counts their rows."""

    model: MoleculeARDM
    guide: Discriminator | None
    counters: list[Quick]

    @property
    def evaluations(self) -> int:
        """Network evaluations so far."""
        return sum(counter.rows for counter in self.counters)


def quickened(model: MoleculeARDM, guide: Discriminator | None = None) -> Quickened:
    """Compile the networks in place."""
    counters = [Quick(model.average.at)]
    model.average.at = counters[0]
    if guide is not None:
        counters += [Quick(guide.trunk.states_at), Quick(guide.trunk.states)]
        guide.trunk.states_at, guide.trunk.states = counters[1:]  # type: ignore[method-assign]
    return Quickened(model, guide, counters)


class Pieces(NamedTuple):
    """Sites, CPU seconds and network evaluations."""

    sites: Tensor
    seconds: float
    evaluations: int


def pieces(
    study: Study, name: str, number: int, size: int, quick: Quickened,
    draw: Callable[[Tensor], Tensor],
) -> Pieces:  # fmt: skip
    """Draw samples piece by piece, each piece kept in a file."""
    folder = study.folder / "pieces"
    folder.mkdir(exist_ok=True)
    drawn = []
    for start in range(0, number, size):
        path = folder / f"{name}-{start}.pt"
        if not path.is_file():
            clock, before = time.process_time(), quick.evaluations
            sites = draw(torch.arange(start, min(start + size, number)))
            spent = time.process_time() - clock
            counted = quick.evaluations - before
            keep({"sites": sites, "seconds": spent, "evaluations": counted}, path)
        drawn.append(torch.load(path, weights_only=True))
    sites = torch.cat([piece["sites"] for piece in drawn])
    seconds, counted = (sum(piece[key] for piece in drawn) for key in ("seconds", "evaluations"))
    return Pieces(sites, seconds, counted)


@torch.no_grad()
def negatives(study: Study, seed: int) -> None:
    """What the discriminator is trained against; another seed than the samples'."""
    quick = quickened(study.generator(seed))
    number = study.options.negatives
    sites, seconds, _ = pieces(
        study, f"negatives-{seed}", number, 8 * ROWS, quick,
        lambda index: Plain().draw(quick.model, None, index, 100 + seed).sites,
    )  # fmt: skip
    rows = [{"sites": row} for row in sites.tolist()]
    write_parquet(rows, study.folder / f"negatives-{seed}.parquet", {"seed": 100 + seed})
    study.add(seed=seed, stage="negatives", cpu_seconds=seconds, number=number)


def discriminator(study: Study, seed: int) -> None:
    """Train, calibrate on held-out molecules, test."""
    lightning.seed_everything(seed, verbose=False)
    module = MoleculeDiscriminator(network(), str(study.generator_path(seed)), seed=seed)
    negatives_path = str(study.folder / f"negatives-{seed}.parquet")
    data = DiscriminatorData(negatives_path, "qm9", batch_size=GUIDE_BATCH, seed=seed)
    generated = read_generated(negatives_path, SITES)
    others = data.split.indices(len(generated))
    data.sets = {
        name: JudgedDataset(study.molecules.sites[index], generated[others[name]])
        for name, index in study.parts.items()
    }
    path = study.folder / f"guide-training-{seed}.ckpt"
    budget = CpuBudget(study.options.guide_seconds, GUIDE_PEAK, path)
    runner = fit(study, module, data, budget)
    steps = runner.global_step
    calibrated = runner.validate(module, data, verbose=False)[0]
    runner.save_checkpoint(study.guide_path(seed))
    found = runner.test(module, data, verbose=False)[0] | calibrated
    os.replace(study.folder / "reliability.png", study.folder / f"reliability-{seed}.png")
    study.add(seed=seed, stage="discriminator", cpu_seconds=budget.spent, steps=steps, **found)


def unmasked(model: MoleculeARDM, index: Tensor, seed: int) -> Tensor:
    """Samples without valence mask and look-ahead."""
    return sample(OrderAgnosticARDM(model.average), *model.start(index, seed)).sites


def sites_of(method: Method, guide: Potential | None) -> Callable[..., Tensor]:
    """A way to draw without its values."""
    return lambda model, index, seed: method.draw(model, guide, index, seed).sites


def methods(guide: Potential, particles: int, best: int) -> dict[str, tuple[int, Any]]:
    """Samples at once, in whole batches of the networks, and the way to draw them."""
    alone, group = 8 * ROWS, 8 * ROWS // particles
    proportional = 8 * ROWS // best, sites_of(Importance(best), guide)
    return {
        "unmasked": (alone, unmasked),
        "unguided": (alone, sites_of(Plain(), None)),
        "ardg": (alone, sites_of(ARDG(), guide)),
        "fadg": (group, sites_of(FADG(particles), guide)),
        "best": (8 * ROWS // best, sites_of(BestOf(best), guide)),
        "bsdg": (group, sites_of(BSDG(particles), guide)),
        "proportional": proportional,
    }


def equal_number(study: Study, seed: int) -> int:
    """N of best-of-N: the least that takes as many network evaluations as FADG did.

    A candidate takes those of an unguided sample, and one of the discriminator.
    """
    calls = {
        record["method"]: record["network_evaluations_per_sample"]
        for record in study.records
        if record["seed"] == seed and record["stage"] == "sample"
    }
    if not {"fadg", "unguided"} <= calls.keys():
        raise SystemExit("best-of-N takes as many evaluations as fadg: draw fadg, unguided first")
    return math.ceil(calls["fadg"] / (calls["unguided"] + 1))


@torch.no_grad()
def draw_all(study: Study, seed: int) -> None:
    """Samples of every method."""
    quick = quickened(study.generator(seed), load_discriminator(str(study.guide_path(seed))))
    assert quick.guide is not None
    guide = LateStart(quick.guide, study.options.guide_start)
    for name in study.options.methods:
        if study.done(seed=seed, stage="sample", method=name):
            continue
        best = equal_number(study, seed) if name in {"best", "proportional"} else 1
        size, draw = methods(guide, study.options.particles, best)[name]
        number = study.options.samples
        seeded = partial(draw, quick.model, seed=1000 + seed)
        sites, seconds, counted = pieces(study, f"{name}-{seed}", number, size, quick, seeded)
        keep(sites, study.folder / f"samples-{name}-{seed}.pt")
        study.add(
            seed=seed, stage="sample", method=name, number=number, cpu_seconds=seconds,
            network_evaluations_per_sample=counted / number,
            best_of=best if best > 1 else None,
        )  # fmt: skip


def score_all(study: Study, seed: int) -> None:
    """Scores of every method against the test split."""
    chemnet = load_chemnet()
    known = [study.molecules.smiles[row] for row in study.parts["test"].tolist()]
    reference = statistics(known, chemnet)
    training = {study.molecules.smiles[row] for row in study.parts["train"].tolist()}
    for name in study.options.methods:
        if study.done(seed=seed, stage="score", method=name):
            continue
        sites = torch.load(study.folder / f"samples-{name}-{seed}.pt", weights_only=True)
        checked = [check(ALPHABET.smiles(row)) for row in sites]
        if sum(item.num_fragments == 1 for item in checked) < 2:
            # Only a hardly trained generator without masks: a loss to be seen, not to stop at.
            share = sum(item.valid for item in checked) / len(checked)
            study.add(seed=seed, stage="score", method=name, unscored=True, valid=share)
            continue
        scores = score(checked, training)
        valid = [item.smiles for item in checked if item.valid]
        found = distances(statistics(valid, chemnet), f"test split, n = {len(known)}", reference)
        study.add(
            seed=seed, stage="score", method=name, **scores._asdict(),
            num_scored=len(valid), **found._asdict(),
        )  # fmt: skip


def spread(values: list[float], key: str) -> str:
    """Mean and range, distances as they are and shares in percent."""
    scale, digits = (1, 3) if key in ("fcd", "snn") else (100, 1)
    low, high = (f"{scale * end(values):.{digits}f}" for end in (min, max))
    return f"{scale * stdlib_statistics.fmean(values):.{digits}f} ({low} to {high})"


def floor(study: Study) -> None:
    """The FCD of as many molecules of the training split: what a perfect model would have."""
    chemnet = load_chemnet()
    smiles, parts = study.molecules.smiles, study.parts
    shuffled = torch.randperm(len(parts["train"]), generator=torch.Generator().manual_seed(0))
    drawn = [smiles[row] for row in parts["train"][shuffled[: study.options.samples]].tolist()]
    reference = statistics([smiles[row] for row in parts["test"].tolist()], chemnet)
    found = distances(statistics(drawn, chemnet), "test split", reference)
    study.add(seed=None, stage="floor", number=len(drawn), fcd=found.fcd, snn=found.snn)


def summary(study: Study) -> None:
    """Means and ranges over the seeds, as a table in Markdown."""
    calls = {
        record["method"]: float(f"{record['network_evaluations_per_sample']:.2g}")
        for record in study.records
        if record["stage"] == "sample"
    }
    drawn: dict[str, list[tuple[float, float]]] = {}
    print(" | ".join(["| method", "evaluations", *COLUMNS]) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name in calls:
        rows = [r for r in study.records if r["stage"] == "score" and r["method"] == name]
        rows = [row for row in rows if not row.get("unscored")]
        drawn[name] = [(calls[name], row["fcd"]) for row in rows]
        cells = [spread([row[key] for row in rows], key) for key in COLUMNS] if rows else []
        print(" | ".join([f"| {name}", f"{calls[name]:.0f}", *cells]) + " |")
    if any(drawn.values()):
        path = study.path.with_suffix(".png")
        shown = {name: pairs for name, pairs in drawn.items() if pairs}
        evaluations_plot(shown, path, score="FCD to the test split")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train_seconds", type=float, default=1800, help="CPU, all threads")
    parser.add_argument("--guide_seconds", type=float, default=900, help="CPU, all threads")
    parser.add_argument("--negatives", type=int, default=30_000)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--particles", type=int, default=8)
    parser.add_argument("--guide_start", type=int, default=22, help="sites before the guide counts")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="last stage to run")
    parser.add_argument("--merge", nargs="+", default=[], help="only add records of other files")
    parser.add_argument("--folder", default="out/qm9-study", help="checkpoints and samples")
    parser.add_argument("--output", default=str(HERE / "qm9_study.json"))
    return parser.parse_args()


def main() -> None:
    """Run what is missing."""
    options = arguments()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (".*torch.jit.*", ".*already saved during.*", ".*lru_cache.*"):
        warnings.filterwarnings("ignore", message=message)
    torch.set_num_threads(1)
    study = Study(options)
    work = (train, negatives, discriminator, draw_all, score_all)
    last = STAGES.index(options.until)
    study.merge(options.merge)
    for seed in () if options.merge else options.seeds:
        for stage, run in list(zip(STAGES, work, strict=True))[: last + 1]:
            if stage in ("sample", "score") or not study.done(seed=seed, stage=stage):
                run(study, seed)
    if study.done(stage="score") and not study.done(stage="floor"):
        floor(study)
    summary(study)


if __name__ == "__main__":
    main()
