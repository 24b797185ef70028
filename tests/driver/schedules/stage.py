"""Where schedules are played: a database, connections to it, homes, and simulated clocks."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import bindparam, update

from tests.bench import Bench, Clocks, simulated_clocks, unseen_dataset
from tests.driver.schedules.schedule import HOMES
from tests.driver.schedules.stepped_driver import SteppedDriver
from tuner.home import Home
from tuner.spec.study_spec import StudySpec
from tuner.storage.database import Database
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog, StudyRecord
from tuner.storage.tables import drivers

HEARTBEAT_S = 10.0


class Stage:
    """What one schedule after another is played on: a database, connections to it, the homes."""

    def __init__(self, bench: Bench, clocks: Clocks) -> None:
        self.bench = bench
        self.clocks = clocks
        self.played = 0
        self.homes = [Home(bench.home.root / f"home-{number}") for number in range(HOMES)]
        for home in self.homes:
            home.create()
        self._spare: list[Database] = []
        living = drivers.c.ended_ms.is_(None), drivers.c.pid_started != -1
        heartbeats = update(drivers).where(*living, drivers.c.home != bindparam("frozen"))
        self._heartbeats = heartbeats.values(last_heartbeat_ms=bindparam("at_ms"))
        self.frozen = ""
        """The id of the home whose driver sends no heartbeats."""
        self._sent_at = clocks.now
        clocks.meanwhile = self._send_heartbeats

    def record(self, spec: StudySpec) -> StudyRecord:
        """Stores a study, beside those that were played before."""
        catalog = Catalog(self.bench.database)
        return catalog.create(spec, "study.yaml", (), self.bench.dataset, files={})

    def join(self, home: int, record: StudyRecord) -> SteppedDriver:
        """Another driver in the home, of which it knows what is on the disk."""
        database = self._spare.pop() if self._spare else open_database(self.bench.home)
        place = Home(self.homes[home].root)
        return SteppedDriver(Bench(place, database, self.bench.dataset), record)

    def bury(self, driver: SteppedDriver) -> None:
        """Ends the driver's thread; the next one takes its connection."""
        driver.bury()
        self._spare.append(driver.bench.database)

    def _send_heartbeats(self) -> None:
        """Of all drivers that were not killed, when they are due."""
        if self.clocks.now - self._sent_at < HEARTBEAT_S:
            return
        self._sent_at = self.clocks.now
        with self.bench.database.engine.begin() as connection:
            sent = {"at_ms": self.clocks.database_ms, "frozen": self.frozen}
            connection.execute(self._heartbeats, sent)

    def close(self) -> None:
        for database in self._spare:
            database.close()


@contextmanager
def stage_in_memory() -> Iterator[Stage]:
    """A stage whose files are in memory, where the machine has such a folder: disks cost time."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of a random name below it
    parent = memory if memory.is_dir() else None
    with TemporaryDirectory(dir=parent) as folder, simulated_clocks() as clocks:
        home = Home(Path(folder) / "home")
        with open_database(home) as database:
            bench = Bench(home, database, unseen_dataset(home.root))
            with bench.stack, closing(Stage(bench, clocks)) as stage:
                yield stage
