"""Spools become exactly the runs they tell of, however often they are shipped."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image

from tests.bench import Bench, ScriptedPool, small_study
from tests.study.test_confirmation import SPACE, confirmed, curve
from tests.study.test_missed import GOOD, errors
from tests.tracking.recorder import Recorder
from tests.tracking.servers import Server
from tests.tracking.store import Store, forget_progress, ship
from tuner.datasets.store import prepare
from tuner.spec.study_spec import Claim, StudySpec
from tuner.storage.studies import Catalog
from tuner.study.confirmation.report import find_report
from tuner.study.study import Study
from tuner.tracking.runs.exports import claims_csv, missed_csv
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool.spool import attempt_folder
from tuner.words import plain


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


CLAIMS = (Claim(name="4 is better", better={"learning_rate": 4}, than={"learning_rate": 1}),)


@pytest.mark.slow
def test_a_servers_own_client_reads_what_a_study_and_its_confirmation_found(
    bench: Bench, server: Server
) -> None:
    spec = small_study(
        search_space=SPACE,
        baseline=[{"learning_rate": 1}],
        sampler="grid",
        pruner="none",
        trials=5,
        seeds=2,
        epochs=5,
        validation=300,
        claims=CLAIMS,
    )
    bench.dataset = prepare(spec.dataset, bench.home.datasets)
    values = curve({GOOD: 0.02}, luck={})
    pool = ScriptedPool(curve=values, errors=errors)
    study = confirmed(bench, spec, lambda spec: opened(bench, spec), values, pool, finalists=1)
    found, settings = find_report(study), replace(server.settings, experiment="a confirmation")
    for name in (spec.name, f"{spec.name}-confirmation"):
        assert ship(bench.home.current_study(name), settings) == 0

    store, race = Store(settings), f"{spec.name}-confirmation"
    figures = {each.point: each for each in study.summary().points}
    for name, wanted in (("mean", "mean"), ("std", "std"), ("n", "completed")):
        told = {step: value for step, value, _ in store.points(spec.name, f"points/{name}")}
        assert told == {point: getattr(each, wanted) for point, each in figures.items()}
    assert found is not None
    assert store.text(race, "claims.csv") == claims_csv(found.claims)
    assert store.runs[race].data.tags["tuner.claims"] == "1 confirmed"
    assert found.missed
    assert store.text(race, "missed.csv") == missed_csv(found.missed)
    picture = store.file(race, "missed.png")
    with Image.open(picture) as shown:
        shown.verify()
        assert min(shown.size) > 100
    page = store.runs[spec.name].data.tags["mlflow.note.content"]
    assert "**Answer:** " + plain(next(found.lines())) in page
    assert "Claims: 1 confirmed" in page
    trials = [run for run in store.runs.values() if run.data.tags["tuner.kind"] == "trial"]
    assert {run.data.tags["tuner.study"] for run in trials} == {spec.name}


def opened(bench: Bench, spec: StudySpec) -> Study:
    return Study(bench.home, bench.database, Catalog(bench.database).get(spec.name))


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
