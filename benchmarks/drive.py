"""One sample of `benchmarks.overhead`: drives a study and prints its milliseconds a trial.

    TUNER_HOME=... python -m benchmarks.drive WAY SAMPLER TRIALS [--profile]

WAY is `tuner`, `long epochs`, `stock` or `prepared stock`. With `--profile` it prints where the
time went.
"""

import argparse
import cProfile
import json
import os
import pstats
import sys
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import optuna
from optuna.storages import RDBStorage

from benchmarks.instant_pool import InstantPool
from benchmarks.overhead import EPOCHS, WAYS, WORKERS, Sample
from tuner.datasets.store import DatasetInfo
from tuner.driver.driver_loop import Driver
from tuner.driver.plans import Planner
from tuner.driver.session import DriverSession
from tuner.home import Home
from tuner.recording.journal import Journal
from tuner.search import importance, optuna_samplers, trials
from tuner.search.trials import Trials
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Ledger
from tuner.storage.database import Database
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.training.plan import ModelPlan

WATCHED: dict[type, dict[str, str]] = {
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

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Times the driver's loop and the methods in `WATCHED`, of any object, in the block."""
        with ExitStack() as patched:
            for watched, measures in WATCHED.items():
                for method, measure in measures.items():
                    timed = self._timed(getattr(watched, method), measure)
                    patched.enter_context(patch.object(watched, method, timed))
            run = self.loop()(Driver.run)
            patched.enter_context(patch.object(Driver, "run", run))
            yield

    @contextmanager
    def loop(self) -> Iterator[None]:
        """Times the block as the whole loop, and the processor time that it takes."""
        began, computing = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds["all"] += time.perf_counter() - began
            self.seconds["processor"] += time.process_time() - computing

    def sample(self, trials: int) -> Sample:
        """Milliseconds a trial, by measure."""
        return {name: 1000 * spent / trials for name, spent in self.seconds.items()}

    def _timed(self, method: Callable[..., Any], measure: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                self.seconds[measure] += time.perf_counter() - began

        return timed


def driven(home: Home, database: Database, spec: StudySpec) -> Sample:
    """Runs the study in the same driver's session as `run_study`, but ships nothing."""
    record = Catalog(database).create(spec, "study.yaml", (), _dataset(home.root))
    pool, stopwatch = InstantPool(WORKERS), Stopwatch()
    described = pool.describe(ModelPlan(name=spec.model), spec.dataset.name)
    session = DriverSession(
        home=home,
        database=database,
        record=record,
        planner=Planner(home, spec, (), record.dataset, described, "float32"),
        pool=pool,
        lease_s=spec.lease_s,
    )
    with stopwatch.watching():
        session.run()
    return stopwatch.sample(spec.trials)


def stock(spec: StudySpec, storage: RDBStorage | str) -> Sample:
    """What Optuna's own ask and tell take, `WORKERS` trials open at once."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=spec.name,
        storage=storage,
        direction=spec.objective.direction,
        sampler=optuna_samplers.sampler(spec, seed=0),
        pruner=optuna_samplers.pruner(spec),
    )
    space = optuna_samplers.distributions(spec)
    waiting: deque[tuple[optuna.Trial, int]] = deque()
    asked, stopwatch = 0, Stopwatch()
    with stopwatch.loop():
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
    return stopwatch.sample(spec.trials)


def _stock_url(home: Home) -> str:
    url = os.environ["TUNER_STORAGE_URL"].replace("postgresql:", "postgresql+psycopg:")
    return url or f"sqlite:///{home.root}/stock.db"


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
    arguments.add_argument("way", choices=WAYS)
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
        if asked.way == "stock":
            sample = stock(spec, _stock_url(home))
        elif asked.way == "prepared stock":
            sample = stock(spec, database.storage)
        else:
            sample = driven(home, database, spec)
    if asked.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(50)
    sys.stdout.write(json.dumps(sample) + "\n")


if __name__ == "__main__":
    main()
