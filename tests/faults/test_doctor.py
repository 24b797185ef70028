"""What is missing, doubled or open is named, and healed."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.faults.conftest import Place, eventually, reached

ENDED_APART_MS = 1000
"""The spool and the ledger each say when an attempt ended, one after the other."""


@pytest.mark.slow
def test_what_mlflow_lost_or_nobody_knows_is_named_and_shipped_again(place: Place) -> None:
    place.write_study(trials=3, epochs=3)
    assert place.run() == 0
    said = place.answer("doctor")
    assert "fault: the database, the spools here and MLflow agree" in said
    assert "answers, experiment 'tuner'" in said

    client = MlflowClient(place.tracking_uri)
    lost, gap, left_open = place.runs()
    tags = {"tuner.study_uid": lost.data.tags["tuner.study_uid"], "tuner.uid": "unheard of"}
    stranger = client.create_run(lost.info.experiment_id, tags=tags)
    client.delete_run(lost.info.run_id)
    client.update_run(left_open.info.run_id, "RUNNING")
    with sqlite3.connect(place.folder / "studies.db") as database:
        database.execute("UPDATE tuner_attempts SET run_id = NULL WHERE slot = 2")
    database.close()
    with sqlite3.connect(place.folder / "mlflow.db") as database:
        delete = "DELETE FROM metrics WHERE run_uuid = ? AND step = 2"
        database.execute(delete, (gap.info.run_id,))
    database.close()

    said = place.answer("doctor", code=1)

    assert "trial 0, attempt 0: MLflow has lost its run" in said
    assert "trial 1, attempt 0: its run lacks the epochs 2" in said
    assert "trial 2, attempt 0: is over, and its run is open" in said
    assert "trial 2, attempt 0: the database does not know its run" in said
    assert f"run {stranger.info.run_id}: the database has no such attempt" in said
    client.delete_run(stranger.info.run_id)
    place.answer("doctor", "--fix")
    place.check(trials=3)
    assert all(attempt.run_id for attempt in place.attempts())


@pytest.mark.slow
def test_what_a_dead_driver_left_is_closed(place: Place) -> None:
    place.write_study(trials=2)
    driver = place.start()
    eventually(reached(place, epoch=1))
    driver.kill()
    driver.wait()
    assert "is open, and its driver is gone" in place.answer("doctor", code=1)
    place.answer("doctor", "--fix")
    assert [each.outcome for each in place.attempts()] == ["interrupted"]
    assert [run.info.status for run in place.runs()] == ["KILLED"]
    assert place.run() == 0
    place.check(trials=2)


@pytest.mark.slow
def test_what_was_deleted_by_hand_is_named_and_restored_from_what_is_left(place: Place) -> None:
    """Artifacts, the study's run, a spool and lines of spools, and a study of a newer version."""
    place.write_study(trials=3, epochs=3)
    assert place.run() == 0
    (home,) = (place.folder / "home" / "studies" / "fault").glob("*/attempts")
    shutil.rmtree(place.folder / "home" / "mlartifacts")
    client = MlflowClient(place.tracking_uri)
    runs = place.runs()
    parent = runs[0].data.tags["mlflow.parentRunId"]
    with sqlite3.connect(place.folder / "mlflow.db") as database:
        for table in ("metrics", "latest_metrics"):
            delete = f"DELETE FROM {table} WHERE run_uuid = ? AND key = 'trials_completed'"  # noqa: S608
            database.execute(delete, (parent,))
    database.close()
    with (home / "1-0" / "spool.jsonl").open("ab") as spool:
        spool.write(b"\0" * 8 + b"\n")
    (home / "2-0" / "spool.jsonl").unlink()

    said = place.answer("doctor", code=1)

    lacks = (
        "its run lacks the files confusion_matrix.png, curves.png, model/model.keras, trial.json"
    )
    assert f"trial 0, attempt 0: {lacks}; with --fix" in said
    assert "trial 1, attempt 0: 1 line of" in said
    assert "trial 2, attempt 0: its spool was deleted" in said
    assert "the study: its run counts 0 completed trials of 3; with --fix" in said
    client.delete_run(parent)
    assert "the study: MLflow has lost its parent run; with --fix" in place.answer("doctor", code=1)

    said = place.answer("doctor", "--fix", code=1)

    assert "lacks" not in said
    assert "cannot be read, and their content is left out" in said
    restored = client.get_run(parent)
    assert (restored.info.lifecycle_stage, restored.info.status) == ("active", "FINISHED")
    assert restored.data.metrics["trials_completed"] == 3
    models = [bool(client.list_artifacts(run.info.run_id, "model")) for run in place.runs()]
    assert models == [True, True, True]

    (model,) = (place.folder / "home" / "mlartifacts").glob(f"{runs[0].info.run_id}/**/model.keras")
    size = model.stat().st_size
    os.truncate(model, 0)
    assert f"its model has 0 bytes in MLflow and {size:,} here; with --fix" in place.answer(
        "doctor", code=1
    )
    place.answer("doctor", "--fix", code=1)
    assert model.stat().st_size == size

    with sqlite3.connect(place.folder / "studies.db") as database:
        (text,) = database.execute("SELECT spec FROM tuner_studies").fetchone()
        spec = json.loads(text) | {"unheard_of": 1}
        database.execute("UPDATE tuner_studies SET spec = ?", (json.dumps(spec),))
    database.close()
    assert "fault: cannot be read: study fault: unheard_of" in place.answer("doctor", code=1)


def damage(place: Path, attempt: str, kind: str) -> None:
    """Zeros over 8 bytes of the line of that kind."""
    (spool,) = place.glob(f"home/studies/fault/*/attempts/{attempt}/spool.jsonl")
    with spool.open("r+b") as file:
        file.seek(spool.read_bytes().index(f'"{kind}"'.encode()) + 60)
        file.write(bytes(8))


@pytest.mark.slow
def test_damage_to_a_spools_beginning_or_end_costs_its_run_neither_epochs_nor_its_end(
    place: Place,
) -> None:
    """Slot 1's driver is still at work; the others' has left."""
    place.write_study(trials=3, epochs=6, space={"pause_s": 0.05})
    driver = place.start()
    eventually(reached(place, epoch=2, slot=1))
    damage(place.folder, "1-0", "attempt-started")
    assert driver.wait() == 0
    damage(place.folder, "2-0", "attempt-started")
    damage(place.folder, "0-0", "attempt-ended")
    client = MlflowClient(place.tracking_uri)
    before = place.runs()[0]
    client.update_run(before.info.run_id, "RUNNING")
    assert "trial 0, attempt 0: is over, and its run is open" in place.answer("doctor", code=1)

    place.answer("doctor", "--fix", code=1)

    said = place.answer("doctor", code=1).splitlines()
    found = [line for line in said if line.startswith("fault: ")]
    assert [line.partition(": 1 line of ")[0] for line in found] == [
        f"fault: trial {number}, attempt 0" for number in range(3)
    ]
    place.check(trials=3)
    ended = place.runs()[0]
    assert ended.data.metrics == before.data.metrics
    assert abs(ended.info.end_time - before.info.end_time) < ENDED_APART_MS
