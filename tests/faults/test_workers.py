"""Workers that serve a database: studies handed to them, paused, stopped, watched."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.faults.conftest import STUDY, Place, eventually, reached
from tests.faults.kill_points import KillPoint
from tests.proxy import before_postgresql
from tuner.tracking.runs.attempt_run import TRIAL_ARTIFACT

WORKER = ("worker", "--until-done")
ONE_TRAINER = (*WORKER, "--workers", "1")
HOUR_S = 3600


def submit(place: Place) -> None:
    assert place.run("laptop", command=("run-study", "study.yaml", "--detach")) == 0


def ended(place: Place) -> int:
    return sum(attempt.final for attempt in place.attempts())


def times_idle(place: Place) -> int:
    """How often the worker in `alpha` has finished with everything there was."""
    return place.said("alpha").count("waiting for a study")


def answer(place: Place, *command: str) -> str:
    return place.answer(*command, home="laptop")


@pytest.mark.slow
def test_workers_share_a_study_that_was_handed_to_them(shared_place: Place) -> None:
    """One has a clock an hour ahead."""
    place = shared_place
    place.write_study(trials=6, epochs=3, space={"pause_s": 0.1})
    submit(place)
    assert "submitted" in answer(place, "studies")

    workers = [
        place.start("alpha", command=ONE_TRAINER),
        place.start("beta", command=ONE_TRAINER, clock_s=HOUR_S),
    ]
    watched = place.run("watcher", command=("watch", "fault"))

    assert [worker.wait() for worker in workers] == [0, 0]
    assert watched == 0
    place.check(trials=6)
    assert len({attempt.driver for attempt in place.attempts()}) == 2
    assert [attempt.outcome for attempt in place.attempts()] == ["completed"] * 6
    started = [run.info.start_time / 1000 for run in place.runs()]
    assert max(started) - min(started) > HOUR_S / 2
    said = place.said("watcher")
    assert said.count("completed after") == 6
    assert said.count("epoch 3/3") == 6
    assert "done" in answer(place, "studies")


@pytest.mark.slow
def test_a_worker_ships_what_the_one_before_it_left(place: Place) -> None:
    """Its study has ended, so that nobody will drive it again."""
    place.write_study(trials=1, epochs=4, space={"pause_s": 0.05})
    submit(place)
    place.kill(KillPoint.ATTEMPT_CLOSED, "alpha", WORKER)
    assert place.run("beta", command=WORKER) == 0
    assert ended(place) == 1
    assert place.run("alpha", command=WORKER) == 0
    place.check(trials=1)


@pytest.mark.slow
def test_the_last_trial_of_a_worker_that_died_is_taken_over(place: Place) -> None:
    """Nothing is free for the one that is left until it has given the other one up."""
    place.write_study(trials=1, epochs=8, space={"pause_s": 0.1})
    submit(place)
    first = place.start("alpha", command=ONE_TRAINER)
    eventually(reached(place, epoch=1))
    (trainer,) = place.trainers(first)
    trainer.suspend()  # however long beta needs to start
    second = place.start("beta", command=ONE_TRAINER)
    eventually(lambda: "waiting for a study" in place.said("beta"))
    first.send_signal(signal.SIGSTOP)
    assert second.wait() == 0
    first.kill()
    trainer.kill()
    place.check(trials=1)
    assert place.outcomes() == ["interrupted", "completed"]


@pytest.mark.slow
def test_a_copied_home_shares_a_study_with_the_one_that_it_was_copied_from(place: Place) -> None:
    place.write_study(trials=4, epochs=6, space={"pause_s": 0.1}, lease_s=20)
    first = place.start("alpha")
    eventually(reached(place, epoch=1))
    shutil.copytree(place.folder / "alpha", place.folder / "beta")
    second = place.start("beta")
    assert (first.wait(), second.wait(120)) == (0, 0)
    assert place.outcomes(0) + place.outcomes(1) == ["completed"] * 2
    assert place.run("beta") == 0
    place.check(trials=4)
    assert all("tuner.reason" not in run.data.tags for run in place.runs())
    client = MlflowClient(place.tracking_uri)
    for run in place.runs():
        record = Path(client.download_artifacts(run.info.run_id, TRIAL_ARTIFACT))
        assert len(json.loads(record.read_text())["epochs"]) == 6


@pytest.mark.slow
def test_a_paused_or_stopped_study_is_left_alone_until_it_is_told_to_go_on(place: Place) -> None:
    """Paused, it ends what it has begun; stopped, it hands that back."""
    place.write_study(trials=3, epochs=20, space={"pause_s": 0.1})
    submit(place)
    worker = place.start("alpha", command=("worker", "--workers", "1"))
    eventually(reached(place, epoch=1))
    answer(place, "pause", "fault")
    eventually(lambda: times_idle(place) == 1)
    begun = place.attempts()
    assert [attempt.outcome for attempt in begun] == ["completed"] * len(begun)
    assert len(begun) < 3
    assert "paused" in answer(place, "studies")
    patient = place.start("beta", command=WORKER)
    eventually(lambda: "waiting for a study" in place.said("beta"))
    patient.send_signal(signal.SIGTERM)
    assert patient.wait() == 143, "a paused study has not ended"

    answer(place, "resume", "fault")
    eventually(reached(place, epoch=1, slot=len(begun)))
    answer(place, "stop", "fault")
    eventually(lambda: times_idle(place) == 2)
    assert place.outcomes(len(begun)) == ["interrupted"]
    assert "stopped" in answer(place, "studies")

    answer(place, "resume", "fault")
    eventually(lambda: times_idle(place) == 3)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 143
    place.check(trials=3)


@pytest.mark.slow
def test_a_study_that_is_deleted_and_submitted_anew_begins_from_nothing(place: Place) -> None:
    """The worker's home still has what the first one of the name left there."""
    place.write_study(trials=1, epochs=2)
    submit(place)
    worker = place.start("alpha", command=("worker", "--workers", "1"))
    eventually(lambda: times_idle(place) == 1)
    answer(place, "delete", "fault", "--yes")
    place.write_study(trials=2, epochs=3)
    submit(place)
    eventually(lambda: times_idle(place) == 2)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 143
    place.check(trials=2)


@pytest.mark.slow
def test_a_budget_that_is_lowered_keeps_what_has_begun(place: Place) -> None:
    place.write_study(trials=20, epochs=4, space={"pause_s": 0.05})
    submit(place)
    worker = place.start("alpha", command=(*WORKER, "--workers", "2"))
    eventually(reached(place, epoch=1, slot=2))
    place.write_study(trials=1, epochs=4, space={"pause_s": 0.05})
    submit(place)
    assert worker.wait() == 0
    begun = len(place.trials())
    assert 3 <= begun < 20
    place.check(trials=begun)


@pytest.mark.slow
def test_a_study_that_no_worker_can_begin_says_why_until_it_can(place: Place) -> None:
    assert place.run("beta", command=(*WORKER, "fault")) == 2
    assert "no study fault in this database" in place.said("beta")
    place.write_study(model="softmax:missing")
    submit(place)
    assert place.run("beta", command=("show", "fault")) == 2
    assert "'fault' has been submitted, and no worker has started it yet" in place.said("beta")
    worker = place.start("alpha", command=("worker", "--workers", "1"))
    eventually(lambda: "cannot take part in fault" in place.said("alpha"))
    eventually(lambda: "refused" in answer(place, "studies"))
    assert "withdrew fault" in answer(place, "delete", "fault")
    assert "refused" not in answer(place, "studies")

    place.write_study(trials=1, epochs=1)
    submit(place)
    eventually(lambda: times_idle(place) == 2)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 143
    place.check(trials=1)


@pytest.mark.slow
def test_a_worker_waits_for_a_database_that_starts_late_and_ends_beside_one_that_is_silent(
    shared_place: Place,
) -> None:
    place = shared_place
    place.write_study(trials=1, epochs=12, space={"pause_s": 0.05})
    submit(place)
    with before_postgresql(place.storage_url) as proxy:
        proxy.refuse()
        late = Place(place.folder, proxy.postgresql_url)
        worker = late.start("alpha", command=WORKER)
        eventually(lambda: "trying again" in place.said("alpha"))
        proxy.pass_on()
        eventually(reached(place, epoch=2))
        proxy.swallow()
        time.sleep(2 * STUDY["lease_s"])  # the length of the fault
        proxy.pass_on()
        eventually(reached(place, epoch=4))
        proxy.swallow()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait() == 143
    assert "not stopped within 20 s" in place.said("alpha")
    assert place.run("alpha", command=WORKER) == 0
    place.check(trials=1)
    assert place.outcomes() == ["interrupted", "completed"]


def test_a_home_that_cannot_be_written_ends_a_worker(place: Place) -> None:
    (place.folder / "home").touch()
    assert place.run(command=WORKER) == 3
    assert "cannot be created" in place.said()


@pytest.mark.slow
def test_a_submission_runs_no_code_that_was_not_put_on_the_workers_machine(place: Place) -> None:
    """Neither Python's own nor what lies in a folder that the database alone names."""
    proof, hidden = place.folder / "it-ran", place.folder / "hidden"
    hidden.mkdir()
    (hidden / "elsewhere.py").write_text(f"open({str(proof)!r}, 'w')\ndef load(): ...")
    touch = {"name": "subprocess:getoutput", "args": {"cmd": f"touch {proof}"}}
    place.write_study(dataset=touch)
    submit(place)
    place.write_study(name="second", dataset="elsewhere:load")
    (place.folder / "study.yaml").rename(hidden / "study.yaml")
    handed_over = ("run-study", "hidden/study.yaml", "--detach")
    assert place.run("laptop", command=handed_over) == 0

    elsewhere = place.folder / "elsewhere"
    elsewhere.mkdir()
    assert place.run("alpha", command=WORKER, folder=elsewhere) == 0
    assert "subprocess:getoutput: 'subprocess' is not one of the study's own" in place.said("alpha")
    assert "elsewhere:load: cannot import 'elsewhere'" in place.said("alpha")
    assert not proof.exists()
    assert answer(place, "studies").count("refused") == 2
