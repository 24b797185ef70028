"""Spools become exactly the runs they tell of, however often they are shipped."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.tracking.recorder import Recorder
from tests.tracking.servers import Server
from tests.tracking.store import Store, forget_progress, ship
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool.spool import attempt_folder


def forget_nothing(_folder: Path) -> None:
    pass


def damage_progress(folder: Path) -> None:
    for path in folder.rglob("shipped.json"):
        path.write_text("")


@pytest.mark.slow_variants
@pytest.mark.parametrize("harm", [forget_nothing, forget_progress, damage_progress])
def test_shipping_again_adds_nothing(
    recorder: Recorder, local: TrackingSettings, harm: Callable[[Path], None]
) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    before = Store(local).snapshot()
    harm(recorder.folder)
    assert ship(recorder.folder, local) == 0
    assert Store(local).snapshot() == before


def test_stopping_after_every_batch_changes_nothing(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.whole_study()
    for _ in range(40):
        if ship(recorder.folder, local, batches=5) == 0:
            break
    store = Store(local)
    assert ship(recorder.folder, local) == 0
    assert store.runs.keys() == {"sweep", "trial 0", "trial 1"}
    assert store.has_one_point_a_step()
    assert len(store.points("trial 0", "loss")) == 3


def test_another_store_gets_everything(
    recorder: Recorder, local: TrackingSettings, tmp_path: Path
) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    (tmp_path / "mlflow.db").unlink()
    assert ship(recorder.folder, local) == 0
    assert Store(local).runs.keys() == {"sweep", "trial 0", "trial 1"}


@pytest.mark.slow
def test_a_server_gets_what_a_file_gets(
    recorder: Recorder, local: TrackingSettings, server: Server
) -> None:
    recorder.whole_study()
    for slot in range(2, 10):
        recorder.attempt(slot, 0, recorder.started(slot), recorder.epoch(1), recorder.ended("lost"))
        again = recorder.started(slot, 1), recorder.epoch(1), recorder.epoch(2)
        recorder.attempt(slot, 1, *again, recorder.ended())
    distant = replace(server.settings, experiment="what a file gets")
    assert ship(recorder.folder, distant) == 0
    forget_progress(recorder.folder)
    assert ship(recorder.folder, local) == 0
    there, here = Store(distant), Store(local)
    assert there.runs.keys() == here.runs.keys()
    for name in here.runs:
        assert without_ids(there, name) == without_ids(here, name)
        if name.endswith("attempt 1"):
            lost = there.runs[name.removesuffix(" attempt 1")].info.run_id
            assert there.runs[name].data.tags["tuner.predecessor_run_id"] == lost


def without_ids(store: Store, name: str) -> object:
    status, *rest = store.snapshot_of(name)
    differs = ("mlflow.parentRunId", "tuner.predecessor_run_id")
    return status, [
        {key: value for key, value in part.items() if key not in differs}
        if isinstance(part, dict)
        else part
        for part in rest
    ]


def test_a_spool_that_was_lost_and_begun_anew_keeps_its_run(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened())
    started = recorder.started(0)
    recorder.attempt(0, 0, started, recorder.epoch(1))
    ship(recorder.folder, local)
    before = Store(local).runs["trial 0"].info.run_id
    shutil.rmtree(attempt_folder(recorder.folder, 0, 0))
    recorder.attempt(0, 0, started.again_at(started.at_ms + 5000), recorder.ended())
    assert ship(recorder.folder, local) == 0
    assert Store(local).runs["trial 0"].info.run_id == before
    assert Store(local).runs["trial 0"].info.status == "FINISHED"


@pytest.mark.slow
def test_mlflow_is_asked_for_many_runs_at_a_time(
    recorder: Recorder, local: TrackingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.parent(recorder.opened())
    for slot in range(40):
        recorder.trial(slot)
    asked: list[object] = []
    search = MlflowClient.search_runs

    def counted(*given: Any) -> object:
        asked.append(given)
        return search(*given)

    monkeypatch.setattr(MlflowClient, "search_runs", counted)
    assert ship(recorder.folder, local) == 0
    assert len(asked) < 20
