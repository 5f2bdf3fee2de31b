"""What the command consists of: the Trainer, its callbacks, and the functions that are verbs."""

from collections.abc import Sequence

from ardm_guidance.shell.commands import Application, run

__all__ = ["application", "main"]


def application() -> Application:
    """The parts of ``ardm-guidance``."""
    from ardm_guidance.data.preparation import prepare
    from ardm_guidance.scores.reports import evaluate
    from ardm_guidance.training.sampling import SamplingTrainer, WriteResults

    return Application(
        name="ardm-guidance",
        trainer=SamplingTrainer,
        methods=("sample", "negatives"),
        functions={"evaluate": evaluate, "prepare": prepare},
        callbacks=(WriteResults,),
        config="qm9.yaml",
        # The matrices are small: threads wait for one another; devices are how to use cores.
        num_threads=1,
    )


def main(arguments: Sequence[str]) -> None:
    """Run a verb: ``arguments[0]`` is its name."""
    run(application(), arguments)
