"""What a run logs: named at its end, and gone where there was nothing to log.

Lightning's logger makes its folder and writes the hyper-parameters before the first step, so that
a run that fails early would leave a folder of its own behind.
"""

import logging
import warnings
from pathlib import Path

import lightning.pytorch as lightning
from lightning.pytorch.loggers import CSVLogger
from lightning_utilities.core.rank_zero import rank_zero_only

from ardm_guidance.shell.writing import note, relative

__all__ = ["keep_logs", "quiet_lightning"]

_METRICS, _PARAMETERS = "metrics.csv", "hparams.yaml"


_TIPS = (
    ".*torch.jit.*",
    ".*does not have many workers.*",
    ".*LightningCLI's args parameter.*",
    "No seed found",
    "Checkpoint directory .* exists and is not empty",
    ".*isinstance.treespec, LeafSpec.*",
    ".*smaller than the logging interval.*",
    ".*overridden `on_after_batch_transfer` in.*",
)


def quiet_lightning() -> None:
    """Keep progress and warnings of a run, drop advertisements and tips."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _TIPS:
        warnings.filterwarnings("ignore", message=message)


@rank_zero_only
def keep_logs(trainer: lightning.Trainer, above: Path) -> None:
    """Count the metrics among what this process has written; without any, remove their folder.

    Arguments:
        trainer: Trainer whose run has ended, well or not.
        above: Folder that was there before the run; those below it go where they are empty.
    """
    for logger in trainer.loggers:
        if not isinstance(logger, CSVLogger):
            continue
        folder = Path(logger.log_dir)
        if (folder / _METRICS).is_file():
            note(relative(folder / _METRICS))
        elif folder.is_dir() and {path.name for path in folder.iterdir()} <= {_PARAMETERS}:
            (folder / _PARAMETERS).unlink(missing_ok=True)
            _remove_empty(folder, above)


def _remove_empty(folder: Path, above: Path) -> None:
    """Remove a folder, and those between it and ``above``, as long as they are empty."""
    for empty in (folder.absolute(), *folder.absolute().parents):
        if empty == above.absolute() or any(empty.iterdir()):
            return
        empty.rmdir()
