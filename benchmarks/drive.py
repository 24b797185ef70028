"""One sample of `benchmarks.overhead`: drives a study and prints its milliseconds a trial.

    TUNER_HOME=... python -m benchmarks.drive WAY SAMPLER TRIALS [--profile]

WAY is `tuner`, `long epochs` or `stock`. With `--profile` it prints where the time went.
"""

import argparse
import cProfile
import json
import logging
import os
import pstats
import sys
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Self

import optuna

from benchmarks.instant_pool import InstantPool
from benchmarks.overhead import EPOCHS, WORKERS, Sample
from tuner.datasets.store import DatasetInfo
from tuner.driver.driver_loop import Driver
from tuner.driver.plans import Planner
from tuner.home import Home
from tuner.recording.journal import Journal
from tuner.recording.provenance import Provenance
from tuner.search import importance, optuna_samplers, trials
from tuner.search.trials import Trials
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Ledger
from tuner.storage.database import Database
from tuner.storage.drivers import DriverLease
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.study.driver_events import ignore
from tuner.training.plan import ModelPlan

_logger = logging.getLogger(__name__)

WATCHED = {
    Trials: {"open": "ask", "report": "report", "flush": "report", "tell": "tell"},
    Ledger: dict.fromkeys(("claim", "close", "open_attempts", "has_free"), "ledger"),
    Journal: dict.fromkeys(
        ("attempt_started", "reported", "attempt_ended", "study_progressed",
         "model_kept", "model_displaced"), "journal",
    ),
}  # fmt: skip


class Stopwatch:
    """Adds up how long methods take, by what they are for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, thing: object) -> None:
        """Times the object's methods from here on."""
        for method, measure in WATCHED[type(thing)].items():
            setattr(thing, method, self._timed(getattr(thing, method), measure))

    def _timed(self, method: Callable[..., Any], measure: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                self.seconds[measure] += time.perf_counter() - began

        return timed


def driven(home: Home, database: Database, spec: StudySpec) -> Sample:
    """Drives the study with everything that `run_study` gives to a driver."""
    record = Catalog(database).create(spec, "study.yaml", (), _dataset(home.root))
    pool, stopwatch = InstantPool(WORKERS), Stopwatch()
    described = pool.describe(ModelPlan(name=spec.model), spec.dataset.name)
    member = DriverLease(database, spec.name, home.uid, spec.lease_s)
    nowhere = Provenance("", "", dirty=False)
    journal = Journal(home, record, nowhere, leads=member.leads, say=_logger.warning)
    with member, closing(journal):
        rows = Trials(database, spec, member.uid)
        ledger = Ledger(database, spec.name, member.uid)
        for thing in (rows, ledger, journal):
            stopwatch.watch(thing)
        driver = Driver(
            planner=Planner(home, spec, (), record.dataset, described, "float32"),
            trials=rows,
            ledger=ledger,
            pool=pool,
            journal=journal,
            notify=ignore,
        )
        journal.study_opened()
        with Loop() as loop:
            summary = driver.run(lambda: False)
        journal.study_closed(summary)
    parts = {name: 1000 * spent / spec.trials for name, spent in stopwatch.seconds.items()}
    return {**loop.sample(spec.trials), **parts}


def stock(home: Home, spec: StudySpec) -> Sample:
    """What Optuna's own ask and tell take, `WORKERS` trials open at once."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = os.environ["TUNER_STORAGE_URL"].replace("postgresql:", "postgresql+psycopg:")
    study = optuna.create_study(
        study_name=spec.name,
        storage=url or f"sqlite:///{home.root}/stock.db",
        direction=spec.objective.direction,
        sampler=optuna_samplers.sampler(spec, seed=0),
        pruner=optuna_samplers.pruner(spec),
    )
    space = optuna_samplers.distributions(spec)
    waiting: deque[tuple[optuna.Trial, int]] = deque()
    asked = 0
    with Loop() as loop:
        while asked < spec.trials or waiting:
            while asked < spec.trials and len(waiting) < WORKERS:
                waiting.append((study.ask(space), 1))
                asked += 1
            trial, epoch = waiting.popleft()
            value = 1 - abs(float(trial.params["learning_rate"]) - 0.003) * 50 - 0.1 / epoch
            if epoch > EPOCHS:
                study.tell(trial, value)
                continue
            trial.report(value, step=epoch)
            trial.should_prune()
            waiting.append((trial, epoch + 1))
    return loop.sample(spec.trials)


class Loop:
    """Times the block that it is entered for."""

    def __enter__(self) -> Self:
        self._began, self._computing = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds = time.perf_counter() - self._began
        self._computed = time.process_time() - self._computing

    def sample(self, trials: int) -> Sample:
        """Milliseconds a trial."""
        computed = 1000 * self._computed / trials
        return {"all": 1000 * self._seconds / trials, "processor": computed}


def study_spec(sampler: str, count: int) -> StudySpec:
    """A study of that many trials, of a name of its own."""
    return StudySpec.model_validate(
        {
            "name": f"overhead-{uuid.uuid4().hex}",
            "dataset": "mnist",
            "model": "paper-cnn",
            "search_space": {
                "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
                "dropout_rate": {"type": "float", "low": 0.0, "high": 0.5},
                "batch_size": {"type": "choice", "choices": [32, 64, 128]},
            },
            "sampler": sampler,
            "pruner": "median",
            "trials": count,
            "epochs": EPOCHS,
            "validation": 10_000,
        }
    )


def _dataset(folder: Path) -> DatasetInfo:
    return DatasetInfo(
        name="mnist",
        digest="0" * 64,
        source="none: nothing is trained",
        folder=folder,
        image_shape=(28, 28, 1),
        classes=tuple("0123456789"),
        train_count=60_000,
        test_count=10_000,
        background="dark",
        content_fraction=1.0,
    )


def main() -> None:
    """Drives one study and prints the sample as JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("way", choices=["tuner", "long epochs", "stock"])
    arguments.add_argument("sampler")
    arguments.add_argument("trials", type=int)
    arguments.add_argument("--profile", action="store_true")
    asked = arguments.parse_args()
    home, spec = Home.from_environment(), study_spec(asked.sampler, asked.trials)
    if asked.way == "long epochs":
        trials.REFRESH_S = 0.0
    importance.load()
    profile = cProfile.Profile()
    with open_database(home) as database, profile if asked.profile else nullcontext():
        sample = stock(home, spec) if asked.way == "stock" else driven(home, database, spec)
    if asked.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(50)
    sys.stdout.write(json.dumps(sample) + "\n")


if __name__ == "__main__":
    main()
