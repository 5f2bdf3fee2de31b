"""Sixty densities of a user's own kinds with known log Z, and 200 random mixtures: who is silent?

    python bench/silent.py measure      # every target three times; those in silent.json are kept
    python bench/silent.py mixtures     # 200 random pairs of Gaussians; those there are kept
    python bench/silent.py triples      # 50 random triples, of which no rate is made
    python bench/silent.py show         # tables and rates
    python bench/silent.py lines        # the rates as lines of results.jsonl

An answer is *wrong* if it misses log Z by more than three half-widths of its interval and .02 in
addition; it is silent if it does so without a warning. A run that ends in a typed error gives no
answer. A mode is *missed* if less than a fifth of its mass was found.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from silent_targets import IMPROPER, PROPER, random_pair, random_triple

import diffsmc
from diffsmc import Target

RESULTS = Path(__file__).with_name("silent.json")
SEEDS = (500, 501, 502)  # no rule was made with these, nor with these pairs
PAIRS, TRIPLES = 200, 50
SLOW = {"funnel, d=50", "Brownian motion"}  # minutes each: last


def outcome(target: Target, seed: int, num_particles: int = 500) -> dict[str, Any]:
    """Run the default once."""
    begin = time.perf_counter()
    try:
        run = diffsmc.sample(target, seed=seed, num_particles=num_particles, progress=False)
    except ValueError as error:
        return {"refused": f"{type(error).__name__}: {str(error)[:100]}"}
    one = run.evidence()
    row: dict[str, Any] = {
        "log_normalizer": one.log_normalizer,
        "half_width": (one.upper - one.lower) / 2,
        "warnings": [line[:80] for line in run.diagnose()],
        "path": run.path,
        "evaluations": run.num_evaluations,
        "seconds": round(time.perf_counter() - begin, 2),
    }
    if target.log_normalizer is not None:
        row["error"] = one.log_normalizer - target.log_normalizer
    if isinstance(target, diffsmc.GaussianMixture | diffsmc.StudentMixture):
        share = run.log_weights.softmax(-1) * run.log_normalizers.softmax(0)[:, None]
        joint = target.log_joint(run.particles).softmax(-1)
        found = torch.einsum("rn,rnk->k", share, joint)
        lost = found < 0.2 * target.masses
        row["missed"], row["lost"] = bool(lost.any()), int(lost.sum())
    return row


def wrong(row: dict[str, Any]) -> bool:
    """Whether an answer is off by more than its interval can excuse."""
    half = row["half_width"]
    return not abs(row["error"]) <= (0.0 if math.isnan(half) else 3 * half) + 0.02


def rates(suite: dict[str, Any], mixtures: list[Any]) -> dict[str, float]:
    """Rates over the answers of the suite and of the mixtures."""
    rows = [row for rows in suite.values() for row in rows]
    answers = [r for r in (*rows, *mixtures) if "error" in r]
    bad = [r for r in answers if wrong(r) or r.get("missed")]
    missed = [r for r in answers if r.get("missed")]
    good = [r for r in answers if r not in bad]
    fine = [r for r in good if not math.isnan(r["half_width"])]
    covered = [r for r in fine if abs(r["error"]) <= r["half_width"]]
    loose = [row for name in IMPROPER for row in suite.get(name, [])]
    return {
        "answers": len(answers),
        "wrong": len(bad),
        "unwarned_share": sum(not r["warnings"] for r in bad) / max(1, len(answers)),
        "missed": len(missed),
        "missed_mode_warned_share": sum(bool(r["warnings"]) for r in missed) / max(1, len(missed)),
        "false_alarm_share": sum(bool(r["warnings"]) for r in good) / max(1, len(good)),
        "coverage": len(covered) / max(1, len(fine)),
        "improper_refused_share": sum("refused" in r for r in loose) / max(1, len(loose)),
    }


def load() -> dict[str, Any]:
    """Read what is stored."""
    if RESULTS.is_file():
        return dict(json.loads(RESULTS.read_text()))
    return {"suite": {}, "mixtures": []}


def store(content: dict[str, Any]) -> None:
    """Write what was measured."""
    text = json.dumps(content, indent=1, allow_nan=True)
    RESULTS.write_text(text.replace("NaN", "null") + "\n")


def measure(content: dict[str, Any]) -> None:
    """Run the suite."""
    for name, make in sorted({**PROPER, **IMPROPER}.items(), key=lambda item: item[0] in SLOW):
        if name in content["suite"]:
            continue
        content["suite"][name] = [outcome(make(), seed) for seed in SEEDS]
        print(
            name,
            [
                (r.get("error", r.get("refused")), r.get("half_width"))
                for r in content["suite"][name]
            ],
            flush=True,
        )
        store(content)


def shown(row: dict[str, Any]) -> str:
    """Show an answer: its error, half-width, and a mark if it was warned of."""
    if "refused" in row:
        return "refused"
    mark = " !" if row["warnings"] else ""
    return f"{row.get('error', math.nan):+.3f} ± {row['half_width']:.3f}{mark}"


def lines(found: dict[str, float]) -> None:
    """Print the rates as the bench does."""
    for quantity in ("unwarned_share", "missed_mode_warned_share", "false_alarm_share", "coverage"):
        record = {
            "package": "diffsmc", "case": "silent_suite", "quantity": quantity,
            "ours": found[quantity], "peer": None, "peer_name": None,
            "better": "higher" if quantity in {"missed_mode_warned_share", "coverage"} else "lower",
            "seeds": list(SEEDS),
            "setting": f"{found['answers']} answers of the default with 8 islands of 500 particles;"
            " python bench/silent.py",
        }  # fmt: skip
        print(json.dumps(record))


def main() -> None:
    """Measure and show."""
    torch.set_num_threads(1)
    verb = sys.argv[1] if len(sys.argv) > 1 else "show"
    content = load()
    if verb == "measure":
        measure(content)
    elif verb == "mixtures":
        for index in range(len(content["mixtures"]), PAIRS):
            target, facts = random_pair(index)
            content["mixtures"].append({**facts, **outcome(target, index)})
            store(content)
    elif verb == "triples":
        rows = content.setdefault("triples", [])
        for index in range(len(rows), TRIPLES):
            target, facts = random_triple(index)
            rows.append({**facts, **outcome(target, index)})
            store(content)
    content = load()
    for group in (*content["suite"].values(), content["mixtures"]):
        for row in group:
            if "half_width" in row and row["half_width"] is None:
                row["half_width"] = math.nan
    suite, mixtures = content["suite"], content["mixtures"]
    if verb == "lines":
        lines(rates(suite, mixtures))
        return
    for name, rows in suite.items():
        print(f"| {name} | {' | '.join(map(shown, rows))} |")
    for what, found in {
        "densities": rates(suite, []), "pairs": rates({}, mixtures), "all": rates(suite, mixtures),
    }.items():  # fmt: skip
        print(what, json.dumps(found, indent=1))
    for lost in (1, 2):
        rows = [row for row in content.get("triples", []) if row.get("lost") == lost]
        warned = sum(bool(row["warnings"]) for row in rows)
        print(f"triples of which {lost} modes were lost: {len(rows)}, warned {warned}")


if __name__ == "__main__":
    main()
