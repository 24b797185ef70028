"""Whole studies as processes: ours by its command, the others by their scripts."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks import workload
from benchmarks.machine import installed
from benchmarks.process import python, run_process
from benchmarks.rivals.common import DROPOUT_RATE, FIRST, LEARNING_RATE
from tuner.api import load_study
from tuner.datasets.store import DatasetInfo
from tuner.home import Home
from tuner.study.summary import StudySummary
from tuner.tracking.spool.shipped import survey

AUTOLOG = "Optuna, fit, MLflow autolog"
_STOCK = ("optuna_mlflow", "--tracking")
_HALF = ("--policy", "mixed_bfloat16")
RIVALS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    AUTOLOG: ((*_STOCK, "autolog"), ("tensorboard",)),
    "Optuna, fit, MLflow metrics": ((*_STOCK, "metrics"), ()),
    "Optuna, fit mixed_bfloat16, MLflow metrics": ((*_STOCK, "metrics", *_HALF), ()),
    "Keras Tuner": (("keras_tuner_search",), ("keras-tuner", "tensorboard")),
    "Ray Tune, Optuna, MLflow": (("ray_tune",), ("ray",)),
    "Ray Tune mixed_bfloat16, Optuna, MLflow": (("ray_tune", *_HALF), ("ray",)),
}
"""Each rival's script with its arguments, and the packages that not every machine has."""
_NAME = "bench"


@dataclass(frozen=True)
class Sample:
    """One whole study: wall seconds, and the best validation accuracy that it found."""

    seconds: float
    accuracy: float


class Sweeps:
    """Runs whole studies, each in a folder of its own and with the next seed."""

    def __init__(self, asked: argparse.Namespace, info: DatasetInfo) -> None:
        self._asked = asked
        self._info = info
        self._seeds: dict[str, Iterator[int]] = {}

    def rival(self, name: str) -> Sample:
        """Runs a rival's script on the rows that a study of this seed trains and validates on."""
        (script, *extra), _ = RIVALS[name]
        with self._run(name) as (folder, seed):
            budget = ("--trials", self._asked.trials, "--epochs", self._asked.epochs)
            split = folder / "split.npz"
            workload.write_split(self._info, self._asked.validation, split, seed)
            place = ("--data", split, "--folder", folder, "--seed", seed)
            command = python(f"rivals.{script}", *extra, *budget, *place)
            ran = run_process(command, {"KERAS_BACKEND": self._asked.backend})
        if ran.answer["trials"] != self._asked.trials:
            raise RuntimeError(f"{name}: not every trial trained all its epochs: {ran.answer}")
        return Sample(ran.seconds, float(ran.answer["best_val_accuracy"]))

    def ours(self, name: str, precision: str) -> Sample:
        """Runs the command as a user does."""
        with self._run(name) as (folder, seed):
            file = folder / "study.yaml"
            file.write_text(json.dumps(self._study(precision, seed)), encoding="utf-8")
            command = [sys.executable, "-m", "tuner", "run-study", str(file)]
            ran = run_process(command, {"TUNER_HOME": str(folder)})
            with load_study(_NAME, Home(folder)) as study:
                summary = study.summary()
            check_whole(summary, Home(folder))
        assert summary.best is not None
        return Sample(ran.seconds, summary.best.mean)

    def _study(self, precision: str, seed: int) -> dict[str, object]:
        """The study file; JSON is YAML."""
        return {
            "name": _NAME,
            "dataset": workload.reference(self._asked.dataset).model_dump(mode="json"),
            "model": "paper-cnn",
            "search_space": {
                "learning_rate": _range(LEARNING_RATE) | {"log": True},
                "dropout_rate": _range(DROPOUT_RATE),
                "batch_size": workload.BATCH,
            },
            "baseline": [FIRST],
            "pruner": "none",
            "trials": self._asked.trials,
            "epochs": self._asked.epochs,
            "validation": self._asked.validation,
            "seed": seed,
            "precision": precision,
            "backend": self._asked.backend,
        }

    @contextmanager
    def _run(self, name: str) -> Iterator[tuple[Path, int]]:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder), next(self._seeds.setdefault(name, count()))


def check_whole(summary: StudySummary, home: Home) -> None:
    """Refuses a study that failed in part, or of which MLflow has not everything.

    Raises:
        RuntimeError: it is no sample of the whole work.
    """
    if summary.counts["completed"] != summary.slots:
        raise RuntimeError(f"not every trial trained all its epochs: {summary.counts}")
    if pending := survey(home.current_study(summary.study)).pending:
        raise RuntimeError(f"MLflow lacks {pending} events")


def not_installed() -> dict[str, str]:
    """Each rival that cannot run here, and why."""
    missing = {
        name: [package for package in packages if installed(package) is None]
        for name, (_, packages) in RIVALS.items()
    }
    return {name: f"{', '.join(of)} not installed" for name, of in missing.items() if of}


def _range(bounds: tuple[float, float]) -> dict[str, object]:
    return {"type": "float", "low": bounds[0], "high": bounds[1]}
