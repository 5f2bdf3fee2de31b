"""A bar that shows the level of the current pass."""

from typing import Any

from tqdm import tqdm

from diffsmc.methods.method import Report
from diffsmc.smc.path import State, StepInfo

__all__ = ["progress_bar", "report_to"]


def progress_bar(shown: bool = True) -> Any:
    """Give a bar from 0 to 1."""
    form = "{desc:>5} {percentage:3.0f}%|{bar}| {elapsed} {postfix}"
    # Where a run is refused at once there is nothing to show.
    return tqdm(total=1.0, bar_format=form, disable=not shown, delay=1.0)


def report_to(bar: Any) -> Report:
    """Give a report of `Monitor` that shows levels on a bar."""

    def report(name: str, state: State, info: StepInfo) -> None:
        if bar.disable:
            return
        if name != bar.desc or info.level < bar.n:
            bar.reset()
            bar.set_description_str(name, refresh=False)
        ess = float(info.ess.mean()) / state.log_weights.shape[-1]
        bar.set_postfix_str(f"step {state.num_steps}, ESS {ess:.0%}", refresh=False)
        bar.update(info.level - bar.n)

    return report
