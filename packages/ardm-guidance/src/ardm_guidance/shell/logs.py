"""What a run logs: named at its end, and gone where there was nothing to log.

Lightning's logger makes its folder and writes the hyper-parameters before the first step, so that
a run that fails early would leave a folder of its own behind.
"""

from pathlib import Path

import lightning.pytorch as lightning
from lightning.pytorch.loggers import CSVLogger
from lightning_utilities.core.rank_zero import rank_zero_only

from ardm_guidance.shell.writing import note, relative

__all__ = ["keep_logs"]

_METRICS, _PARAMETERS = "metrics.csv", "hparams.yaml"


@rank_zero_only
def keep_logs(trainer: lightning.Trainer) -> None:
    """Count the metrics among what this process has written; without any, remove their folder.

    Arguments:
        trainer: Trainer whose run has ended, well or not.
    """
    for logger in trainer.loggers:
        if not isinstance(logger, CSVLogger):
            continue
        folder = Path(logger.log_dir)
        if (folder / _METRICS).is_file():
            note(relative(folder / _METRICS))
        elif folder.is_dir() and {path.name for path in folder.iterdir()} <= {_PARAMETERS}:
            (folder / _PARAMETERS).unlink(missing_ok=True)
            _remove_empty(folder, Path(logger.save_dir))


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder, and those above it below the run's own, as long as they are empty."""
    for empty in (folder, *folder.parents):
        if empty == root or any(empty.iterdir()):
            return
        empty.rmdir()
