"""What a run logs is named; where it logged nothing, no folder of it stays."""

import lightning.pytorch as lightning
from lightning.pytorch.loggers import CSVLogger

from latentgeom.shell.logs import keep_logs
from latentgeom.shell.writing import permit_overwriting, summary


def logged(folder, metrics):
    """A run that has told its settings, and logged some metrics."""
    permit_overwriting(False)
    logger = CSVLogger(str(folder), name="logs")
    logger.log_hyperparams({"learning_rate": 0.1})
    if metrics:
        logger.log_metrics(metrics, 1)
    logger.save()
    return lightning.Trainer(
        logger=logger, accelerator="cpu", enable_checkpointing=False, default_root_dir=folder
    )


def test_metrics_are_named_at_the_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keep_logs(logged(tmp_path / "run", {"loss": 1.0}), tmp_path)
    assert summary() == "wrote metrics.csv in run/logs/version_0"


def test_a_run_that_logged_nothing_leaves_no_folder(tmp_path):
    keep_logs(logged(tmp_path / "run", {}), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert summary() == ""


def test_a_folder_that_was_there_before_stays(tmp_path):
    (tmp_path / "run").mkdir()
    keep_logs(logged(tmp_path / "run", {}), tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_files_of_others_beside_an_empty_log_stay(tmp_path):
    trainer = logged(tmp_path / "run", {})
    (tmp_path / "run/logs/version_0/notes.txt").write_text("mine")
    keep_logs(trainer, tmp_path)
    assert (tmp_path / "run/logs/version_0/notes.txt").read_text() == "mine"


def test_an_earlier_runs_log_stays(tmp_path):
    logged(tmp_path / "run", {"loss": 1.0})
    keep_logs(logged(tmp_path / "run", {}), tmp_path)
    assert [path.name for path in (tmp_path / "run/logs").iterdir()] == ["version_0"]
