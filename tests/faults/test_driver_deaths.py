"""Drivers that are killed, stopped and lost with their machine, wherever that hurts."""

import random
import signal
import subprocess

import psutil
import pytest

from tests.faults.conftest import Place, eventually, reached
from tests.faults.kill_points import KillPoint
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import AttemptEnded

MOMENTS = (
    KillPoint.SLOT_CLAIMED,
    KillPoint.ROW_OPENED,
    KillPoint.START_RECORDED,
    KillPoint.ROW_TOLD,
    KillPoint.END_RECORDED,
    KillPoint.ATTEMPT_CLOSED,
)
"""Where drivers are killed: three with the trial to be tried again, three once it is told."""


@pytest.mark.slow
def test_drivers_that_are_killed_anywhere_leave_nothing_undone(shared_place: Place) -> None:
    place = shared_place
    place.write_study(trials=4, epochs=2)
    for moment in MOMENTS:
        place.kill(moment)
    assert place.run() == 0
    place.check(trials=4)
    assert place.outcomes(slot=0) == ["interrupted"] * 3 + ["completed"]
    assert [place.outcomes(slot) for slot in (1, 2, 3)] == [["completed"]] * 3


@pytest.mark.slow
def test_a_stopped_driver_is_fenced_and_joins_again(shared_place: Place) -> None:
    shared_place.write_study(trials=4, epochs=10)
    first = shared_place.start("one")
    eventually(reached(shared_place, epoch=2))
    first.send_signal(signal.SIGSTOP)
    second = shared_place.start("other")
    eventually(lambda: "took over 1 trial of a driver" in shared_place.said("other"))
    first.send_signal(signal.SIGCONT)
    assert second.wait() == 0
    assert first.wait() == 0

    assert "other drivers took over its trials; joining them" in shared_place.said("one")
    shared_place.check(trials=4)
    assert shared_place.outcomes()[0] == "interrupted"
    (fenced,) = shared_place.folder.glob("one/studies/fault/*/attempts/0-0")
    told, _ = read_events(fenced)
    assert isinstance(told[-1], AttemptEnded)
    assert told[-1].outcome == "interrupted"


@pytest.mark.slow
def test_a_driver_that_is_stopped_inside_a_transaction_holds_nobody_up(shared_place: Place) -> None:
    place = shared_place
    place.write_study(trials=2, epochs=4)
    first = place.start("one", KillPoint.SLOT_INSERTED, by=signal.SIGSTOP)
    eventually(lambda: psutil.Process(first.pid).status() == psutil.STATUS_STOPPED)
    assert place.run("other") == 0
    first.send_signal(signal.SIGCONT)
    assert first.wait() == 0
    place.check(trials=2)
    assert {attempt.outcome for attempt in place.attempts()} == {"completed"}


@pytest.mark.slow
def test_a_machine_that_never_comes_back_leaves_a_closed_run(shared_place: Place) -> None:
    shared_place.write_study(trials=1, epochs=30, space={"pause_s": 0.1})
    first = shared_place.start("one")
    eventually(lambda: shared_place.runs() and reached(shared_place, epoch=2)())
    machine = psutil.Process(first.pid)
    for process in (machine, *machine.children(recursive=True)):
        process.kill()
    first.wait()

    assert shared_place.run("other") == 0

    shared_place.check(trials=1)
    closed = shared_place.runs()[0]
    assert closed.info.status == "KILLED"


@pytest.mark.slow
def test_a_driver_may_die_while_it_takes_over(place: Place) -> None:
    place.write_study(trials=2)
    first = place.start()
    eventually(reached(place, epoch=1))
    first.kill()
    first.wait()
    for point in (KillPoint.TAKEOVER_BEGINS, KillPoint.TAKEOVER_WRITTEN):
        place.kill(point)
    assert place.run() == 0
    place.check(trials=2)


@pytest.mark.slow
def test_random_kills_never_set_a_study_back(place: Place) -> None:
    chance = random.Random(0)  # noqa: S311 - which process dies
    place.write_study(trials=4, epochs=6, max_retries=50, workers=2)
    ended = [0]
    while ended[-1] < 3:
        driver = place.start()
        _wait_for_progress(place, driver, beyond=ended[-1])
        if chance.random() < 0.5 and driver.poll() is None:
            place.trainers(driver)[0].kill()
            _wait_for_progress(place, driver, beyond=ended[-1] + 1)
        driver.kill()
        driver.wait()
        ended.append(_ended(place))
        assert ended[-1] > ended[-2]
    assert place.run() == 0
    place.check(trials=4)


def _wait_for_progress(place: Place, driver: "subprocess.Popen[str]", beyond: int) -> None:
    eventually(lambda: driver.poll() is not None or _ended(place) > beyond)


def _ended(place: Place) -> int:
    return sum(row.state.is_finished() for row in place.trials())
