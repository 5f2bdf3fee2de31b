"""Scores by the code of the MOSES package itself.

Run by path in a process of its own: ``python moses_oracle.py generated.smi test.smi training.smi``
prints its scores as JSON.  The package was written for libraries of 2020; the few names that
these have dropped since are put back here, in this process alone.
"""

import json
import pickle
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import scipy.linalg
import torch

warnings.filterwarnings("ignore")


def _restore_names() -> None:
    six = types.ModuleType("rdkit.six")
    six.iteritems = lambda table: iter(table.items())
    six.PY3 = True
    moves = types.ModuleType("rdkit.six.moves")
    moves.cPickle = pickle
    six.moves = moves
    sys.modules |= {"rdkit.six": six, "rdkit.six.moves": moves}
    for name, kind in {"float": float, "int": int, "bool": bool, "object": object}.items():
        if name not in np.__dict__:
            setattr(np, name, kind)
    setattr(np, "row_stack", np.vstack)  # noqa: B010
    root = scipy.linalg.sqrtm
    scipy.linalg.sqrtm = lambda matrix, disp=True: root(matrix) if disp else (root(matrix), 0.0)


def _restore_tables() -> None:
    """Let pandas frames append again, without needing pandas to be old."""
    import pandas as pd

    def append(frame, other, sort=False, **options):
        return pd.concat([frame, other], sort=sort)

    pd.DataFrame.append = append


def main() -> None:
    """Score the first file against the second."""
    _restore_names()
    _restore_tables()
    torch.set_num_threads(1)
    from moses.metrics import metrics

    generated, test, training = (Path(path).read_text().split() for path in sys.argv[1:])
    scores = metrics.get_all_metrics(
        generated, test=test, test_scaffolds=test[: len(test) // 2], train=training
    )
    print(json.dumps({key: float(value) for key, value in scores.items()}))


if __name__ == "__main__":
    main()
