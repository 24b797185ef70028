"""How long it takes to ship a study that has been trained, and what of it is left on disk.

    python -m benchmarks.shipping [--short] [--trials 200 1000]

A driver whose trainers answer at once writes the spools of a study of 10 epochs a trial; then the
shipper's own code ships them, figures drawn in its second process, until nothing is left: to
SQLite and a folder, or to an MLflow server of this machine, on SQLite too, that takes the
artifacts. Each sample is a process of its own.

    trials a second    the start of the drawing process included, imports of this one left out
    calls a trial      of MLflow's client; files are uploaded beside them
    files a trial      those of the study's folder and of its runs
    peak memory        of the process that ships
"""

import argparse
from functools import partial

from benchmarks.harness import Result, interleaved, parser
from benchmarks.process import python, run_process

_UNITS = {"peak memory": "MB"}


def main() -> None:
    """Ships to both, interleaved, and writes `shipping-<cpu|gpu>.json`."""
    asked = _arguments()
    stores: dict[str, tuple[str, ...]] = {"SQLite": (), "server": ("--server",)}
    subjects = {
        f"{store}, {trials} trials": partial(_shipped, trials, *options)
        for trials in asked.trials
        for store, options in stores.items()
    }
    found = interleaved(subjects, asked.rounds)
    result = Result("shipping", {"epochs": 10})
    measures = next(iter(found.values()))[0]
    result.add_each(found, {measure: _UNITS.get(measure, "") for measure in measures})
    result.finish(asked)


def _shipped(trials: int, *options: str) -> dict[str, float]:
    return run_process(python("shipped", "--trials", trials, *options)).answer


def _arguments() -> argparse.Namespace:
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--trials", type=int, nargs="+", default=[200, 1000])
    asked = arguments.parse_args()
    if asked.short:
        asked.rounds, asked.trials = 1, [20]
    return asked


if __name__ == "__main__":
    main()
