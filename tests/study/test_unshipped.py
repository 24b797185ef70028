"""What a worker looks after that its drivers have left in its home."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, update

from tests.study.conftest import Bench, ScriptedPool
from tests.waiting import wait_until
from tuner.errors import UnavailableError
from tuner.home import Home
from tuner.spec.study import StudySpec
from tuner.study.ledger import Ledger
from tuner.study.progress import ProgressEvent, Step, TrialDone
from tuner.study.shipment import Shipment
from tuner.study.tables import studies
from tuner.study.unshipped import Unshipped
from tuner.tracking.events import ModelDisplaced, StudyClosed, StudyProgressed
from tuner.tracking.progress import survey
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool import read_events
from tuner.training.plan import MODEL, TrialPlan

Spec = Callable[..., StudySpec]
LONGEST_S = 180


@pytest.fixture
def other(bench: Bench, tmp_path: Path) -> Bench:
    """Another machine on the same database."""
    made = Bench(Home(tmp_path / "other"), bench.database, bench.dataset)
    made.home.create()
    return made


def later_is_better(plan: TrialPlan, _epoch: int) -> float:
    return plan.slot / 10


def test_what_a_driver_left_is_settled_once_others_have_ended_the_study(
    bench: Bench, other: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    """It kept a model that is not among the best, and said that the study had not ended."""
    spec = study_spec(trials=2, keep_models=1)
    done: list[TrialDone] = []

    def note(event: ProgressEvent) -> None:
        done.extend([event] if isinstance(event, TrialDone) else [])

    pool = scripted(curve=later_is_better)
    bench.run(spec, pool, stopped=lambda: bool(done), notify=note)
    other.run(spec, scripted(curve=later_is_better))
    unshipped = Unshipped(bench.home, lambda _: None)
    with pytest.raises(UnavailableError, match="MLflow does not have everything of small"):
        unshipped.check()

    def shipped() -> bool:  # a busy machine may need more than the time of one try
        unshipped.ship(bench.database)
        return survey(bench.home.devoted("small")).pending == 0

    wait_until(shipped, LONGEST_S)

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


def test_a_study_of_a_newer_tuner_is_left_to_others(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    bench.run(study_spec(trials=1), scripted())
    with bench.database.engine.begin() as connection:
        text = connection.execute(select(studies.c.spec)).scalar_one()
        connection.execute(update(studies).values(spec=f"{text}\nunheard_of: 1\n"))
    said: list[str] = []
    unshipped = Unshipped(
        bench.home, lambda event: said.extend([event.text] if isinstance(event, Step) else [])
    )
    unshipped.ship(bench.database)
    assert "small is left to others" in said[0]
    assert "unheard_of" in said[0]


def test_mlflow_away_keeps_a_worker_waiting_for_one_study_alone_and_then_for_another(
    bench: Bench,
    scripted: type[ScriptedPool],
    study_spec: Spec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        bench.run(study_spec(name=name, trials=1), scripted())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("tuner.study.unshipped._SHIPPING_S", 0.1)
    tried: list[str] = []
    unshipped = Unshipped(bench.home, lambda _: None)
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


def test_a_shipper_that_dies_is_started_again(
    bench: Bench,
    scripted: type[ScriptedPool],
    study_spec: Spec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = study_spec(trials=1)
    bench.run(spec, scripted())
    monkeypatch.setattr("tuner.study.shipment._AGAIN_S", 0)
    tracking = TrackingSettings.from_environment(bench.home.root)
    shipment = Shipment(bench.home.devoted("small"), tracking, bench.ledger(spec))
    shipment._shipper._process.kill()
    wait_until(lambda: not shipment._shipper.alive, LONGEST_S)
    shipment.look()
    assert shipment._shipper.alive
    shipment.drain(lambda: LONGEST_S, lambda _: None)
    assert survey(bench.home.devoted("small")).pending == 0
