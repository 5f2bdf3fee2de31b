"""The command of one package, in a process that has imported it already."""

import json
import os
import subprocess
from pathlib import Path

from conftest import MODULES

__all__ = ["Server"]


class Server:
    """The command of one package, in a process that has imported it already."""

    def __init__(self, environment, package, folder):
        script = Path(__file__).with_name("fault_server.py")
        command = [
            str(environment.python),
            "-W",
            "ignore",
            str(script),
            MODULES[package],
            str(folder),
        ]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
        )

    def run(self, arguments, folder, seconds=60.0, **options):
        request = {"arguments": arguments, "folder": str(folder), "seconds": seconds, **options}
        return self.ask(request)

    def change(self, kind, source, target):
        self.ask({"change": kind, "source": str(source), "target": str(target)})

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()
