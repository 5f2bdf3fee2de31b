import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml

from diffsmc.__main__ import VERBS, main
from diffsmc.results.files import read_result, to_record
from diffsmc.shell.configuration import shipped_configs

MODEL = {
    "class_path": "diffsmc.training.potential.PotentialTraining",
    "init_args": {
        "network": {
            "class_path": "diffsmc.potentials.learned.VectorNetwork",
            "init_args": {"dim": 2},
        }
    },
}
GAUSSIAN = {"class_path": "diffsmc.SkewedGaussian", "init_args": {"dim": 2}}
DATA = {
    "class_path": "diffsmc.training.particles.ParticleData",
    "init_args": {
        "target": GAUSSIAN,
        "pilot": {"target_ess": 0.5, "adapt_islands": None},
        "num_particles": 20,
        "batch_size": 10,
    },
}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    """A run without a logger writes its configuration where it stands."""
    monkeypatch.chdir(tmp_path)


def config(tmp_path, **changes):
    content = {"model": MODEL, "data": DATA, **changes}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def answer(capsys, *arguments):
    """Exit code and the last line on standard error."""
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err.strip().splitlines()[-1]


def with_network(**init_args):
    network = {
        "class_path": "diffsmc.potentials.learned.VectorNetwork",
        "init_args": {"dim": 2, **init_args},
    }
    return {**MODEL, "init_args": {"network": network}}


def with_data(**init_args):
    return {**DATA, "init_args": {**DATA["init_args"], **init_args}}


BAD = {
    "unknown trainer option": (
        {"trainer": {"max_epoch": 3}},
        "trainer.max_epoch: not accepted; did you mean 'max_epochs'?",
    ),
    "unknown argument of an object": (
        {"model": with_network(widht=3)},
        "model.init_args.network.init_args.widht: not accepted; did you mean 'width'?",
    ),
    "wrong type": (
        {"model": with_network(width="many")},
        "model.init_args.network.init_args.width: expected int, got many",
    ),
    "unknown class": (
        {"model": {**MODEL, "class_path": "diffsmc.training.potential.PotentialTrainin"}},
        "has no attribute 'PotentialTrainin'; did you mean 'PotentialTraining'?",
    ),
    "misspelt init_args": (
        {"data": {**DATA, "init_arg": {"batch_size": 3}}},
        "data.init_arg: not accepted; did you mean 'init_args'?",
    ),
    "refused value": (
        {"data": with_data(num_particles=0)},
        "num_particles must be at least 2, got 0",
    ),
    "refused later": (
        {"data": with_data(batch_size=300)},
        "batch_size x devices must be at most the 60 training samples, got 300 x 1",
    ),
}

SAMPLE = {
    "target": GAUSSIAN,
    "method": {"class_path": "diffsmc.Tempering", "init_args": {"target_ess": 0.5}},
    "num_islands": 3,
    "num_particles": 40,
}
BAD_SAMPLE = {
    "unknown key": ({"num_island": 3}, "num_island: not accepted; did you mean 'num_islands'?"),
    "wrong type": ({"num_islands": "many"}, "num_islands: expected int, got many"),
    "unknown target": (
        {"target": {"class_path": "diffsmc.Funel"}},
        "has no attribute 'Funel'; did you mean 'Funnel'?",
    ),
    "unknown argument of a function": (
        {"target": {"class_path": "diffsmc.gmm40", "init_args": {"dimm": 2}}},
        "target.init_args.dimm: not accepted; did you mean 'dim'?",
    ),
    "refused value": ({"num_islands": 0}, "num_islands must be at least 1 and num_particles 2"),
    "missing checkpoint": (
        {
            "method": {
                "class_path": "diffsmc.Diffusion",
                "init_args": {
                    "potential": {
                        "class_path": "diffsmc.training.potential.TrainedPotential",
                        "init_args": {"checkpoint": "none.ckpt"},
                    }
                },
            }
        },
        "none.ckpt: no such checkpoint",
    ),
}


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("case", BAD_SAMPLE)
def test_a_wrong_configuration_of_an_own_verb_gets_one_line(tmp_path, capsys, case):
    changes, expected = BAD_SAMPLE[case]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**SAMPLE, "output": str(tmp_path / "x.nc"), **changes}))
    code, line = answer(capsys, "sample", "--config", path)
    assert code == 2
    assert line.startswith("diffsmc: ")
    assert expected in line


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("case", BAD)
def test_a_wrong_configuration_gets_one_line(tmp_path, capsys, case):
    changes, expected = BAD[case]
    path = config(tmp_path, **changes)
    code, line = answer(capsys, "fit", "--config", path, "--trainer.logger", "false")
    assert code == 2
    assert line.startswith("diffsmc: ")
    assert line.endswith(expected)
    if case != "refused later":
        assert str(path) in line


def test_a_missing_file_names_the_closest(capsys):
    code, line = answer(capsys, "fit", "--config", "breast_cancer_report.yml")
    assert code == 2
    assert line.startswith("diffsmc: breast_cancer_report.yml: no such file; did you mean 'breast")


def test_an_unknown_verb_names_the_closest(capsys):
    assert answer(capsys, "fitt") == (2, "diffsmc: fitt: not a verb; did you mean 'fit'?")


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04garbage", b"\x80\x04]\x94."])
def test_a_damaged_checkpoint_gets_one_line(tmp_path, capsys, content):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    code, line = answer(capsys, "validate", "--config", config(tmp_path), "--ckpt_path", path)
    assert code == 2
    assert line.startswith(f"diffsmc: {path}: ")


@pytest.mark.filterwarnings("ignore:.*:")
def test_the_shipped_configurations_do_the_main_job(tmp_path, monkeypatch, capsys):
    """All shipped files in the demo's order, with fewer particles, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    assert sorted(shipped_configs()) == [
        "breast_cancer_diffusion.yaml",
        "breast_cancer_learned.yaml",
        "breast_cancer_potential.yaml",
        "breast_cancer_report.yaml",
        "breast_cancer_tempered.yaml",
        "two_modes_mixture.yaml",
    ]
    few = ["--num_particles", "20", "--num_islands", "2"]
    pilot = ["--method.init_args.pilot_particles", "60", "--method.init_args.num_steps", "4"]
    fit = ["--trainer.max_epochs", "1", "--data.init_args.num_particles", "60"]
    commands = [
        ["sample", "--config", "breast_cancer_tempered.yaml", *few],
        ["sample", "--config", "breast_cancer_diffusion.yaml", *few, *pilot],
        ["fit", "--config", "breast_cancer_potential.yaml", "--data.batch_size", "60", *fit],
        ["sample", "--config", "breast_cancer_learned.yaml", *few],
        ["evidence", "--config", "breast_cancer_report.yaml"],
        ["diagnose", "--results", "[out/diffsmc/tempered.nc]"],
        ["targets"],
        ["sample", "--config", "two_modes_mixture.yaml", "--num_particles", "100"],
    ]
    for command in commands:
        assert main(command) == 0, (command, capsys.readouterr().err)
    out = tmp_path / "out" / "diffsmc"
    for picture in ("schedule.png", "marginals.png", "evidence.png"):
        assert (out / picture).stat().st_size > 10_000
    report = json.loads((out / "report.json").read_text())
    assert list(report["runs"]) == ["tempered", "diffusion", "learned potential"]
    assert not list(out.glob("*.part"))


@pytest.mark.filterwarnings("ignore:.*:")
def test_the_same_seed_gives_the_same_result(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(SAMPLE))
    kept = []
    for run in range(2):
        output = tmp_path / f"{run}.nc"
        assert main(["sample", "--config", str(path), "--output", str(output)]) == 0
        kept.append(to_record(read_result(output)).log_normalizers)
    assert torch.equal(*kept)


def test_help_is_fast_and_free_of_torch():
    program = (
        "import sys, diffsmc.__main__ as m; m.main(['--help']); assert 'torch' not in sys.modules"
    )
    start = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert time.perf_counter() - start < 0.5
    assert all(f"\n  {verb} " in shown.stdout for verb in VERBS)


def test_the_chosen_path_is_printed_and_drawn(tmp_path, capsys):
    """No method: diagnostics choose; zarr output, snapshots, every picture."""
    target = ["--target", "diffsmc.two_modes", "--target.width", "0.5"]
    sizes = ["--num_islands", "2", "--num_particles", "100", "--snapshots", "50"]
    assert main(["sample", *target, *sizes, "--output", "modes.zarr"]) == 0
    shown = capsys.readouterr().out
    assert "path: importance sampling (128 climbs found 2 modes" in shown
    assert "the interval is conditional on the modes found" in shown
    data = read_result("modes.zarr")
    assert data.attrs["path"] == "importance sampling"
    assert data["snapshots"]["x"].shape == (1, 50, 2)
    results = json.dumps({"two modes": "modes.zarr"})
    assert main(["evidence", "--results", results, "--truth", "0", "--output", "shown"]) == 0
    drawn = {path.stem for path in (tmp_path / "shown").glob("*.png")}
    expected = {"marginals", "evidence", "weights", "modes", "importance_two_modes"}
    assert drawn == expected
    report = json.loads((tmp_path / "shown" / "report.json").read_text())
    assert report["runs"]["two modes"]["path"] == "importance sampling"
    assert "that suffices" in report["runs"]["two modes"]["reason"]
    assert main(["diagnose", "--results", '["modes.zarr"]']) == 0


def test_a_function_is_a_target(tmp_path, monkeypatch, capsys):
    (tmp_path / "mymodel.py").write_text(
        "def logp(x):\n    return -0.5 * x.square().sum(-1)\n\n\n"
        "def slip(x):\n    return -0.5 * x.square().sum()\n\n\nnumber = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    small = ["--num_islands", "2", "--num_particles", "50"]
    assert main(["sample", "--target", "mymodel.logp", "--dim", "3", *small]) == 0
    data = read_result("out/diffsmc/sample.nc")
    assert abs(float(data.attrs["evidence_log_normalizer"]) - 1.5 * np.log(2 * np.pi)) < 0.1
    capsys.readouterr()
    for words, line in {
        ("mymodel.slip", "--dim", "3"): "log-density slip: got shape () for points of shape",
        ("mymodel.logp",): "dim is needed",
        ("mymodel.number", "--dim", "3"): "mymodel.number is a int, expected a function",
        ("mymodel.logq", "--dim", "3"): "has no attribute 'logq'; did you mean 'logp'?",
        ("nothing.logp", "--dim", "3"): "No module named 'nothing'",
    }.items():
        arguments = ["sample", "--target", *words, *small, "--output", "slip.nc"]
        code, said = answer(capsys, *arguments)
        assert code == 2
        assert line in said
    assert not (tmp_path / "slip.nc").exists()


@pytest.mark.filterwarnings("ignore:.*:")
def test_evidence_compares_models(tmp_path, capsys):
    """Two models of different dimension: a Bayes factor; two runs of one: agreement."""
    small = ["--num_islands", "4", "--num_particles", "50"]
    runs = {"one": ("2", "0"), "again": ("2", "1"), "other": ("4", "0")}
    for name, (dim, seed) in runs.items():
        target = ["--target", "diffsmc.SkewedGaussian", "--target.dim", dim, "--seed", seed]
        assert main(["sample", *target, *small, "--output", f"{name}.nc"]) == 0
    results = json.dumps({name: f"{name}.nc" for name in runs})
    assert main(["evidence", "--results", results, "--output", "shown"]) == 0
    report = json.loads((tmp_path / "shown" / "report.json").read_text())
    assert report["targets"] == [["one", "again"], ["other"]]
    ((pair, factor),) = report["bayes_factors"].items()
    assert pair.endswith(" / other")
    low, high = factor["interval_95"]
    assert low < factor["log_bayes_factor"] < high
    assert abs(factor["log_bayes_factor"]) < 0.2  # both are normalised
    assert list(report["marginals"]) == ["one / again"]
    assert {p.name for p in (tmp_path / "shown").glob("marg*")} == {
        "marginals_one.png", "marginals_other.png"
    }  # fmt: skip
    assert "log Bayes factor" in capsys.readouterr().out
    truth = ["--truth", "0", "--output", "truth"]
    code, said = answer(capsys, "evidence", "--results", results, *truth)
    assert code == 2
    assert "truth is the log-evidence of one target" in said


def test_targets_say_what_is_known(capsys):
    assert main(["targets"]) == 0
    shown = capsys.readouterr().out
    assert "dimension 32, log Z = 164.696, exact samples, mode masses" in shown
    assert ":math:" not in shown


@pytest.mark.parametrize(
    ("source", "reason"), [("def f(:", "SyntaxError"), ("1 / 0", "ZeroDivisionError")]
)
def test_a_module_that_fails_is_one_line(source, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"own_{reason.lower()}"
    (tmp_path / f"{name}.py").write_text(source)
    code, line = answer(capsys, "sample", "--target", f"{name}.f", "--dim", "2", "--output", "r.nc")
    assert code == 2
    assert f"module '{name}' can't be imported: {reason}" in line
