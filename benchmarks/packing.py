"""Packing: how many trainers on how many cores train the most epochs a second.

    python -m benchmarks.packing [--short] [--epochs 3] [--precision bfloat16]

Every way to divide the cores evenly, and one trainer on a single core. The trainers are those
of `tuner run-study`, in a pool of their own for each sample, pinned. Each first trains a short
trial, so that its libraries are loaded and its programs are compiled; then all get a trial at
the same moment, and the clock runs until the last has ended. A trial-epoch is one epoch of one
trial, its validation included.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from benchmarks import workload
from benchmarks.harness import Result, add_time_limit, interleaved, parser
from tuner.datasets.store import DatasetInfo
from tuner.spec.recipe import Backend
from tuner.training.plan import EpochEnded, Outcome, TrialPlan
from tuner.workers.devices import Device, visible_gpus
from tuner.workers.local_pool import LocalPool
from tuner.workers.pool import Finished, Lost, Reported

_POLL_S = 1.0


def main() -> None:
    """Measures every packing, interleaved, and writes `packing-<cpu|gpu>.json`."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        info = workload.prepared(asked.dataset, Path(folder))
        ways = {
            _named(devices): partial(_throughput, devices, info, asked)
            for devices in packings(tuple(sorted(os.sched_getaffinity(0))))
            if len(devices) in (asked.trainers or [len(devices)])
        }
        found = interleaved(ways, asked.rounds, asked.within)
    kept = ("epochs", "precision", "backend", "validation", "dataset")
    result = Result("packing", {key: getattr(asked, key) for key in kept})
    for subject, samples in found.items():
        result.add(subject, "throughput", "trial-epochs/s", samples)
    result.finish(asked)


def packings(cores: tuple[int, ...]) -> Iterator[tuple[Device, ...]]:
    """Every way to divide the cores evenly among trainers, and one trainer on one core.

    With GPUs, each group of trainers shares the first of them and has all cores.
    """
    gpu = next(iter(visible_gpus(os.environ)), None)
    kind: Literal["cpu", "gpu"] = "cpu" if gpu is None else "gpu"
    for trainers in (n for n in range(1, len(cores) + 1) if len(cores) % n == 0):
        share = len(cores) // trainers
        groups = (cores[first : first + share] for first in range(0, len(cores), share))
        yield tuple(Device(kind, group, gpu) for group in groups)
    if len(cores) > 1 and gpu is None:
        yield (Device(kind, cores[:1], gpu),)


def _throughput(devices: tuple[Device, ...], info: DatasetInfo, asked: argparse.Namespace) -> float:
    """Trial-epochs a second of trainers on these devices."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(LocalPool(devices, Path(folder) / "logs", asked.backend)) as pool,
    ):
        plan = partial(
            workload.plan,
            info,
            Path(folder),
            validation=asked.validation,
            precision=asked.precision,
        )
        numbers = range(len(devices))
        _train(pool, [plan(slot=number, epochs=1) for number in numbers])
        started = time.monotonic()
        _train(pool, [plan(slot=number, epochs=asked.epochs, seed=1) for number in numbers])
        return len(devices) * int(asked.epochs) / (time.monotonic() - started)


def _train(pool: LocalPool, plans: list[TrialPlan]) -> None:
    """Trains one plan on each trainer, all at once, to the last one's end."""
    while pool.idle < pool.size:
        pool.next_event(_POLL_S)
    for plan in plans:
        pool.submit(plan)
    ended = 0
    while ended < len(plans):
        match pool.next_event(_POLL_S):
            case Lost(reason=reason):
                raise RuntimeError(reason)
            case Reported(plan=plan, event=EpochEnded(report=report)):
                pool.proceed(plan, report.epoch)
            case Finished(result=result):
                if result.state is not Outcome.COMPLETED:
                    raise RuntimeError(f"a training {result.state}: {result.error}")
                ended += 1


def _named(devices: tuple[Device, ...]) -> str:
    each = len(devices[0].cpus)
    trainers = f"{len(devices)} trainer{'s' * (len(devices) > 1)}"
    return f"{trainers} of {each} thread{'s' * (each > 1)}"


def _arguments() -> argparse.Namespace:
    arguments = parser(__doc__, rounds=5)
    arguments.add_argument("--epochs", type=int, default=3)
    arguments.add_argument("--trainers", type=int, nargs="+", help="only so many; all ways without")
    arguments.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    arguments.add_argument("--backend", default="tensorflow", choices=get_args(Backend))
    workload.add_arguments(arguments)
    add_time_limit(arguments)
    asked = arguments.parse_args()
    if asked.short:
        asked.rounds, asked.epochs = 1, 1
    return asked


if __name__ == "__main__":
    main()
