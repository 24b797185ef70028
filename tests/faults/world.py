"""What a soak runs in: a database and MLflow behind proxies, and homes, each with its driver.

What dies is started again, as systemd or Kubernetes would. What was taken away is put back
when it is due, whatever else is going on.
"""

import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from tests.faults.conftest import RUN, Place
from tests.proxy import Proxy
from tests.tracking.ingress import Answer
from tests.tracking.servers import Server
from tuner.errors import ExitCode

HOMES = ("alpha", "beta")
"""Those that drive the study from its beginning."""
WORKER, WORK = "worker", ("worker", "fault", "--workers", "1")
GUARD, GUARD_WORK = "guard", ("worker", "touch", "--workers", "1")
"""A worker of the study, and one that has nothing to do but to refuse what it should not run."""
LEASE_S = 30
MORE = 40
"""By how many trials the budget grows where all have ended too early."""
LONGEST_S = 900.0
RESTART_S = 2.0
_LARGE = 2000
"""Bytes of a request's body that a proxy may refuse."""
_DEATHS = (-signal.SIGKILL, -signal.SIGTERM, ExitCode.TERMINATED, ExitCode.UNAVAILABLE)
"""How a driver may end that is started again: killed, told to end, even before it could listen,
or without a database."""


class Gate:
    """Answers in MLflow's place now and then, for as long as it `refuses`."""

    def __init__(self, chance: random.Random) -> None:
        self.refuses = False
        self.refused: dict[int, int] = {404: 0, 413: 0}
        """How many requests it has refused, by status."""
        self._chance = chance

    def __call__(self, body: bytes) -> Answer | None:
        if not self.refuses:
            return None
        if len(body) > _LARGE and self._chance.random() < 0.3:
            return self._refuse(413, b"<html>413 Request Entity Too Large</html>")
        if self._chance.random() < 0.2:
            return self._refuse(404, b"default backend - 404")
        return None

    def stop(self) -> None:
        """Lets everything through again."""
        self.refuses = False

    def _refuse(self, status: int, text: bytes) -> Answer:
        self.refused[status] += 1
        return status, text


@dataclass
class Driver:
    """The process that works in a home, and what it is started again with."""

    home: str
    command: Sequence[str]
    process: "subprocess.Popen[str]"
    started: float = field(default_factory=time.monotonic)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None


class World:
    """Homes and servers, and what is wrong with them now."""

    def __init__(
        self, place: Place, database: Proxy, mlflow: Server, gate: Gate, chance: random.Random
    ) -> None:
        self.place = place
        self.database = database
        self.mlflow = mlflow
        self.gate = gate
        self.chance = chance
        self.drivers: dict[str, Driver] = {}
        """By home."""
        self.trials = {"champion": 1}
        """The budget of each study."""
        self.damaged: set[Path] = set()
        """Spools in which bytes were changed."""
        self.wrong: list[str] = []
        """What should not have happened."""
        self._repairs: dict[str, tuple[float, Callable[[], None]]] = {}
        """By fault: when it ends, and how."""

    def begin(self) -> None:
        """Starts the drivers of the study, and the workers."""
        self._raise_budget()
        self.start(WORKER, WORK)
        self.start(GUARD, GUARD_WORK)

    def start(self, home: str, command: Sequence[str] = RUN) -> None:
        self.drivers[home] = Driver(home, command, self.place.start(home, command=command))

    def a_driver(self) -> Driver | None:
        """One of those that live, workers included."""
        alive = [driver for driver in self.drivers.values() if driver.is_alive]
        return self.chance.choice(alive) if alive else None

    def run(self, home: str, *command: str) -> int:
        """The exit code of a command, while all else goes on."""
        process = self.place.start(home, command=command)
        self.until(lambda: process.poll() is not None)
        return process.returncode

    def run_once_answered(self, home: str, *command: str) -> int:
        """The same, again and again until database and MLflow are there for it."""
        while (code := self.run(home, *command)) == ExitCode.UNAVAILABLE:
            self.rest(RESTART_S)
        return code

    def client(self) -> MlflowClient:
        """MLflow's own, by no proxy."""
        return MlflowClient(self.mlflow.settings.uri)

    def runs(self, study: str, kind: str = "trial") -> list[Run]:
        """The runs of the study that has the name now, by no proxy."""
        tags = {"tuner.kind": kind, "tuner.study_uid": self.uid(study)}
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        client = self.client()
        experiment = client.get_experiment_by_name("tuner").experiment_id
        return list(client.search_runs([experiment], wanted, max_results=5000))

    def uid(self, study: str) -> str:
        """Of the study that has the name now, as the home that came to it last has it."""
        marks = self.place.folder.glob(f"*/studies/{study}/uid")
        return max(marks, key=lambda mark: mark.stat().st_mtime).read_text()

    def later(self, fault: str, seconds: float, repair: Callable[[], None]) -> None:
        """Has a fault end in so many seconds."""
        self._repairs[fault] = time.monotonic() + seconds, repair

    def lasts(self, fault: str) -> bool:
        """Whether it has not ended yet."""
        return fault in self._repairs

    def rest(self, seconds: float) -> None:
        """Lets all go on for so long."""
        end = time.monotonic() + seconds
        self._tend_until(lambda: time.monotonic() >= end)

    def until(self, condition: Callable[[], Any]) -> None:
        """Lets all go on until it holds."""
        deadline = time.monotonic() + LONGEST_S
        self._tend_until(lambda: condition() or time.monotonic() > deadline)
        assert condition(), f"it did not come to that within {LONGEST_S:g} s"

    def mend(self) -> None:
        """Lets all go on until no fault lasts."""
        self.until(lambda: not self._repairs)

    def finish(self) -> None:
        """Lets the studies come to their ends, then ships what is left."""
        self.until(lambda: not self._driving())
        for home in (WORKER, GUARD):
            worker = self.drivers.pop(home).process
            worker.terminate()
            if (code := worker.wait(LONGEST_S)) != ExitCode.TERMINATED:
                self.wrong.append(f"{home}: exit {code}: {self.place.said(home)[-500:]}")
        for driver in self.drivers.values():
            self._finish(driver.home, driver.command)
        self._finish(WORKER, (*WORK, "--until-done"))

    def _finish(self, home: str, command: Sequence[str]) -> None:
        code = self.place.start(home, command=command).wait(LONGEST_S)
        if code != 0:
            self.wrong.append(f"{home}: exit {code}: {self.place.said(home)[-500:]}")

    def _tend_until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            for fault, (due, repair) in list(self._repairs.items()):
                if time.monotonic() >= due:
                    del self._repairs[fault]
                    repair()
            self._restart_the_dead()
            time.sleep(0.2)

    def strike_on(self) -> None:
        """Gives the drivers more to do where all have ended."""
        if not self._driving():
            self._raise_budget()

    def _driving(self) -> list[str]:
        """The homes whose drivers have not come to an end."""
        runs = [each for each in self.drivers.values() if each.command[0] == RUN[0]]
        return [driver.home for driver in runs if driver.process.poll() != 0]

    def _raise_budget(self) -> None:
        self.trials["fault"] = self.trials.get("fault", 0) + MORE
        space = {
            "pause_s": 0.03,
            "misfortune": {"type": "choice", "choices": ["none", "survived"]},
            "strikes_in": {"type": "int", "low": 3, "high": 40},
        }
        self.place.write_study(
            trials=self.trials["fault"], epochs=20, space=space, lease_s=LEASE_S, max_retries=50
        )
        for home in {*HOMES, *(each.home for each in self.drivers.values() if each.command == RUN)}:
            self.start(home)

    def _restart_the_dead(self) -> None:
        for driver in list(self.drivers.values()):
            code = driver.process.poll()
            assert code in (None, 0, *_DEATHS), (
                f"{driver.home}: exit {code}: {self.place.said(driver.home)[-2000:]}"
            )
            if code in _DEATHS and time.monotonic() - driver.started > RESTART_S:
                self.start(driver.home, driver.command)
