"""A driver in a thread of its own, which goes on from one event to the next when it is told to."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from tests.bench import Bench, ScriptedPool
from tests.driver.schedules.schedule import Fate
from tuner.storage.studies import StudyRecord
from tuner.study.summary import StudySummary
from tuner.workers.pool import PoolEvent


class Killed(BaseException):
    """Ends the thread of a driver that was killed, once everything has been checked."""


@dataclass
class SteppedPool(ScriptedPool):
    """A pool whose driver waits before each event until it is that driver's turn."""

    wait: Callable[[], None] = lambda: None
    fate: Fate = "go on"
    """What befalls the trial that is the next one to be heard of."""

    def next_event(self, timeout_s: float) -> PoolEvent | None:
        self.wait()
        fate, self.fate = self.fate, "go on"
        self.dies = lambda _plan: fate == "trainer dies"
        self.fails = lambda _plan: fate == "trial fails"
        return super().next_event(timeout_s)


class SteppedDriver:
    """The program's driver in a home, with a connection of its own."""

    def __init__(self, bench: Bench, record: StudyRecord) -> None:
        self.bench = bench
        self.over = False
        self.error: BaseException | None = None
        self.summary: StudySummary | None = None
        """What it has come to, once it has left."""
        self._record = record
        self._pool = SteppedPool(size=min(2, record.spec.trials), wait=self._wait)
        self._stopping = self._killed = False
        self._turn, self._paused = SimpleQueue[None](), SimpleQueue[None]()
        self._thread = threading.Thread(target=self._drive, daemon=True)
        self._thread.start()
        self._paused.get()

    def take(self, fate: Fate) -> None:
        """Lets it work until something happens, or it has ended."""
        self._stopping |= fate == "stop"
        if fate in ("trainer dies", "trial fails"):
            self._pool.fate = fate
        self._turn.put(None)
        self._paused.get()

    def bury(self) -> None:
        """Ends its thread."""
        self._killed = True
        self._turn.put(None)
        self._thread.join()

    def _drive(self) -> None:
        try:
            session = self.bench.session(
                self._record,
                self._pool,
                stopped=lambda: self._stopping,
                notify=lambda _event: self._wait(),
            )
            self.summary = session.run()
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.error = error
        finally:
            self.over = True
            self._paused.put(None)

    def _wait(self) -> None:
        """Here a driver may be killed."""
        if not self._killed:
            self._paused.put(None)
            self._turn.get()
        if self._killed:
            raise Killed
