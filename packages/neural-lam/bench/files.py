"""The share of a corpus of small stores that runs from graph to verification.

Each case of `corpus.py` goes through ``graph``, ``statistics``, ``fit`` (two steps), ``forecast``
and ``verify``; what can't be used must be refused in one line:

    python bench/files.py --output result.json
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from corpus import CASES, REFUSED, Writer

from neural_lam.__main__ import main

__all__ = ["run_case"]


def _configuration(folder: Path, options: dict[str, Any]) -> str:
    data = {"lead_steps": 3, "batch_size": 2, "forcings": ["hour", "year"], **options}
    network = {"class_path": "neural_lam.GraphLAM", "init_args": {"hidden_size": 8}}
    content = {
        "seed_everything": 0,
        "trainer": {"max_steps": 2, "accelerator": "cpu", "logger": False,
                    "enable_progress_bar": False, "enable_model_summary": False,
                    "num_sanity_val_steps": 0, "limit_val_batches": 0,
                    "default_root_dir": "run"},
        "model": {"class_path": "neural_lam.Forecaster", "init_args": {"network": network}},
        "data": {"class_path": "neural_lam.GriddedData", "init_args": data},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return "config.yaml"


def run_case(writer: Writer, folder: Path) -> tuple[str, str]:
    """The verb at which a case stops and what it said; two empty texts if all verbs ran.

    Arguments:
        writer: Writes the case's files.
        folder: Where, and where the verbs are run.
    """
    with contextlib.chdir(folder):
        config = _configuration(folder, writer(folder).options)
        checkpoint = ["--ckpt_path", "last.ckpt"]
        verbs = (
            ["graph", "--config", config, "--output", "graph.pt"],
            ["statistics", "--config", config, "--output", "statistics.nc"],
            ["fit", "--config", config],
            ["forecast", "--config", config, *checkpoint, "--output", "forecast.zarr"],
            ["verify", "--forecast", "forecast.zarr", "--output", "scores"],
        )
        for verb in verbs:
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                code = main(verb)
            if code:
                return verb[0], errors.getvalue().strip()
            if verb[0] == "fit":
                next(folder.rglob("*.ckpt")).rename(folder / "last.ckpt")
        return "", ""


def _run(cases: dict[str, Writer]) -> dict[str, dict[str, str]]:
    found = {}
    for name, writer in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            verb, line = run_case(writer, Path(folder))
            found[name] = {"stopped": verb, "line": line}
            print(
                f"{name}: {verb or 'runs'} {line} ({time.perf_counter() - start:.1f} s)", flush=True
            )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    chosen = parser.parse_args().output.resolve()
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    runs, refused = _run(CASES), _run(REFUSED)
    through = sum(not case["stopped"] for case in runs.values())
    content = {
        "share_end_to_end": through / len(runs),
        "cases": len(runs),
        "refused_in_one_line": sum(
            bool(case["stopped"]) and "\n" not in case["line"] for case in refused.values()
        ),
        "runs": runs,
        "refused": refused,
    }
    chosen.write_text(json.dumps(content, indent=1) + "\n")
