"""What the command consists of: the Trainer, its callbacks, and the functions that are verbs."""

from collections.abc import Sequence

from diffsmc.shell.commands import Application, run

__all__ = ["application", "main"]


def application() -> Application:
    """The parts of ``diffsmc``."""
    import lightning.pytorch as lightning

    from diffsmc import verbs

    return Application(
        name="diffsmc",
        trainer=lightning.Trainer,
        functions={
            "sample": verbs.sample,
            "evidence": verbs.evidence,
            "diagnose": verbs.diagnose,
            "targets": verbs.list_targets,
        },
        config="breast_cancer_potential.yaml",
    )


def main(arguments: Sequence[str]) -> None:
    """Run a verb: ``arguments[0]`` is its name."""
    run(application(), arguments)
