"""Spools that grow, tear and are shipped by shippers that die and hear no answers, in any order.

Hypothesis generates the histories. The store is MLflow's own, in a SQLite file.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.tracking.recorder import Recorder, summary
from tuner.errors import UnavailableError
from tuner.tracking.mlflow.experiments import open_store
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipping.study_shipper import StudyShipper
from tuner.tracking.spool.shipped import survey
from tuner.tracking.spool.spool import FILE_NAME, attempt_folder, encode
from tuner.training.plan import Outcome

SLOTS = 2
MOST_CALLS = 12
"""A shipper that dies or hears nothing does so in one of its first calls."""
STATUS: dict[Outcome, str] = {
    Outcome.COMPLETED: "FINISHED",
    Outcome.FAILED: "FAILED",
    Outcome.INTERRUPTED: "KILLED",
    Outcome.LOST: "KILLED",
}
OUTCOMES: list[Outcome] = list(STATUS)

Trouble = Literal["refused", "answer lost", "killed"]


class Killed(BaseException):
    """The shipper's process is gone."""


class Troubles:
    """What befalls one of the next calls of MLflow's client."""

    def __init__(self) -> None:
        self.calm()

    def calm(self) -> None:
        self.trouble: Trouble | None = None
        self.calls = 0

    def befall(self, trouble: Trouble, call: int) -> None:
        self.trouble, self.calls = trouble, call

    def now(self) -> Trouble | None:
        self.calls -= 1
        return self.trouble if self.calls == -1 else None


class TroubledClient:
    """MLflow's client, of which one call is not carried out, not answered or the last."""

    def __init__(self, client: MlflowClient, troubles: Troubles) -> None:
        self._client = client
        self._troubles = troubles

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._troubled(method) if callable(method) else method

    def _troubled(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            trouble = self._troubles.now()
            if trouble == "refused":
                raise ConnectionError("nobody listens")
            answer = method(*arguments, **named)
            if trouble == "answer lost":
                raise ConnectionError("the connection was cut")
            if trouble == "killed":
                raise Killed
            return answer

        return call


@dataclass
class Attempt:
    """What a spool tells of one attempt."""

    slot: int
    number: int
    epochs: int = 0
    outcome: Outcome | None = None


class ShippingHistories(RuleBasedStateMachine):
    """One study's spools, from the first event until MLflow has them all."""

    studies = 0

    def __init__(self, folder: Path, tracking: TrackingSettings, troubles: Troubles) -> None:
        super().__init__()
        ShippingHistories.studies += 1
        self.tracking = tracking
        self.troubles = troubles
        name = f"study-{ShippingHistories.studies}"
        self.recorder = Recorder(folder / name, study=name)
        self.attempts: list[Attempt] = []
        self.shipper: StudyShipper | None = None

    @initialize()
    def begin(self) -> None:
        self.recorder.parent(self.recorder.opened())

    @property
    def open(self) -> list[Attempt]:
        return [each for each in self.attempts if each.outcome is None]

    @property
    def free(self) -> list[int]:
        """Slots that can be tried, or tried again."""
        newest = {each.slot: each for each in self.attempts}
        return [
            slot
            for slot in range(SLOTS)
            if slot not in newest or newest[slot].outcome in (Outcome.INTERRUPTED, Outcome.LOST)
        ]

    @precondition(lambda self: self.free)
    @rule(which=st.integers(0, SLOTS - 1))
    def start(self, which: int) -> None:
        slot = self.free[which % len(self.free)]
        number = sum(each.slot == slot for each in self.attempts)
        self.attempts.append(Attempt(slot, number))
        self.recorder.attempt(slot, number, self.recorder.started(slot, number))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, SLOTS - 1), epochs=st.integers(1, 3), torn=st.floats(0, 0.99))
    def train(self, which: int, epochs: int, torn: float) -> None:
        attempt = self.open[which % len(self.open)]
        self.tear(attempt, torn)
        for _ in range(epochs):
            attempt.epochs += 1
            told = self.recorder.epoch(attempt.epochs)
            self.recorder.attempt(attempt.slot, attempt.number, told)

    @precondition(lambda self: self.open)
    @rule(
        which=st.integers(0, SLOTS - 1),
        outcome=st.sampled_from(OUTCOMES),
        torn=st.floats(0, 0.99),
    )
    def end(self, which: int, outcome: Outcome, torn: float = 0) -> None:
        attempt = self.open[which % len(self.open)]
        self.tear(attempt, torn)
        attempt.outcome = outcome
        self.recorder.attempt(
            attempt.slot, attempt.number, self.recorder.ended(outcome, attempt.epochs)
        )

    def tear(self, attempt: Attempt, torn: float) -> None:
        """The driver is killed within a line, and goes on once it is back."""
        line = encode(self.recorder.epoch(attempt.epochs + 1))
        with (self.folder_of(attempt) / FILE_NAME).open("ab") as spool:
            spool.write(line[: int(len(line) * torn)])

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 5))
    def forget(self, which: int) -> None:
        """The record of what was shipped is lost."""
        attempt = self.attempts[which % len(self.attempts)]
        (self.folder_of(attempt) / "shipped.json").unlink(missing_ok=True)

    @rule(finishing=st.booleans())
    def ship(self, finishing: bool) -> None:
        self.shipping().ship(finishing=finishing)

    @rule(
        trouble=st.sampled_from(["refused", "answer lost", "killed"]),
        call=st.integers(0, MOST_CALLS),
    )
    def ship_in_trouble(self, trouble: Trouble, call: int) -> None:
        self.troubles.befall(trouble, call)
        try:
            with suppress(UnavailableError):
                self.shipping().ship(finishing=True)
        except Killed:
            self.end_shipper()
        finally:
            self.troubles.calm()

    @precondition(lambda self: self.shipper is not None)
    @rule()
    def end_shipper(self) -> None:
        """Its lock is free, whether it was killed or has ended."""
        if self.shipper is not None:
            self.shipper.close()
        self.shipper = None

    def shipping(self) -> StudyShipper:
        self.shipper = self.shipper or StudyShipper(
            self.recorder.folder, self.tracking, lambda: True
        )
        return self.shipper

    def folder_of(self, attempt: Attempt) -> Path:
        return attempt_folder(self.recorder.folder, attempt.slot, attempt.number)

    def teardown(self) -> None:
        try:
            self.finish()
            self.check()
        finally:
            self.end_shipper()

    def finish(self) -> None:
        while self.open:
            self.end(0, Outcome.INTERRUPTED)
        told = [summary(each.slot) for each in self.attempts if each.outcome == Outcome.COMPLETED]
        self.recorder.parent(self.recorder.progressed(*told), self.recorder.closed())
        self.end_shipper()
        while self.shipping().ship(finishing=True):
            pass
        assert survey(self.recorder.folder).pending == 0

    def check(self) -> None:
        """Each attempt is one run, with each epoch once and the status of its end."""
        client = MlflowClient(self.tracking.uri)
        experiment = client.get_experiment_by_name(self.tracking.experiment).experiment_id
        mine = f"tags.`tuner.study_uid` = '{self.recorder.study_uid}'"
        runs: list[Run] = list(client.search_runs([experiment], mine))
        by_uid = {run.data.tags["tuner.uid"]: run for run in runs}
        expected = {self.recorder.uid(each.slot, each.number): each for each in self.attempts}
        assert sorted(run.data.tags["tuner.uid"] for run in runs) == sorted(
            [self.recorder.study_uid, *expected]
        )
        parent = by_uid.pop(self.recorder.study_uid)
        assert parent.info.status == "FINISHED"
        for uid, run in by_uid.items():
            attempt = expected[uid]
            assert attempt.outcome is not None
            assert run.info.status == STATUS[attempt.outcome]
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            if attempt.number:
                before = by_uid[self.recorder.uid(attempt.slot, attempt.number - 1)]
                assert run.data.tags["tuner.predecessor_run_id"] == before.info.run_id
            history = client.get_metric_history(run.info.run_id, "loss")
            assert sorted(point.step for point in history) == [*range(1, attempt.epochs + 1)]


@pytest.mark.parametrize(
    "histories", [pytest.param(6, id="few"), pytest.param(40, id="many", marks=pytest.mark.slow)]
)
def test_every_history_of_shipping_ends_with_each_run_and_each_epoch_once(
    local: TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, histories: int
) -> None:
    troubles = Troubles()

    def troubled(uri: str) -> Any:
        return TroubledClient(open_store(uri), troubles)

    monkeypatch.setattr("tuner.tracking.mlflow.mlflow_store.open_store", troubled)
    run_state_machine_as_test(
        lambda: ShippingHistories(tmp_path, local, troubles),  # type: ignore[arg-type]  # a factory will do
        settings=settings(
            max_examples=histories,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
