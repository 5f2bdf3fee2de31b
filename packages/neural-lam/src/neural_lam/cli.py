"""What the command consists of: the Trainer, its callbacks, and the functions that are verbs."""

from collections.abc import Sequence

from neural_lam.shell.commands import Application, run

__all__ = ["application", "main"]


def application() -> Application:
    """The parts of ``neural-lam``."""
    from neural_lam import verbs
    from neural_lam.training.forecasting import ForecastTrainer

    return Application(
        name="neural-lam",
        trainer=ForecastTrainer,
        methods=("forecast",),
        functions={
            "convert": verbs.convert,
            "example-data": verbs.example_data,
            "graph": verbs.graph,
            "statistics": verbs.statistics,
            "verify": verbs.verify,
        },
        config="two-layer-qg.yaml",
    )


def main(arguments: Sequence[str]) -> None:
    """Run a verb: ``arguments[0]`` is its name."""
    run(application(), arguments)
