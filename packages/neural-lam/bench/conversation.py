"""Two programs that take turns: requests and answers as JSON lines over pipes.

A peer that can't share our environment runs in its own. Since the two wait for each other,
their work is interleaved, and CPU time is comparable although the machine has other work.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Worker", "serve"]

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Worker:
    """A program that answers requests.

    Arguments:
        python: Interpreter.
        script: Program that calls `serve`.
    """

    def __init__(self, python: str, script: Path) -> None:
        environment = os.environ | THREADS | {"PYTHONWARNINGS": "ignore", "WANDB_MODE": "disabled"}
        environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            [python, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.name = script.stem

    def ask(self, request: str, **arguments: Any) -> Any:
        """The answer to a request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"request": request, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended at {request} {arguments}")
        return json.loads(line)

    def close(self) -> None:
        """End the program."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(answers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until there are no more."""
    # What libraries print must not get between the answers.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        answer = answers[request.pop("request")](**request)
        out.write(json.dumps(answer) + "\n")
        out.flush()
