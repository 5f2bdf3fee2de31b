import subprocess
import sys
import time

import pytest
import yaml

from ardm_guidance.__main__ import VERBS, main

NETWORK = {
    "num_node_classes": 8,
    "num_edge_classes": 4,
    "max_nodes": 9,
    "width": 8,
    "pair_width": 8,
    "num_layers": 1,
    "num_heads": 2,
}
MODEL = {
    "class_path": "ardm_guidance.MoleculeARDM",
    "init_args": {
        "network": {"class_path": "ardm_guidance.GraphTransformer", "init_args": NETWORK}
    },
}
DATA = {"class_path": "ardm_guidance.MoleculeData", "init_args": {"batch_size": 8}}


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
    arguments = {**NETWORK, **init_args}
    network = {"class_path": "ardm_guidance.GraphTransformer", "init_args": arguments}
    return {**MODEL, "init_args": {"network": network}}


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
        {"model": {**MODEL, "class_path": "ardm_guidance.MoleculeARMD"}},
        "has no attribute 'MoleculeARMD'; did you mean 'MoleculeARDM'?",
    ),
    "misspelt init_args": (
        {"data": {**DATA, "init_arg": {"batch_size": 3}}},
        "data.init_arg: not accepted; did you mean 'init_args'?",
    ),
    "refused value": (
        {"data": {**DATA, "init_args": {"val": 1.5}}},
        "val and test must be shares with a sum below 1, got 1.5 and 0.1",
    ),
    "refused later": (
        {"data": {**DATA, "init_args": {"batch_size": 30000}}},
        "batch_size x devices must be at most the 8500 training samples, got 30000 x 1",
    ),
}


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("case", BAD)
def test_a_wrong_configuration_gets_one_line(tmp_path, capsys, case):
    changes, expected = BAD[case]
    path = config(tmp_path, **changes)
    code, line = answer(capsys, "fit", "--config", path, "--trainer.logger", "false")
    assert code == 2
    assert line.startswith("ardm-guidance: ")
    assert line.endswith(expected)
    if case != "refused later":
        assert str(path) in line


def test_a_missing_file_names_the_closest(capsys):
    code, line = answer(capsys, "fit", "--config", "qm9.yml")
    assert (code, line) == (
        2,
        "ardm-guidance: qm9.yml: no such file; did you mean 'qm9.yaml'?",
    )


def test_an_unknown_verb_names_the_closest(capsys):
    assert answer(capsys, "fitt") == (2, "ardm-guidance: fitt: not a verb; did you mean 'fit'?")


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04garbage", b"\x80\x04]\x94."])
def test_a_damaged_checkpoint_gets_one_line(tmp_path, capsys, content):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    code, line = answer(capsys, "validate", "--config", config(tmp_path), "--ckpt_path", path)
    assert code == 2
    assert line.startswith(f"ardm-guidance: {path}: ")


@pytest.mark.filterwarnings("ignore:.*:")
@pytest.mark.parametrize("name", ["qm9.yaml"])
def test_every_shipped_configuration_trains(tmp_path, capsys, name):
    arguments = ["fit", "--config", name, "--trainer.fast_dev_run", "2"]
    assert main([*arguments, "--trainer.default_root_dir", str(tmp_path)]) == 0
    assert ".ckpt" not in _written(capsys)


@pytest.mark.filterwarnings("ignore:.*:")
def test_only_a_training_says_that_it_wrote_a_checkpoint(tmp_path, capsys):
    """A checkpoint that is read tells its callbacks where they once wrote."""
    where = ["--config", str(config(tmp_path)), "--trainer.default_root_dir", str(tmp_path)]
    short = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "1"]
    assert main(["fit", *where, *short]) == 0
    assert ".ckpt" in _written(capsys)
    [checkpoint] = tmp_path.glob("**/*.ckpt")
    reading = ["--ckpt_path", str(checkpoint), "--trainer.limit_test_batches", "1"]
    assert main(["test", *where, *reading]) == 0
    assert ".ckpt" not in _written(capsys)


def _written(capsys):
    lines = capsys.readouterr().out.splitlines()
    return "".join(line for line in lines if line.startswith("wrote"))


def test_help_is_fast_and_free_of_torch():
    program = (
        "import sys, ardm_guidance.__main__ as m; m.main(['--help']);"
        " assert 'torch' not in sys.modules"
    )
    start = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert time.perf_counter() - start < 0.5
    assert all(f"\n  {verb} " in shown.stdout for verb in VERBS)
