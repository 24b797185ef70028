"""Follows a study that other processes run, by polling the database."""

import time
from collections.abc import Callable

from optuna.trial import FrozenTrial

from tuner.search.ranking import PointSummary
from tuner.search.trials import Trials, stored_result
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Attempt, Ledger, outcome_of
from tuner.storage.drivers import Drivers
from tuner.storage.tables import SLOT
from tuner.study.driver_events import EpochDone, Notify, TrialBegan, TrialDone, TrialHandedBack
from tuner.study.summary import StudySummary, best_of, plan_of, summarise
from tuner.training.plan import Outcome

_POLL_S = 1.0
_PAUSE_S = 0.2


class Follower:
    """Reports the same events as the study's driver, some seconds later."""

    def __init__(
        self,
        read_spec: Callable[[], StudySpec],
        trials: Trials,
        ledger: Ledger,
        drivers: Drivers,
        notify: Notify,
    ) -> None:
        """Prepares to follow a study.

        Args:
            read_spec: returns the stored study file, which may change meanwhile.
            trials: the study's trials.
            ledger: its attempts.
            drivers: its drivers.
            notify: receives the events.
        """
        self._read_spec = read_spec
        self._spec = read_spec()
        self._trials = trials
        self._ledger = ledger
        self._drivers = drivers
        self._notify = notify
        self._reported: dict[int, set[int]] = {}
        """For each trial: the epochs that were reported."""
        self._running: dict[int, str] = {}
        """For each running trial: the uid of its attempt."""
        self._ended: set[int] = set()

    def follow(
        self, over: Callable[[StudySummary], bool], stopped: Callable[[], bool]
    ) -> StudySummary:
        """Reports events until `over` or `stopped`. Returns the last summary.

        The first event is the plan, which includes all trials that have ended already.
        """
        summary = self._begin()
        while not (stopped() or over(summary)):
            self._poll()
            deadline = time.monotonic() + _POLL_S
            while time.monotonic() < deadline and not stopped():
                time.sleep(_PAUSE_S)
            summary = self._summary()
        self._poll()
        return summary

    def _summary(self) -> StudySummary:
        self._spec = self._read_spec()
        return summarise(self._spec, self._trials, self._ledger)

    def _begin(self) -> StudySummary:
        summary = self._summary()
        self._ended = {row.number for row in self._trials.cached() if row.state.is_finished()}
        trainers = max(1, summary.counts["running"])
        self._notify(plan_of(summary, self._spec, trainers, None))
        return summary

    def _poll(self) -> None:
        latest = self._ledger.latest()
        hosts = {each.uid: each.process.host for each in self._drivers.registered()}
        for row in self._trials.all():
            attempt = latest.get(row.user_attrs[SLOT])
            if attempt is not None and row.number not in self._ended:
                self._report(row, attempt, hosts.get(attempt.driver, "a driver that has left"))

    def _report(self, row: FrozenTrial, attempt: Attempt, host: str) -> None:
        number = row.number
        if self._running.get(number) != attempt.uid and not attempt.handed_back:
            self._running[number] = attempt.uid
            params = {**self._spec.fixed, **row.params}
            self._notify(TrialBegan(number, attempt.number, params, host, self._spec.epochs))
        self._report_epochs(row)
        if outcome := outcome_of(row.state):
            self._ended.add(number)
            self._running.pop(number, None)
            self._notify(_end_of(row, outcome, best_of(self._spec, self._trials.cached())))
        elif attempt.handed_back and number in self._running:
            del self._running[number]
            self._notify(TrialHandedBack(number, str(attempt.outcome)))

    def _report_epochs(self, row: FrozenTrial) -> None:
        reported = self._reported.setdefault(row.number, set())
        for epoch, value in sorted(row.intermediate_values.items()):
            if epoch not in reported and row.number in self._running:
                reported.add(epoch)
                metrics: dict[str, float] = {self._spec.objective.metric: value}
                self._notify(EpochDone(row.number, epoch, self._spec.epochs, metrics, None))


def _end_of(row: FrozenTrial, outcome: Outcome, best: PointSummary | None) -> TrialDone:
    result = stored_result(row)
    return TrialDone(
        number=row.number,
        state=outcome,
        value=row.value if result.value is None else result.value,
        best_epoch=result.best_epoch,
        seconds=result.total_time_s or 0.0,
        reason=result.error.strip().partition("\n")[0],
        best=best,
    )
