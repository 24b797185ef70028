"""Where a study stands: its trials, counts and best one."""

from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tuner.spec.search_space import Frozen
from tuner.spec.study import StudySpec
from tuner.study.ledger import Attempt, Ledger
from tuner.study.progress import Best, Planned
from tuner.study.trials import SLOT, Trials
from tuner.tracking.events import TrialSummary

STATE_NAMES = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
"""How an ended row is called."""
STATES = ("completed", "pruned", "failed", "running", "waiting")
"""The states a logical trial can be in; a waiting one has no attempt in progress."""


class Standing(Frozen):
    """How far a study has come."""

    study: str
    metric: str
    direction: str
    slots: int
    counts: dict[str, int]
    """How many of the slots are in each of `STATES`."""
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


class StudySummary(Standing):
    """A study's trials and what they amount to."""

    trials: tuple[TrialSummary, ...]


def summarise(spec: StudySpec, trials: Trials, ledger: Ledger) -> StudySummary:
    """Reads every trial and attempt of a study from the database."""
    latest = ledger.latest()
    rows = tuple(_summary(row, latest.get(row.user_attrs[SLOT])) for row in trials.all())
    best = next(iter(ranked(spec, rows)), None)
    standing = _standing(spec, [row.state for row in rows], best)
    return StudySummary(**dict(standing), trials=rows)


def standing_of(spec: StudySpec, rows: Sequence[FrozenTrial], running: int) -> Standing:
    """The same of rows that are known already, `running` of which have an attempt in progress.

    The best trial's run is left out.
    """
    ended = [STATE_NAMES[row.state] for row in rows if row.state.is_finished()]
    best = best_rows(spec, rows, 1)
    first = ended_summary(best[0]) if best else None
    return _standing(spec, [*ended, *["running"] * running], first)


def plan_of(summary: StudySummary, epochs: int, trainers: int, epoch_s: float | None) -> Planned:
    """What is still to be done, for whoever watches."""
    best = summary.best
    return Planned(
        study=summary.study,
        metric=summary.metric,
        direction=summary.direction,
        slots=summary.slots,
        done=summary.slots - summary.counts["running"] - summary.counts["waiting"],
        epochs=epochs,
        epoch_s=epoch_s,
        trainers=trainers,
        best=Best(best.number, best.value) if best and best.value is not None else None,
    )


def ranked(spec: StudySpec, rows: Iterable[TrialSummary]) -> list[TrialSummary]:
    """The completed trials, the best first, the earlier one first on ties."""
    completed = [row for row in rows if row.state == "completed" and row.value is not None]
    return sorted(completed, key=lambda row: _rank(spec, row.value, row.number))


def best_rows(spec: StudySpec, rows: Iterable[FrozenTrial], count: int) -> list[FrozenTrial]:
    """The first `count` of the completed rows, in the same order."""
    completed = (row for row in rows if row.state is TrialState.COMPLETE)
    return nsmallest(count, completed, key=lambda row: _rank(spec, _value(row), row.number))


def ended_summary(row: FrozenTrial) -> TrialSummary:
    """A row that was told, as summaries show it, but for the run that shows it."""
    return _summary(row, None)


def _summary(row: FrozenTrial, attempt: Attempt | None) -> TrialSummary:
    facts: dict[str, Any] = row.user_attrs
    in_progress = attempt is not None and attempt.outcome is None
    return TrialSummary(
        number=row.number,
        slot=facts[SLOT],
        state=STATE_NAMES.get(row.state, "running" if in_progress else "waiting"),
        params=row.params,
        value=_value(row),
        epochs=facts.get("epochs", len(row.intermediate_values)),
        duration_s=facts.get("total_time_s"),
        run_id=None if attempt is None else attempt.run_id,
    )


def _standing(spec: StudySpec, states: Sequence[str], best: TrialSummary | None) -> Standing:
    slots = max(spec.slots, len(states))
    counts = Counter(states)
    counts["waiting"] += slots - len(states)
    return Standing(
        study=spec.name,
        metric=spec.objective.metric,
        direction=spec.objective.direction,
        slots=slots,
        counts={state: counts[state] for state in STATES},
        best=best,
    )


def _value(row: FrozenTrial) -> float | None:
    value: float | None = row.user_attrs.get("value", row.value)
    return value


def _rank(spec: StudySpec, value: float | None, number: int) -> tuple[float, int]:
    sign = -1 if spec.objective.direction == "maximize" else 1
    return sign * (value or 0.0), number
