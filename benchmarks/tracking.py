"""What tracking costs: epochs with it and without it, and what the shipper computes a trial.

    python -m benchmarks.tracking [--short] [--trials 4] [--epochs 4] [--precision bfloat16]

The same study of the paper's network three ways, a process each: `tracked` ships to a local
store as `tuner run-study` does, `server away` names a server that never answers, `untracked`
starts no shipper. One trainer a core, or one a GPU, so the shipper has no core of its own.

    epoch                      in its trainer, validation included; a trial's first is left out
    wall a trial-epoch         from the first trial's start to the last one's end, by all epochs
    beyond a trial's epochs    tell, ask, build, trace, evaluate, keep the model, log: from one
                               trial's end to the next one's at the same trainer, less its
                               epochs; a trainer's first trial is left out

`shipper` ships studies that nobody trained, of 5 and of 25 trials of 10 epochs. Its processor
time a trial is the difference; what it takes to start is left out and stands beside it.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import workload
from benchmarks.harness import Result, interleaved, parser
from benchmarks.machine import gpu_names
from benchmarks.process import own_home, python, run_process, shipper

_BASE = "untracked"
_NOBODY = "http://127.0.0.1:9"  # the port of the discard protocol, where nothing listens
_FEW, _MANY = 5, 25

Sample = dict[str, float]


@dataclass(frozen=True)
class Bench:
    """What every sample shares."""

    asked: argparse.Namespace

    def study(self, address: str, *options: str) -> Sample:
        """Trains the study once, in a home of its own."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "study.yaml"
            file.write_text(json.dumps(self._study()), encoding="utf-8")
            environment = own_home(Path(folder)) | {"MLFLOW_TRACKING_URI": address}
            return run_process(python("tracked", file, *options), environment).answer

    def shipper(self) -> Sample:
        """Ships two studies; returns processor seconds."""
        few, many = _shipped(_FEW), _shipped(_MANY)
        a_trial = (many - few) / (_MANY - _FEW)
        return {"processor time a trial": a_trial, "processor time to start": few - _FEW * a_trial}

    def _study(self) -> dict[str, object]:
        """The study file; JSON is YAML."""
        return {
            "name": "bench",
            "dataset": workload.reference(self.asked.dataset).model_dump(mode="json"),
            "model": "paper-cnn",
            "search_space": {
                "learning_rate": {"type": "float", "low": 3e-4, "high": 3e-3, "log": True},
                "dropout_rate": workload.DROPOUT,
                "batch_size": workload.BATCH,
            },
            "sampler": "random",
            "pruner": "none",
            "trials": self.asked.trials,
            "epochs": self.asked.epochs,
            "validation": self.asked.validation,
            "precision": self.asked.precision,
            "workers": len(gpu_names()) or len(os.sched_getaffinity(0)),
        }


def main() -> None:
    """Measures the three ways, interleaved, and writes `tracking-<cpu|gpu>.json`."""
    asked = _arguments()
    bench = Bench(asked)
    subjects: dict[str, Callable[[], Sample]] = {
        _BASE: partial(bench.study, "", "--untracked"),
        "tracked": partial(bench.study, "", "--complete"),
        "server away": partial(bench.study, _NOBODY),
        "shipper": bench.shipper,
    }
    found = interleaved(subjects, asked.rounds)
    kept = ("trials", "epochs", "validation", "dataset", "precision")
    settings = {key: getattr(asked, key) for key in kept} | {"batch_size": workload.BATCH}
    result = Result("tracking", settings)
    measures = (name for samples in found.values() for name in samples[0])
    result.add_each(found, dict.fromkeys(measures, "s"))
    result.compare(_BASE, "epoch")
    result.compare(_BASE, "wall a trial-epoch")
    result.finish(asked)


def _shipped(trials: int) -> float:
    """Processor seconds of a shipper that ships a study of so many trials."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        run_process(python("drive", "tuner", "random", trials), own_home(home))
        (study,) = (home / "studies").iterdir()
        store = f"sqlite:///{home}/mlflow.db"
        tables = (
            "import sys; from tuner.tracking.mlflow import experiments as e;"
            "e.open_store(sys.argv[1])"
        )
        run_process([sys.executable, "-c", tables, store])
        before = _processor_s()
        run_process(shipper(study, store, home / "files"))
        return _processor_s() - before


def _processor_s() -> float:
    """What processes that this one started, and that have ended, computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _arguments() -> argparse.Namespace:
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--trials", type=int, default=4, help="two a trainer at least")
    arguments.add_argument("--epochs", type=int, default=4, help="at least 2")
    arguments.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    workload.add_arguments(arguments)
    asked = arguments.parse_args()
    if asked.short:
        asked.rounds, asked.trials, asked.epochs = 1, 4, 2
    return asked


if __name__ == "__main__":
    main()
