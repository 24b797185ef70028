"""Trainers that are killed, hang or diverge, and signals to their driver."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from mlflow.entities import Run

from tests.faults.conftest import Place, eventually, reached

EPOCH_LIMIT_S = 2 if os.environ.get("FAULT_ENGINE", "numpy") == "numpy" else 30
"""Longer than an honest epoch of the engine takes on a busy machine."""


def curve(run: Run, place: Place) -> list[float]:
    from mlflow import MlflowClient

    history = MlflowClient(place.tracking_uri).get_metric_history(run.info.run_id, "val_loss")
    return [point.value for point in sorted(history, key=lambda point: point.step)]


@pytest.mark.slow
def test_a_trainer_that_is_killed_in_mid_epoch_goes_on_from_its_checkpoint(
    place: Place, template: Path
) -> None:
    place.write_study(trials=1, epochs=6)
    driver = place.start()
    eventually(reached(place, epoch=3))
    (trainer,) = place.trainers(driver)
    trainer.kill()
    assert driver.wait() == 0

    place.check(trials=1)
    assert place.outcomes() == ["lost", "completed"]
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


def start_and_reach_an_epoch(place: Place) -> "subprocess.Popen[str]":
    before = place.said().count(": val_accuracy ") if place.processes else 0
    driver = place.start()
    eventually(lambda: place.said().count(": val_accuracy ") > before)
    return driver


@pytest.mark.slow
def test_signals_end_a_driver_and_lose_nothing(place: Place) -> None:
    """One Ctrl-C, a SIGTERM, and two Ctrl-C at once; the trial goes on each time."""
    place.write_study(trials=2, epochs=8, space={"pause_s": 0.05})
    signals = ([signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT])
    for numbers, code in zip(signals, (130, 143, 130), strict=True):
        driver = start_and_reach_an_epoch(place)
        for number in numbers:
            driver.send_signal(number)
        assert driver.wait() == code
    assert place.outcomes()[:2] == ["interrupted"] * 2
    assert place.run() == 0
    place.check(trials=2)
    assert place.outcomes() == ["interrupted"] * 3 + ["completed"]


@pytest.mark.slow
def test_trials_that_kill_their_trainer_hang_or_diverge_fail_or_go_on_each_for_itself(
    place: Place,
) -> None:
    """The first one's network cannot even be built, so that an epoch is measured on another."""
    misfortunes = ["unbuilt", "none", "dies", "hangs", "diverges"]
    place.write_study(
        trials=len(misfortunes),
        max_retries=1,
        epoch_limit_s=EPOCH_LIMIT_S,
        sampler="grid",
        baseline=[{"misfortune": "unbuilt"}],
        space={
            "misfortune": {"type": "choice", "choices": misfortunes},
            "strikes_in": 3,
        },
    )
    assert place.run() == 0
    place.check(trials=len(misfortunes), failed=3)
    outcomes = {
        row.params["misfortune"]: place.outcomes(row.user_attrs["slot"]) for row in place.trials()
    }
    assert outcomes == {
        "unbuilt": ["failed"],
        "none": ["completed"],
        "dies": ["lost", "failed"],
        "hangs": ["lost", "completed"],
        "diverges": ["failed"],
    }
    assert "its trainer died in each of 2 attempts" in place.said()
    assert f"no epoch came to an end within {EPOCH_LIMIT_S} s" in place.said()
    assert "diverged" in place.said()


@pytest.mark.slow
def test_a_trainer_that_dies_is_missed_while_processes_live_that_it_has_forked(
    place: Place,
) -> None:
    """In probing, where the study is refused, and in a trial, which goes on."""
    place.write_study(trials=1, space={"misfortune": "survived", "strikes_in": 1})
    assert place.run() == 3
    assert "a trainer ended while it built or timed the model: killed by SIGKILL" in place.said()
    place.write_study(trials=1, space={"misfortune": "survived", "strikes_in": 3})
    assert place.run() == 0
    assert place.outcomes() == ["lost", "completed"]
    for survivor in place.left_over():  # those that left the trainer's group
        survivor.kill()
    place.check(trials=1)
