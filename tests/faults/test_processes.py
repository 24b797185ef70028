"""Trainers and drivers that are killed, stopped and hung, wherever that hurts."""

import random
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from mlflow.entities import Run

from tests.faults.conftest import Place, eventually, reached

KILLED = -signal.SIGKILL


def curve(run: Run, place: Place) -> list[float]:
    from mlflow import MlflowClient

    history = MlflowClient(place.tracking_uri).get_metric_history(run.info.run_id, "val_loss")
    return [point.value for point in sorted(history, key=lambda point: point.step)]


def outcomes(place: Place, slot: int = 0) -> list[str | None]:
    return [each.outcome for each in place.attempts() if each.slot == slot]


def test_a_trainer_that_is_killed_in_mid_epoch_goes_on_from_its_checkpoint(
    place: Place, template: Path
) -> None:
    place.write_study(trials=1, epochs=6)
    driver = place.start()
    eventually(reached(place, epoch=3))
    (trainer,) = place.trainers(driver)
    trainer.kill()
    assert driver.wait(120) == 0

    place.check(trials=1)
    assert outcomes(place) == ["lost", "completed"]
    first, second = place.runs()
    assert second.data.tags["tuner.predecessor"] == first.data.tags["tuner.uid"]
    assert second.data.tags["tuner.predecessor_run_id"] == first.info.run_id
    assert len(curve(second, place)) == 6
    assert curve(second, place)[:3] == curve(first, place)[:3]
    alone = Place(place.folder / "alone", f"sqlite:///{place.folder}/alone.db")
    shutil.copytree(template, alone.folder)
    alone.write_study(trials=1, epochs=6)
    assert alone.run() == 0
    assert curve(alone.runs()[0], alone) == curve(second, place)


MOMENTS = {
    "tuner.study.ledger:Ledger.claim:after": 2,
    "tuner.study.trials:Trials.open:after": 2,
    "tuner.study.journal:Journal.attempt_started:after": 2,
    "tuner.study.trials:Trials.tell:after": 1,
    "tuner.study.journal:Journal.attempt_ended:after": 1,
    "tuner.study.ledger:Ledger.close:after": 1,
}
"""Where a driver is killed, and how many attempts the trial takes then."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_driver_that_is_killed_anywhere_leaves_nothing_undone(place: Place, moment: str) -> None:
    _kill_and_go_on(place, moment)


@pytest.mark.parametrize("moment", list(MOMENTS)[::3])
def test_it_leaves_nothing_undone_in_a_shared_database(shared_place: Place, moment: str) -> None:
    _kill_and_go_on(shared_place, moment)


def _kill_and_go_on(place: Place, moment: str) -> None:
    place.write_study(trials=2, epochs=2)
    assert place.run(dies_at=moment) == KILLED

    assert place.run() == 0

    place.check(trials=2)
    assert len(outcomes(place)) == MOMENTS[moment]


def test_the_next_driver_goes_on_to_exactly_as_many(place: Place) -> None:
    place.write_study()
    driver = place.start()
    eventually(reached(place, epoch=2, slot=1))
    driver.kill()
    driver.wait()
    assert place.run() == 0
    place.check()
    assert [len(outcomes(place, slot)) for slot in range(3)] == [1, 2, 1]


def test_a_stopped_driver_is_fenced_and_joins_again(shared_place: Place) -> None:
    shared_place.write_study(trials=4, epochs=10)
    first = shared_place.start("one")
    eventually(reached(shared_place, epoch=2))
    first.send_signal(signal.SIGSTOP)
    second = shared_place.start("other")
    eventually(lambda: "took over 1 trial of a driver" in shared_place.said("other"))
    first.send_signal(signal.SIGCONT)
    assert second.wait(120) == 0
    assert first.wait(120) == 0

    assert "others went on with its trials; joining them" in shared_place.said("one")
    shared_place.check(trials=4)
    assert outcomes(shared_place)[0] == "interrupted"


def test_a_machine_that_never_comes_back_leaves_a_closed_run(shared_place: Place) -> None:
    shared_place.write_study(trials=1, epochs=8, space={"pause_s": 0.1})
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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_hands_the_trial_back_once(place: Place, number: int, code: int) -> None:
    place.write_study()
    driver = place.start()
    eventually(reached(place, epoch=1))
    driver.send_signal(number)
    assert driver.wait(10) == code
    assert outcomes(place) == ["interrupted"]
    assert place.run() == 0
    place.check()


def test_a_second_ctrl_c_ends_at_once_and_loses_nothing(place: Place) -> None:
    place.write_study()
    driver = place.start()
    eventually(reached(place, epoch=1))
    driver.send_signal(signal.SIGINT)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(10) == 130
    assert place.run() == 0
    place.check()


@pytest.mark.parametrize("when", ["before", "after"])
def test_whoever_takes_over_may_die_of_it(place: Place, when: str) -> None:
    place.write_study(trials=2)
    first = place.start()
    eventually(reached(place, epoch=1))
    first.kill()
    first.wait()
    assert place.run(dies_at=f"tuner.study.leftovers:close_attempts:{when}") == KILLED
    assert place.run() == 0
    place.check(trials=2)


def test_a_trial_that_kills_its_trainer_every_time_fails_alone(place: Place) -> None:
    place.write_study(trials=2, max_retries=1, space={"dies_in": 3, "attempts": 9}, baseline=[])
    assert place.run() == 1
    place.check(trials=2, failed=2)
    assert outcomes(place) == ["lost", "failed"]
    assert "its trainer died in each of 2 attempts" in place.said()


def test_a_trainer_that_hangs_is_killed_and_the_trial_goes_on(place: Place) -> None:
    place.write_study(trials=1, epoch_limit_s=2, space={"hangs_in": 3})
    assert place.run() == 0
    place.check(trials=1)
    assert outcomes(place) == ["lost", "completed"]
    assert "no epoch came to an end within 2 s" in place.said()


def test_a_loss_that_is_no_number_fails_its_trial(place: Place) -> None:
    place.write_study(trials=1, space={"diverges_in": 2})
    assert place.run() == 1
    place.check(trials=1, failed=1)
    assert outcomes(place) == ["failed"]
    assert "diverged" in place.said()


def test_random_kills_never_set_a_study_back(shared_place: Place) -> None:
    chance = random.Random(0)  # noqa: S311 - which process dies
    shared_place.write_study(trials=6, epochs=6, max_retries=50, workers=2)
    ended = [0]
    while ended[-1] < 5:
        driver = shared_place.start()
        _wait_for_progress(shared_place, driver, beyond=ended[-1])
        if chance.random() < 0.5 and driver.poll() is None:
            shared_place.trainers(driver)[0].kill()
            _wait_for_progress(shared_place, driver, beyond=ended[-1] + 1)
        driver.kill()
        driver.wait()
        ended.append(_ended(shared_place))
        assert ended[-1] > ended[-2]
    assert shared_place.run() == 0
    shared_place.check(trials=6)


def _wait_for_progress(place: Place, driver: "subprocess.Popen[str]", beyond: int) -> None:
    eventually(lambda: driver.poll() is not None or _ended(place) > beyond)


def _ended(place: Place) -> int:
    return sum(row.state.is_finished() for row in place.trials())
