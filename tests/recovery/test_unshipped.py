"""What a worker looks after that its drivers have left in its home."""

import json
import shutil
import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from sqlalchemy import select, update

from tests.bench import Bench, ScriptedPool, small_study
from tests.damage import damage
from tests.waiting import LONGEST_S, wait_until
from tuner.driver.run_study import run_study
from tuner.errors import UnavailableError
from tuner.home import Home
from tuner.recording.shipping import DriverShipping, report_refused_parts, report_trials_elsewhere
from tuner.recovery.doctor import Doctor
from tuner.recovery.examination import Kind
from tuner.recovery.takeover import recover_study
from tuner.recovery.unshipped import UnshippedStudies
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Ledger
from tuner.storage.drivers import DriverLease
from tuner.storage.opening import open_database
from tuner.storage.tables import drivers, studies
from tuner.study.driver_events import EpochDone, ProgressEvent, SetupStep, TrialDone
from tuner.study.study_file import StudyFile
from tuner.tracking.mlflow.experiments import open_store
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool.shipped import Progress, load_progress, save_progress, survey
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import (
    ModelDisplaced,
    ModelKept,
    StudyClosed,
    StudyProgressed,
)
from tuner.training.plan import MODEL, TrialPlan


@pytest.fixture
def other(bench: Bench, tmp_path: Path) -> Bench:
    """Another machine on the same database."""
    made = Bench(Home(tmp_path / "other"), bench.database, bench.dataset)
    made.home.create()
    return made


def unshipped_of(bench: Bench) -> UnshippedStudies:
    """The studies of the bench's home, which say what they do to the bench."""

    def note(event: ProgressEvent) -> None:
        bench.said.extend([event.text] if isinstance(event, SetupStep) else [])

    return UnshippedStudies(bench.home, note)


def ship_whole(bench: Bench, unshipped: UnshippedStudies) -> None:
    """Ships until nothing is left: a busy machine may need more than the time of one try."""

    def shipped() -> bool:
        unshipped.ship(bench.database)
        return survey(bench.home.current_study("small")).pending == 0

    wait_until(shipped, LONGEST_S)


def later_is_better(plan: TrialPlan, _epoch: int) -> float:
    return plan.slot / 10


@pytest.mark.slow
def test_a_worker_settles_what_its_driver_left_once_others_have_ended_the_study(
    bench: Bench, other: Bench
) -> None:
    """It kept a model that is not among the best, and said that the study had not ended."""
    spec = small_study(trials=2, keep_models=1)
    done: list[TrialDone] = []

    def note(event: ProgressEvent) -> None:
        done.extend([event] if isinstance(event, TrialDone) else [])

    pool = ScriptedPool(curve=later_is_better)
    bench.run(spec, pool, stopped=lambda: bool(done), notify=note)
    other.run(spec, ScriptedPool(curve=later_is_better))
    unshipped = unshipped_of(bench)
    with pytest.raises(UnavailableError, match="MLflow does not have everything of small"):
        unshipped.check()

    ship_whole(bench, unshipped)

    unshipped.check()
    assert not list(bench.home.attempts("small").glob(f"*/{MODEL}"))
    about_model, _ = read_events(bench.home.attempt("small", 0, 0))
    assert isinstance(about_model[-1], ModelDisplaced)
    told, _ = read_events(bench.home.parent("small"))
    *_, closed_early, progressed, closed = told
    assert isinstance(closed_early, StudyClosed)
    assert isinstance(progressed, StudyProgressed)
    assert isinstance(closed, StudyClosed)
    assert (closed_early.complete, closed.complete) == (False, True)
    assert not progressed.metrics, "the other one has told when its trials ended"
    assert [trial.number for trial in progressed.trials] == [0, 1]
    attempt = bench.ledger(spec).attempts()[0]
    assert attempt.run_id is not None


def test_a_finished_study_stores_the_run_ids_that_its_driver_did_not(
    bench: Bench, tmp_path: Path
) -> None:
    """It was killed after everything was shipped, and there is nothing left to ship."""
    spec = small_study(trials=2)
    bench.run(spec, ScriptedPool())
    attempts = list(bench.home.attempts("small").iterdir())
    for folder in (*attempts, bench.home.parent("small")):
        opening, shipped = read_events(folder)
        uid = str(getattr(opening[0], "uid", ""))
        known = Progress(destination="", uid=uid, run_id=f"run of {folder.name}", offset=shipped)
        save_progress(folder, known)
    run_study(StudyFile(spec, "study.yaml", (tmp_path,)), bench.home)
    found = {each.run_id for each in bench.ledger(spec).attempts()}
    assert found == {f"run of {folder.name}" for folder in attempts}


def test_a_worker_leaves_a_study_of_a_newer_version_to_others(bench: Bench) -> None:
    bench.run(small_study(trials=1), ScriptedPool())
    with bench.database.engine.begin() as connection:
        text = connection.execute(select(studies.c.spec)).scalar_one()
        newer = json.dumps(json.loads(text) | {"unheard_of": 1})
        connection.execute(update(studies).values(spec=newer))
    unshipped, said = unshipped_of(bench), bench.said
    unshipped.ship(bench.database)
    assert "small is left to others" in said[0]
    assert "unheard_of" in said[0]


@pytest.mark.slow
def test_a_worker_without_mlflow_tries_one_study_each_time_and_takes_turns(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        bench.run(small_study(name=name, trials=1), ScriptedPool())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("tuner.recovery.unshipped._SHIPPING_S", 0.1)
    tried: list[str] = []
    unshipped = unshipped_of(bench)
    ship = unshipped._ship

    def note(name: str, ledger: Ledger) -> None:
        tried.append(name)
        ship(name, ledger)

    monkeypatch.setattr(unshipped, "_ship", note)
    for _ in names[:2]:
        unshipped.ship(bench.database)
    assert tried == ["a", "b"]
    with pytest.raises(UnavailableError, match="MLflow does not have everything of a, b, c;"):
        unshipped.check()


@pytest.mark.slow
def test_a_worker_with_a_deleted_experiment_stops_shipping_and_says_what_to_do(
    bench: Bench,
) -> None:
    """It is no outage: nothing is tried again at once, and a worker that is done hears of it."""
    spec = small_study(trials=1)
    bench.run(spec, ScriptedPool())
    tracking = TrackingSettings.from_environment(bench.home.root)
    client = open_store(tracking.uri)
    client.delete_experiment(client.create_experiment(tracking.experiment))
    unshipped, said = unshipped_of(bench), bench.said
    for _ in range(2):
        unshipped.ship(bench.database)
    assert not unshipped.ship_if_due(bench.database)
    assert len([text for text in said if "restore it with: tuner doctor --fix" in text]) == 1
    with pytest.raises(UnavailableError, match=r"everything of small.*tuner doctor --fix"):
        unshipped.check()


@pytest.mark.slow
def test_a_shipper_that_dies_is_restarted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small_study(trials=1)
    bench.run(spec, ScriptedPool())
    monkeypatch.setattr("tuner.recording.shipping._RESTART_S", 0)
    tracking = TrackingSettings.from_environment(bench.home.root)
    shipment = DriverShipping(bench.home.current_study("small"), tracking, bench.ledger(spec))
    shipment._shipper._process.kill()
    wait_until(lambda: not shipment._shipper.alive, LONGEST_S)
    shipment.supervise()
    assert shipment._shipper.alive
    shipment.drain(lambda: LONGEST_S, lambda _: None)
    assert survey(bench.home.current_study("small")).pending == 0


def runs_of(bench: Bench) -> dict[str, Run]:
    """The runs of the bench's own store, by name."""
    client = MlflowClient(TrackingSettings.from_environment(bench.home.root).uri)
    experiment = client.get_experiment_by_name("tuner")
    found = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found), "a run was created twice"
    return {run.info.run_name: run for run in found}


def assert_shipped_whole(bench: Bench, trials: int) -> None:
    """Every run is there and has ended, and the study's own tells of every trial."""
    assert survey(bench.home.current_study("small")).pending == 0
    runs = runs_of(bench)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    parent = runs.pop("small")
    assert len(runs) == trials
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}


def ship_all(bench: Bench) -> None:
    unshipped = unshipped_of(bench)

    ship_whole(bench, unshipped)


@pytest.mark.slow
def test_a_home_opens_the_studys_run_after_the_leaders_disk_was_lost(
    bench: Bench, other: Bench
) -> None:
    """MLflow was away while both recorded, so nobody has opened the run that trials wait for."""
    spec = small_study(trials=3)

    def leave_the_rest(event: ProgressEvent) -> None:
        if isinstance(event, TrialDone):
            other.run(spec, ScriptedPool())

    bench.run(spec, ScriptedPool(), notify=leave_the_rest)
    assert not read_events(other.home.parent("small"))[0], "the leader alone tells of the study"
    shutil.rmtree(bench.home.root)

    ship_all(other)

    assert_shipped_whole(other, trials=2)


@pytest.mark.slow
def test_a_shipper_that_starts_slowly_ships_everything(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine loading MLflow takes longer than one study may keep a worker."""
    monkeypatch.setattr("tuner.recovery.unshipped._SHIPPING_S", 1.0)
    bench.run(small_study(trials=2), ScriptedPool())

    ship_all(bench)

    assert_shipped_whole(bench, trials=2)


@pytest.mark.slow
def test_trials_that_another_home_has_not_shipped_are_reported(bench: Bench, other: Bench) -> None:
    """Nobody else can, wherever MLflow was away until their home was lost."""
    spec = small_study(trials=2)
    said: list[str] = []

    def note(event: ProgressEvent) -> None:
        said.extend([event.text] if isinstance(event, SetupStep) else [])

    other.run(spec, ScriptedPool())
    run_study(StudyFile(spec, "study.yaml", (bench.home.root,)), bench.home, notify=note)

    host = socket.gethostname()
    assert "2 trials have no run in MLflow that is known" in said[-1]
    assert f"(2 made on {host})" in said[-1]
    tracking = TrackingSettings.from_environment(bench.home.root)
    found = Doctor(bench.home, bench.database, bench.record(spec), tracking).findings()
    absent = [finding for finding in found if finding.kind is Kind.ELSEWHERE]
    assert [finding.about for finding in absent] == ["trial 0, attempt 0", "trial 1, attempt 0"]
    assert f"tuner sync in its home on {host} ships it" in absent[0].text
    report_trials_elsewhere(other.home, other.database, "small", pytest.fail)
    with bench.database.engine.begin() as connection:
        connection.execute(update(drivers).values(ended_ms=None))
    report_trials_elsewhere(bench.home, bench.database, "small", pytest.fail)


@pytest.mark.slow
def test_a_home_opens_the_studys_run_once_the_dead_leader_is_taken_over(
    bench: Bench, other: Bench
) -> None:
    """Only who watches for a lease can tell that a driver of another machine is dead."""
    spec = small_study(trials=1)
    record = bench.record(spec)
    own = bench.stack.enter_context(open_database(bench.home))
    leader = bench.stack.enter_context(DriverLease(own, spec.name, bench.home.uid, 1.5))
    other.run(spec, ScriptedPool())
    leader._stopping.set()

    recover_study(other.home, other.database, record, print)
    assert not read_events(other.home.parent("small"))[0]
    recover_study(other.home, other.database, record, print, patient=True)

    ship_all(other)
    assert_shipped_whole(other, trials=1)


@pytest.mark.slow
@pytest.mark.parametrize("shipped", [False, True])
def test_spools_deleted_while_a_driver_works_are_written_again(bench: Bench, shipped: bool) -> None:
    """What the deleted ones had told is told again, also where a record says it was shipped."""
    spec, lost = small_study(trials=3), [False]

    def lose_spools(event: ProgressEvent) -> None:
        if isinstance(event, EpochDone) and event.epoch == 2 and event.number == 1:
            lost[0] = True
            if shipped:
                ship_now(bench, spec)
            for folder in (bench.home.parent("small"), bench.home.attempt("small", 1, 0)):
                (folder / "spool.jsonl").unlink()

    bench.run(spec, ScriptedPool(), notify=lose_spools)
    assert lost == [True]
    assert not bench.said
    ship_all(bench)
    assert_shipped_whole(bench, trials=3)
    runs = runs_of(bench)
    client = MlflowClient(TrackingSettings.from_environment(bench.home.root).uri)
    points = client.get_metric_history(runs["trial 1"].info.run_id, "loss")
    assert sorted(point.step for point in points) == [1, 2, 3]


def ship_now(bench: Bench, spec: StudySpec) -> None:
    tracking = TrackingSettings.from_environment(bench.home.root)
    shipment = DriverShipping(bench.home.current_study("small"), tracking, bench.ledger(spec))
    shipment.drain(lambda: LONGEST_S, lambda _: None)


@pytest.mark.slow
def test_a_studys_deleted_spool_is_written_again_when_no_driver_is_left(bench: Bench) -> None:
    """A record of what was shipped stays beside it, and says that nothing waits."""
    bench.run(small_study(trials=1), ScriptedPool())
    ship_now(bench, small_study(trials=1))
    bench.run(small_study(trials=2), ScriptedPool())
    (bench.home.parent("small") / "spool.jsonl").unlink()
    client = MlflowClient(TrackingSettings.from_environment(bench.home.root).uri)
    parent = runs_of(bench)["small"]
    client.delete_run(parent.info.run_id)
    ship_all(bench)
    assert_shipped_whole(bench, trials=2)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"\0" * 8 + b"\n", b'{"kind": "\xff\xfe"}\n', b'{"kind": 7}\n'])
def test_a_damaged_line_blocks_no_shipping(bench: Bench, damage: bytes) -> None:
    bench.run(small_study(trials=2), ScriptedPool())
    for folder in (bench.home.parent("small"), bench.home.attempt("small", 0, 0)):
        with (folder / "spool.jsonl").open("ab") as file:
            file.write(damage)
    ship_all(bench)
    assert_shipped_whole(bench, trials=2)
    said: list[str] = []
    report_refused_parts(survey(bench.home.current_study("small")), said.append)
    (text,) = said
    assert text.startswith("2 lines of what was recorded here cannot be read"), "once for all"


@pytest.mark.slow
def test_a_model_whose_line_is_damaged_is_kept_again(bench: Bench) -> None:
    bench.run(small_study(trials=1), ScriptedPool())
    folder = bench.home.attempt("small", 0, 0)
    damage(folder, "model-kept")
    ship_all(bench)
    assert_shipped_whole(bench, trials=1)
    events, _ = read_events(folder)
    (kept,) = (event for event in events if isinstance(event, ModelKept))
    assert runs_of(bench)["trial 0"].data.tags["tuner.model.sha256"] == kept.sha256


@pytest.mark.slow
def test_doctor_repairs_runs_whose_first_line_is_damaged(bench: Bench) -> None:
    """They are open for ever, with nothing left to ship, and their uid is forgotten."""
    spec = small_study(trials=2)
    bench.run(spec, ScriptedPool())
    ship_now(bench, spec)
    tracking = TrackingSettings.from_environment(bench.home.root)
    client = MlflowClient(tracking.uri)
    runs = runs_of(bench)
    folders = [bench.home.attempt("small", 0, 0), bench.home.parent("small")]
    for folder, kind in zip(folders, ("attempt-started", "study-opened"), strict=True):
        damage(folder, kind)
        known = load_progress(folder)
        assert known is not None
        size = (folder / "spool.jsonl").stat().st_size
        lost = Progress(destination=known.destination, offset=size, refused=("not an event",))
        save_progress(folder, lost)
    for run in runs.values():
        client.update_run(run.info.run_id, "RUNNING")
    doctor = Doctor(bench.home, bench.database, bench.record(spec), tracking)
    open_runs = [each.about for each in doctor.findings() if each.kind is Kind.RUNNING]
    assert open_runs == ["trial 0, attempt 0", "trial 1, attempt 0", "the study"]

    doctor.repair(lambda _: None)

    assert_shipped_whole(bench, trials=2)
    assert {each.kind for each in doctor.findings()} == {Kind.DAMAGED}


@pytest.mark.slow
def test_a_study_whose_data_set_a_newer_version_recorded_continues(bench: Bench) -> None:
    bench.run(small_study(trials=1), ScriptedPool())
    with bench.database.engine.begin() as connection:
        told = connection.execute(select(studies.c.dataset)).scalar_one()
        connection.execute(update(studies).values(dataset={**told, "unheard_of": 1}))
    ship_all(bench)
    assert_shipped_whole(bench, trials=1)
