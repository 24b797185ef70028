"""Whether a quicker way to train learns the same: the paper's point, many seeds, each way.

    python -m benchmarks.accuracy [--short] [--ways tensorflow/bfloat16 jax/float32]

Every way runs `studies/paper-baseline.yaml` with a backend, a precision and as many seeds as
there are rounds, by the command of users. A seed orders the rows alike whatever the way, and
on one backend it gives the same first weights, so ways are compared seed by seed with
`tensorflow/float32`: `difference` is the way's accuracy less that one's.

The facts hold the mean difference with its 95% interval, from Student's t over the seeds.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.harness import Result, console, parser
from benchmarks.process import ROOT, run_process
from tuner.api import load_study
from tuner.home import Home
from tuner.tracking.spool.spool_events import TrialSummary

BASE = "tensorflow/float32"
_BASELINE = ROOT / "studies" / "paper-baseline.yaml"
_NAME = "accuracy"


def main() -> None:
    """Trains every way and writes `accuracy-<cpu|gpu>.json`."""
    asked = _arguments()
    ways = list(dict.fromkeys((BASE, *asked.ways)))
    found = {way: _trainings(asked, way) for way in ways}
    result = Result(
        asked.name, {key: getattr(asked, key) for key in ("epochs", "validation", "dataset")}
    )
    for way in ways:
        result.add(way, "val_accuracy", "", [float(one.value or 0) for one in found[way]])
    for way in ways[1:]:
        differences = _differences(found[way], found[BASE])
        result.add(way, "difference", "", differences)
        result.facts[f"{way}, mean difference"] = mean_with_interval(differences)
    for name, fact in result.facts.items():
        console.print(f"{name}: {fact['mean']:+.5f} ({fact['low']:+.5f} to {fact['high']:+.5f})")
    result.finish(asked)


def mean_with_interval(samples: Sequence[float]) -> dict[str, float]:
    """The mean of two or more samples and its 95% interval, from Student's t."""
    mean, error = float(np.mean(samples)), float(stats.sem(samples))
    half = float(stats.t.ppf(0.975, len(samples) - 1)) * error
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _differences(ours: Sequence[TrialSummary], base: Sequence[TrialSummary]) -> list[float]:
    """Seed by seed; both lists are in the order of slots."""
    return [
        round((one.value or 0.0) - (other.value or 0.0), 6)
        for one, other in zip(ours, base, strict=True)
    ]


def _trainings(asked: argparse.Namespace, way: str) -> list[TrialSummary]:
    """Every seed's training, in the order of seeds."""
    backend, _, precision = way.partition("/")
    changed: dict[str, Any] = {
        "backend": backend,
        "precision": precision,
        "seeds": asked.rounds,
        "epochs": asked.epochs,
        "validation": asked.validation,
        "dataset": asked.dataset,
        "keep_models": 1,
    }
    settings = (part for key, value in changed.items() for part in ("--set", f"{key}={value}"))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tuner", "run-study", str(_BASELINE), "--name", _NAME]
        ran = run_process([*command, *settings], {"TUNER_HOME": folder})
        with load_study(_NAME, Home(Path(folder))) as study:
            trials = sorted(study.summary().trials, key=lambda trial: trial.slot)
    if not all(trial.state == "completed" for trial in trials):
        raise RuntimeError(f"{way}: not every training came to its end")
    console.print(f"  {way}: {len(trials)} trainings ({ran.seconds:.1f} s)", highlight=False)
    return trials


def _arguments() -> argparse.Namespace:
    arguments = parser(__doc__, rounds=12)
    arguments.add_argument("--name", default="accuracy", help="of the result file")
    arguments.add_argument("--ways", nargs="+", default=["tensorflow/bfloat16"])
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--validation", type=int, default=10_000)
    arguments.add_argument("--dataset", default="mnist")
    asked = arguments.parse_args()
    if asked.short:
        asked.rounds, asked.epochs = 3, 1
    return asked


if __name__ == "__main__":
    main()
