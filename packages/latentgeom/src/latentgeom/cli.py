"""What the command consists of: the Trainer, its callbacks, and the functions that are verbs."""

from collections.abc import Sequence

from latentgeom.shell.commands import Application, run

__all__ = ["application", "main"]


def application() -> Application:
    """The parts of ``latentgeom``."""
    from latentgeom import array_verbs
    from latentgeom.training.codes_writer import CodesWriter
    from latentgeom.verbs import GeometryTrainer

    return Application(
        name="latentgeom",
        trainer=GeometryTrainer,
        methods=("distances", "distortion", "geodesics", "plot"),
        alternatives={
            "distances": ("--points", array_verbs.array_distances),
            "geodesics": ("--points", array_verbs.array_geodesics),
            "plot": ("--points", array_verbs.array_plot),
        },
        callbacks=(CodesWriter,),
        config="digits-euclidean.yaml",
    )


def main(arguments: Sequence[str]) -> None:
    """Run a verb: ``arguments[0]`` is its name."""
    run(application(), arguments)
