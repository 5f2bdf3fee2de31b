"""Runs command lines of one package in forked children: what they import is imported once.

``python fault_server.py MODULE`` reads a JSON object a line: ``arguments``, ``folder``,
``seconds``, and optionally ``signal`` with ``after``: a file whose appearance it waits for. It
answers with ``code``, ``out``, ``err`` and ``seconds``. Nothing of the package is replaced: the
child calls the command's own ``main``.
"""

import importlib
import json
import os
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

# What a parser would take for a configuration of its own.
TEXTS = {
    "json": '{"class_path": "evil.Model"}',
    "yaml": "{class_path: evil.Model}",
    "file": "./evil.yaml",
}


def first(weights):
    """A weight of floating point that isn't empty."""
    return next(n for n, value in weights.items() if value.is_floating_point() and value.numel())


def change(kind, source, target):
    """Write a checkpoint with something changed."""
    torch = importlib.import_module("torch")
    content = torch.load(source, map_location="cpu", weights_only=True)
    weights, parameters = content["state_dict"], content.setdefault("hyper_parameters", {})
    if kind == "poison":
        weights[first(weights)].view(-1)[0] = float("nan")
    elif kind == "drop":
        del weights[first(weights)]
    elif kind == "rename":
        weights["stranger"] = weights.pop(first(weights))
    elif kind == "reshape":
        weights[first(weights)] = torch.zeros(7, 3, 2)
    elif kind == "lighten":
        for name in ("optimizer_states", "lr_schedulers", "loops"):
            content.pop(name, None)
    elif kind == "name":
        content["hyper_parameters"] = {"_class_path": "evil.Model", "x": 1}
    elif kind == "nest":
        parameters["network"] = {"class_path": "evil.Model", "init_args": {}}
    elif kind in TEXTS:
        parameters["network"] = TEXTS[kind]
    elif kind == "escape":
        away = "run/checkpoints/../../thesis.tex"
        state = {"best_model_path": away, "last_model_path": away, "kth_best_model_path": away}
        content["callbacks"] = dict.fromkeys(content["callbacks"], state)
    elif kind == "moments":
        content["optimizer_states"] = []
    elif kind == "loops":
        content["loops"] = dict.fromkeys(content["loops"], 5)
    elif kind == "function":
        parameters["activation"] = "evil.execute"
    torch.save(content, target)


def child(main, name, request, out, err):
    os.chdir(request["folder"])
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [name, *request["arguments"]]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    try:
        code = main(request["arguments"])
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait(process, request, start):
    """The exit code; the child is killed where it takes too long."""
    sent = "signal" not in request
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if not sent and any(Path(request["folder"]).glob(request["after"])):
            time.sleep(0.3)
            os.kill(process, request["signal"])
            sent = True
        if time.monotonic() - start > request["seconds"]:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def serve(module, scratch):
    command = importlib.import_module(f"{module}.__main__")
    importlib.import_module(f"{module}.cli").application()
    # Lightning starts further ranks by the script that the user has called.
    script = str(Path(sys.executable).with_name(module.replace("_", "-")))
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "change" in request:
            change(request["change"], request["source"], request["target"])
            answers.write("{}\n")
            answers.flush()
            continue
        out, err = scratch / "out", scratch / "err"
        start = time.monotonic()
        process = os.fork()
        if not process:
            child(command.main, script, request, out, err)
        code = wait(process, request, start)
        answer = {"code": code, "seconds": time.monotonic() - start}
        answer |= {"out": out.read_text(errors="replace"), "err": err.read_text(errors="replace")}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(sys.argv[1], Path(sys.argv[2]))
