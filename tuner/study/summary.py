"""Where a study stands: its trials, counts and best one, read from the database alone."""

from collections import Counter
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tuner.spec.search_space import Frozen
from tuner.spec.study import StudySpec
from tuner.study.ledger import Attempt, Ledger
from tuner.study.trials import SLOT, Trials
from tuner.tracking.events import TrialSummary

_STATES = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
STATES = ("completed", "pruned", "failed", "running", "waiting")
"""The states a logical trial can be in; a waiting one has no attempt in progress."""


class StudySummary(Frozen):
    """A study's trials and what they amount to."""

    study: str
    metric: str
    direction: str
    slots: int
    counts: dict[str, int]
    """How many of the slots are in each of `STATES`."""
    trials: tuple[TrialSummary, ...]
    best: TrialSummary | None
    """The completed trial with the best value, the earliest on ties."""

    @property
    def done(self) -> bool:
        """Whether every slot has reached its end."""
        return not self.counts["running"] and not self.counts["waiting"]

    @property
    def all_failed(self) -> bool:
        """Whether every slot has failed."""
        return self.counts["failed"] == self.slots


def summarise(spec: StudySpec, trials: Trials, ledger: Ledger) -> StudySummary:
    """Reads every trial and attempt of a study."""
    latest = ledger.latest()
    rows = tuple(
        _row(trial, latest.get(trial.user_attrs[SLOT]))
        for trial in trials.all()
        if SLOT in trial.user_attrs
    )
    counts = Counter(row.state for row in rows)
    slots = max(spec.slots, len(rows))
    counts["waiting"] += slots - len(rows)
    return StudySummary(
        study=spec.name,
        metric=spec.objective.metric,
        direction=spec.objective.direction,
        slots=slots,
        counts={state: counts[state] for state in STATES},
        trials=rows,
        best=next(iter(ranked(spec, rows)), None),
    )


def ranked(spec: StudySpec, rows: tuple[TrialSummary, ...]) -> list[TrialSummary]:
    """The completed trials, the best first, the earlier one first on ties."""
    sign = -1 if spec.objective.direction == "maximize" else 1
    completed = [row for row in rows if row.state == "completed" and row.value is not None]
    return sorted(completed, key=lambda row: (sign * (row.value or 0.0), row.number))


def _row(trial: FrozenTrial, attempt: Attempt | None) -> TrialSummary:
    facts: dict[str, Any] = trial.user_attrs
    return TrialSummary(
        number=trial.number,
        slot=facts[SLOT],
        state=_state(trial, attempt),
        params=trial.params,
        value=facts.get("value", trial.value),
        epochs=facts.get("epochs", len(trial.intermediate_values)),
        duration_s=facts.get("total_time_s"),
        run_id=None if attempt is None else attempt.run_id,
    )


def _state(trial: FrozenTrial, attempt: Attempt | None) -> str:
    if trial.state.is_finished():
        return _STATES[trial.state]
    in_progress = attempt is not None and attempt.outcome is None
    return "running" if in_progress else "waiting"
