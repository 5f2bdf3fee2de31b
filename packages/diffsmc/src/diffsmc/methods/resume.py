r"""Runs that survive being killed: one file, overwritten, resumed bit for bit.

After a step (at most once in a while, and at the end of each pass) the store writes the
state of the pass, its history and the generator's state. A later run of the same method
with the same seed repeats what lies between passes and takes the passes from the file.
"""

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from diffsmc.shell.checkpoints import CheckpointError, read_plain
from diffsmc.shell.writing import resumable, whole
from diffsmc.smc.path import State, StepInfo, from_plain, to_plain

__all__ = ["RunStore", "SavedPass"]


class SavedPass(NamedTuple):
    """State and history of a pass, finished or not."""

    state: State
    history: list[StepInfo]


class RunStore:
    """Where a run is kept.

    Arguments:
        path: The file.
        settings: What the run was asked for; another run's file is refused.
        every_seconds: Least time between two writes within a pass.

    Raises:
        CheckpointError: The file is damaged or of another run.
    """

    def __init__(
        self, path: str | os.PathLike[str], settings: str, every_seconds: float = 30.0
    ) -> None:
        self.path, self.settings, self.every_seconds = Path(path), settings, every_seconds
        self.passes: dict[str, Any] = {}
        self.last_write = self.begin = time.monotonic()
        self.seconds_before = 0.0
        if self.path.is_file():
            content = read_plain(self.path)
            if content.get("settings") != settings:
                raise CheckpointError(path, "belongs to a run with other settings; remove it")
            if not isinstance(content.get("passes"), dict):
                raise CheckpointError(path, "holds no run; remove it")
            self.passes = content["passes"]
            self.seconds_before = float(content.get("seconds", 0.0))

    @property
    def seconds(self) -> float:
        """Time that the run has taken, in all processes that worked on it."""
        return self.seconds_before + time.monotonic() - self.begin

    def restore(self, name: str, generator: torch.Generator) -> SavedPass | None:
        """Give a saved pass and set the generator to its state, or give nothing."""
        if name not in self.passes:
            return None
        saved = self.passes[name]
        generator.set_state(saved["generator"])
        history = [from_plain(StepInfo, info) for info in saved["history"]]
        return SavedPass(from_plain(State, saved["state"]), history)

    def save(
        self, name: str, state: State, history: list[StepInfo], generator: torch.Generator
    ) -> None:
        """Keep a pass; write if it is finished or some time has passed."""
        if state.level < 1 and time.monotonic() - self.last_write < self.every_seconds:
            return
        self.passes[name] = {
            "state": to_plain(state),
            "history": [to_plain(info) for info in history],
            "generator": generator.get_state(),
        }
        content = {"settings": self.settings, "passes": self.passes, "seconds": self.seconds}
        with whole(self.path, told=False) as partial, partial.open("wb") as file:
            torch.save(content, file)
        resumable(self.path)
        self.last_write = time.monotonic()

    def discard(self) -> None:
        """Remove the file: the run is finished and its result written."""
        self.path.unlink(missing_ok=True)
