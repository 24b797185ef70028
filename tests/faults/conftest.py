"""Driver processes on real databases and a real MLflow store, and what must hold afterwards."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState
from sklearn.datasets import load_digits

from tests.faults.kill_points import SITE, KillPoint
from tests.waiting import LONGEST_S, wait_until
from tuner.home import Home
from tuner.search.trials import stored_result
from tuner.storage.attempts import Attempt, Ledger
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.workers import trainer

TESTS = Path(__file__).parents[1]
STUDY: dict[str, Any] = {
    "name": "fault",
    "dataset": {"name": "npz", "args": {"path": "digits.npz"}},
    "model": "softmax:build",
    "search_space": {
        "learning_rate": 0.05,  # nothing is searched, so that drivers need not load what judges it
        "batch_size": 64,
        "pause_s": 0.01,
    },
    "pruner": "none",
    "sampler": "random",
    "trials": 3,
    "epochs": 4,
    "workers": 1,
    "precision": "float32",
    "validation": 300,
    "lease_s": 2,
}
KEPT = 3
"""How many models a study keeps unless it says otherwise."""
RUN = ("run-study", "study.yaml")


@dataclass
class Place:
    """A folder with a study file, data, an MLflow store, a database, and homes to come."""

    folder: Path
    storage_url: str
    tracking_uri: str = ""
    processes: list["subprocess.Popen[str]"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tracking_uri = self.tracking_uri or f"sqlite:///{self.folder}/mlflow.db"

    def write_study(
        self, file: str = "study.yaml", *, space: dict[str, Any] | None = None, **changes: Any
    ) -> None:
        study = {**STUDY, **changes}
        study["search_space"] = {**STUDY["search_space"], **(space or {})}
        (self.folder / file).write_text(json.dumps(study))

    def start(
        self,
        home: str = "home",
        dies_at: KillPoint | None = None,
        command: Sequence[str] = RUN,
        clock_s: float = 0,
        folder: Path | None = None,
        engine: str = "",
        by: signal.Signals = signal.SIGKILL,
    ) -> "subprocess.Popen[str]":
        """Starts a driver and leaves it running, in a process group of its own.

        It works in `folder`, or in the place's own, and is `clock_s` ahead of the others' clocks;
        at `dies_at` it is killed `by` a signal. For another `engine` than the environment's see
        `site/sitecustomize.py`.
        """
        faults = {"FAULT_CLOCK_S": str(clock_s)} | (dies_at.environment(by) if dies_at else {})
        faults |= {"FAULT_ENGINE": engine} if engine else {}
        log = (self.folder / f"{home}.log").open("a")
        process = subprocess.Popen(
            [sys.executable, "-m", "tuner", *command],
            cwd=folder or self.folder,
            env=self.environment(home) | faults,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def run(
        self, home: str = "home", command: Sequence[str] = RUN, folder: Path | None = None
    ) -> int:
        return self.start(home, command=command, folder=folder).wait(LONGEST_S)

    def answer(self, *command: str, home: str = "home", code: int | None = 0) -> str:
        """What a command prints until it ends; with this exit status, unless it is None."""
        done = subprocess.run(
            [sys.executable, "-m", "tuner", *command],
            cwd=self.folder,
            env=self.environment(home),
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_S,
        )
        assert code in (None, done.returncode), done.stdout + done.stderr
        return done.stdout + done.stderr

    def kill(self, point: KillPoint, home: str = "home", command: Sequence[str] = RUN) -> None:
        """Starts a driver, which is killed at the point."""
        code = self.start(home, point, command).wait(LONGEST_S)
        assert code == -signal.SIGKILL, f"{point.name} was not reached: {self.said(home)}"

    def said(self, home: str = "home") -> str:
        return (self.folder / f"{home}.log").read_text()

    def environment(self, home: str = "home") -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": python_path(),
            "TUNER_HOME": str(self.folder / home),
            "TUNER_STORAGE_URL": self.storage_url,
            "MLFLOW_TRACKING_URI": self.tracking_uri,
        }

    def attempts(self, study: str = "fault") -> list[Attempt]:
        """The ledger, empty before the study is there."""
        with self._opened() as database:
            return Ledger(database, study).attempts()

    def outcomes(self, slot: int = 0) -> list[str | None]:
        """How the attempts at one slot ended, in their order."""
        return [each.outcome for each in self.attempts() if each.slot == slot]

    def trials(self, study: str = "fault") -> list[optuna.trial.FrozenTrial]:
        """The rows, as Optuna's own client reads them; none before the study is there."""
        with self._opened() as database:
            if study not in optuna.get_all_study_names(database.storage):
                return []
            return optuna.load_study(study_name=study, storage=database.storage).trials

    def trainers(self, driver: "subprocess.Popen[str]") -> list[psutil.Process]:
        children = psutil.Process(driver.pid).children()
        return [each for each in children if trainer.__name__ in each.cmdline()]

    def runs(self) -> list[Run]:
        """The child runs, as MLflow's own client reads them."""
        client = MlflowClient(self.tracking_uri)
        experiments = [each.experiment_id for each in client.search_experiments()]
        runs = client.search_runs(experiments, "tags.`tuner.kind` = 'trial'", max_results=1000)
        return sorted(runs, key=lambda run: (run.data.tags["tuner.slot"], run.info.start_time))

    def _opened(self) -> Any:
        before = os.environ.get("TUNER_STORAGE_URL")
        os.environ["TUNER_STORAGE_URL"] = self.storage_url
        try:
            return open_database(Home(self.folder / "home"))
        finally:
            if before is None:
                del os.environ["TUNER_STORAGE_URL"]
            else:
                os.environ["TUNER_STORAGE_URL"] = before

    def check(self, trials: int = 3, failed: int = 0) -> None:
        """I1 to I3 and I5, once every driver has left."""
        rows = self.trials()
        states = Counter(row.state.name for row in rows)
        assert states == Counter({"COMPLETE": trials - failed, "FAIL": failed}) - Counter()
        assert sorted(row.user_attrs["slot"] for row in rows) == list(range(trials))
        attempts = self.attempts()
        assert all(each.outcome is not None for each in attempts)
        assert Counter(each.slot for each in attempts if each.final) == Counter(range(trials))
        self._check_runs(attempts)
        wait_until(lambda: not self.left_over())
        assert not list(self.folder.rglob("*partial-*"))

    def _check_runs(self, attempts: list[Attempt]) -> None:
        rows = {row.user_attrs["slot"]: row for row in self.trials()}
        runs = {run.data.tags["tuner.uid"]: run for run in self.runs()}
        assert len(runs) == len(self.runs())
        client = MlflowClient(self.tracking_uri)
        furthest: Counter[int] = Counter()
        for attempt in attempts:  # those of a slot in their order
            run = runs.pop(attempt.uid, None)
            if run is None:
                assert attempt.handed_back, "an attempt without a run had not begun"
                continue
            assert run.info.status != "RUNNING"
            history = client.get_metric_history(run.info.run_id, "loss")
            assert sorted(point.step for point in history) == list(range(1, len(history) + 1))
            furthest[attempt.slot] = max(furthest[attempt.slot], len(history))
            if attempt.final:
                row = rows[attempt.slot]
                assert len(row.intermediate_values) == furthest[attempt.slot]
                if row.state is TrialState.COMPLETE:
                    assert len(history) == furthest[attempt.slot]
                models = client.list_artifacts(run.info.run_id, "model")
                assert len(models) == (rows[attempt.slot] in self._best())
        assert not runs

    def _best(self) -> list[optuna.trial.FrozenTrial]:
        """Those whose models are kept."""
        completed = [row for row in self.trials() if row.state is TrialState.COMPLETE]
        return sorted(completed, key=lambda row: (-(stored_result(row).value or 0), row.number))[
            :KEPT
        ]

    def left_over(self) -> list[psutil.Process]:
        """Processes of this place that are still alive."""
        mine = []
        for process in psutil.process_iter(["environ"]):
            environment = process.info["environ"] or {}
            if environment.get("TUNER_HOME", "").startswith(str(self.folder)):
                mine.append(process)
        return mine

    def close(self) -> None:
        for driver in self.processes:
            if driver.poll() is None:
                driver.kill()
                driver.wait()
        for process in self.left_over():
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A folder with an MLflow store without runs and a data set."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    write_digits(folder)
    return folder


def write_digits(folder: Path) -> None:
    """Writes the data set of the studies into a folder."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * 15).astype(np.uint8)
    np.savez(
        folder / "digits.npz",
        x_train=pixels[:1200],
        y_train=labels[:1200],
        x_test=pixels[1200:],
        y_test=labels[1200:],
    )


@pytest.fixture
def furnished(tmp_path: Path, template: Path) -> Path:
    """A folder with what a study needs."""
    return Path(shutil.copytree(template, tmp_path / "place"))


@pytest.fixture
def place(furnished: Path) -> Iterator[Place]:
    """On SQLite."""
    made = Place(furnished, f"sqlite:///{furnished}/studies.db")
    yield made
    made.close()


@pytest.fixture
def shared_place(postgresql: str, furnished: Path) -> Iterator[Place]:
    """On PostgreSQL, as several machines would share it."""
    made = Place(furnished, postgresql)
    yield made
    made.close()
    with made._opened() as database:
        for name in Catalog(database).names():
            Catalog(database).delete(name)


def reached(place: Place, epoch: int, slot: int = 0) -> Callable[[], bool]:
    """Whether an attempt at the slot has told of so many epochs, by its spool."""

    def told() -> bool:
        spools = place.folder.glob(f"*/studies/fault/*/attempts/{slot}-*/spool.jsonl")
        return any(path.read_text().count('"epoch-ended"') >= epoch for path in spools)

    return told


def python_path() -> str:
    """What lets a process train with the engine of the tests, and find the study's model."""
    faults = TESTS / "faults"
    path = [str(SITE), str(faults), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(filter(None, path))


def eventually(condition: Callable[[], object]) -> None:
    wait_until(condition)
