"""One training: our engine against `model.fit`, on the same rows, network and recipe.

    python -m benchmarks.engine [--short] [--epochs 4] [--backend jax]

Every sample is a process of its own on all cores. It tells how long it took to load libraries
and images (`start-up`); to build, trace and train the first epoch (`first epoch`); how long
each later one took (`epoch`); both with their validation; and the test accuracy after the
last. `at once` trains as many networks at once as there are cores, one thread each and pinned,
and its times are divided by their number, so they are a throughput.

`share of limit` is the rate of an epoch's arithmetic over that of a large matrix product in
the same precision on the same cores, measured in the same round.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import get_args

from benchmarks import arithmetic, workload
from benchmarks.harness import Result, add_time_limit, interleaved, parser
from benchmarks.machine import computes_on
from benchmarks.process import python, run_process, run_together
from tuner.datasets.store import DatasetInfo
from tuner.spec.recipe import Backend

_FIT = {"float32": "model.fit float32", "bfloat16": "model.fit mixed_bfloat16"}
_OURS = {"float32": "tuner float32", "bfloat16": "tuner bfloat16"}
_MEASURES = {
    "epoch": "s",
    "first epoch": "s",
    "start-up": "s",
    "test accuracy": "",
    "share of limit": "",
    "rate": "operations/s",
}
_PRODUCT = "matrix product "

Sample = dict[str, float]


@dataclass(frozen=True)
class Bench:
    """What every sample shares."""

    asked: argparse.Namespace
    info: DatasetInfo

    @property
    def device(self) -> str:
        """What the backend computes on."""
        return computes_on(self.asked.backend)

    def training(self, side: str, precision: str, trainers: int = 1) -> Sample:
        """Trains `trainers` networks at once; the times are those of one of them."""
        cores = sorted(os.sched_getaffinity(0))
        share = len(cores) // trainers
        commands = [
            self._command(side, precision, number, cores[number * share : (number + 1) * share])
            for number in range(trainers)
        ]
        told = run_together(commands)
        began, first = min(one["began"] for one in told), max(one["ended"][0] for one in told)
        steady = max(one["ended"][-1] for one in told) - min(one["ended"][0] for one in told)
        return {
            "start-up": began - told[0]["launched"],
            "first epoch": (first - began) / trainers,
            "epoch": steady / trainers / (self.asked.epochs - 1),
            "test accuracy": fmean(one["accuracy"] for one in told),
        }

    def product(self, precision: str) -> Sample:
        """The rate of a large matrix product."""
        asked = ("--precision", precision, "--backend", self.asked.backend, "--device", self.device)
        ran = run_process(python("arithmetic", *asked))
        return {"rate": ran.answer["operations_per_s"]}

    def _command(self, side: str, precision: str, seed: int, cores: list[int]) -> list[str]:
        return python(
            "training",
            side,
            *("--data", self.info.folder, "--precision", precision, "--seed", seed),
            *("--backend", self.asked.backend, "--epochs", self.asked.epochs),
            *("--validation", self.asked.validation, "--cpus", ",".join(map(str, cores))),
            "--wait",
        )

    def subjects(self) -> dict[str, Callable[[], Sample]]:
        """What is compared, in the order in which each round runs it."""
        found: dict[str, Callable[[], Sample]] = {}
        for side, named in (("fit", _FIT), ("ours", _OURS)):
            for precision in self.asked.precision:
                found[named[precision]] = partial(self.training, side, precision)
        cores = len(os.sched_getaffinity(0))
        if cores > 1 and self.device == "cpu" and "bfloat16" in self.asked.precision:
            for side, named in (("fit", _FIT), ("ours", _OURS)):
                at_once = partial(self.training, side, "bfloat16", cores)
                found[f"{named['bfloat16']}, {cores} at once"] = at_once
        for precision in self.asked.precision:
            found[_PRODUCT + precision] = partial(self.product, precision)
        return found


def main() -> None:
    """Measures every subject, interleaved, and writes `engine-<cpu|gpu>.json`."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked, workload.prepared(asked.dataset, Path(folder)))
        found = interleaved(bench.subjects(), asked.rounds, asked.within)
    rows = {"train": bench.info.train_count - asked.validation, "validation": asked.validation}
    operations = arithmetic.epoch_operations(**rows)
    settings = {"epochs": asked.epochs, "backend": asked.backend, "batch_size": workload.BATCH}
    result = Result("engine", {**settings, **rows, "dataset": asked.dataset})
    result.facts["operations_per_epoch"] = operations
    add_limits(found, operations)
    result.add_each(found, _MEASURES)
    base = _FIT[asked.precision[0]]
    result.compare(base, "epoch")
    result.compare(base, "first epoch")
    result.finish(asked)


def add_limits(found: dict[str, list[Sample]], operations: float) -> None:
    """Adds to each training its share of the rate that its precision's product had beside it."""
    for name, samples in found.items():
        precision = "bfloat16" if "bfloat16" in name else "float32"
        for training, product in zip(samples, found[_PRODUCT + precision], strict=True):
            if "epoch" in training:
                training["share of limit"] = operations / training["epoch"] / product["rate"]


def _arguments() -> argparse.Namespace:
    arguments = parser(__doc__, rounds=5)
    arguments.add_argument("--epochs", type=int, default=4, help="at least 2")
    arguments.add_argument("--backend", default="tensorflow", choices=get_args(Backend))
    workload.add_arguments(arguments)
    add_time_limit(arguments)
    arguments.add_argument("--precision", nargs="+", choices=list(_FIT), default=list(_FIT))
    asked = arguments.parse_args()
    if asked.short:
        asked.rounds, asked.epochs = 1, 2
    return asked


if __name__ == "__main__":
    main()
