"""The summary of a study: its trials, counts, points and best point."""

from collections import Counter
from collections.abc import Callable, Sequence

from optuna.trial import FrozenTrial, TrialState

from tuner.errors import RefusedError, UsageError
from tuner.search.claims import claims_of
from tuner.search.points import point_of
from tuner.search.race_trials import Values, planned, values_of
from tuner.search.ranking import PointSummary, best_point, rank, summary_of, trainings
from tuner.search.trials import StoredResult, Trials, stored_result
from tuner.spec.samplers import NoPruner
from tuner.spec.section import Frozen
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import OPTUNA_STATES, Attempt, Ledger, outcome_of
from tuner.storage.tables import SLOT
from tuner.study.driver_events import Planned
from tuner.tracking.spool.spool_events import ClaimSummary, TrialSummary
from tuner.training.plan import Outcome

STATES = (*OPTUNA_STATES, "running", "waiting")
"""The states of a trial. A waiting trial has no attempt in progress."""


class Tally(Frozen):
    """The number of a study's trials in each state."""

    slots: int
    counts: dict[str, int]
    """The number of slots in each of `STATES`."""

    @property
    def ended(self) -> int:
        """How many slots have ended."""
        return self.slots - self.counts["running"] - self.counts["waiting"]

    @property
    def done(self) -> bool:
        """Whether every slot has ended."""
        return not self.counts["running"] and not self.counts["waiting"]

    @property
    def all_failed(self) -> bool:
        """Whether every slot has failed."""
        return self.counts["failed"] == self.slots


class Standing(Tally):
    """A study's counts and best point."""

    study: str
    metric: str
    direction: str
    seeds: int
    best: PointSummary | None
    """The point with the best mean over its seeds; None before a trial has completed.

    A point that lacks trainings comes after those that lack fewer.
    """
    claims: tuple[ClaimSummary, ...] = ()
    """What is known of the claims that the study races, if it is a race."""


class StudySummary(Standing):
    """A study's counts, trials and points."""

    trials: tuple[TrialSummary, ...]
    points: tuple[PointSummary, ...]
    """The points with a completed trial, the best first."""

    def best_point(self) -> PointSummary:
        """The point that ranks first.

        Raises:
            RefusedError: no trial has completed.
        """
        if self.best is None:
            raise RefusedError(f"no trial of {self.study} has completed")
        return self.best

    def trial(self, number: int) -> TrialSummary:
        """The trial with this number.

        Raises:
            UsageError: there is no such trial.
        """
        for each in self.trials:
            if each.number == number:
                return each
        last = len(self.trials) - 1
        raise UsageError(f"study {self.study!r} has no trial {number}; it has 0 to {last}")

    @property
    def best_single(self) -> TrialSummary | None:
        """The trial with the best single value, which was luck in part; None before one completed.

        It may be of another point than the best one.
        """
        sign = 1 if self.direction == "maximize" else -1
        completed = (each for each in self.trials if each.state == Outcome.COMPLETED)
        return max(completed, key=lambda each: sign * (each.value or 0.0), default=None)


def summarise(spec: StudySpec, trials: Trials, ledger: Ledger) -> StudySummary:
    """Summarises a study from all its trials and attempts in the database."""
    latest, rows = ledger.latest(), trials.all()
    shown = {row.number: _summary(spec, row, latest.get(row.user_attrs[SLOT])) for row in rows}
    points = tuple(
        summary_of(spec, each, shown[each.representatives[0].number])
        for each in rank(spec, trainings(rows))
    )
    states = [each.state for each in shown.values()]
    standing = _standing(spec, rows, states, next(iter(points), None))
    return StudySummary(**dict(standing), trials=tuple(shown.values()), points=points)


def standing_of(spec: StudySpec, rows: Sequence[FrozenTrial], running: int) -> Standing:
    """Returns counts and best point from rows in memory, without the best trial's MLflow run.

    Args:
        spec: the study.
        rows: its Optuna trials.
        running: how many of them have an attempt in progress.
    """
    ended = [outcome for row in rows if (outcome := outcome_of(row.state))]
    return _standing(spec, rows, [*ended, *["running"] * running], best_of(spec, rows))


def best_of(spec: StudySpec, rows: Sequence[FrozenTrial]) -> PointSummary | None:
    """Returns the point that ranks first among rows in memory, without its MLflow run."""
    first = best_point(spec, trainings(rows))
    if first is None:
        return None
    number = first.representatives[0].number
    row = next(row for row in rows if row.number == number)
    return summary_of(spec, first, ended_summary(spec, row))


def plan_of(
    summary: StudySummary, spec: StudySpec, trainers: int, epoch_s: float | None
) -> Planned:
    """Returns the first event for observers: what is done and what is left."""
    return Planned(
        study=summary.study,
        metric=summary.metric,
        slots=summary.slots,
        done=summary.ended,
        epochs=spec.epochs,
        epoch_s=epoch_s,
        trainers=trainers,
        prunes=not isinstance(spec.pruner, NoPruner),
        races=spec.race is not None,
        best=summary.best,
    )


def state_name(state: TrialState, *, in_progress: bool) -> str:
    """Returns which of `STATES` a trial is in.

    Args:
        state: the state of its Optuna trial.
        in_progress: whether its newest attempt is open.
    """
    return outcome_of(state) or ("running" if in_progress else "waiting")


def tally(spec: StudySpec, states: Sequence[str], values: Callable[[], Values]) -> Tally:
    """Counts the states of a study's trials. A slot without a trial is waiting.

    Args:
        spec: the study.
        states: the state of each of its trials.
        values: as for `planned`, which knows the slots of a race.
    """
    slots = max(len(planned(spec, values)), len(states))
    counts = Counter(states)
    counts["waiting"] += slots - len(states)
    return Tally(slots=slots, counts={state: counts[state] for state in STATES})


def ended_summary(spec: StudySpec, row: FrozenTrial) -> TrialSummary:
    """Returns the summary of an ended trial, without its MLflow run."""
    return _summary(spec, row, None)


def _summary(spec: StudySpec, row: FrozenTrial, attempt: Attempt | None) -> TrialSummary:
    result = stored_result(row)
    in_progress = attempt is not None and attempt.outcome is None
    return TrialSummary(
        number=row.number,
        slot=row.user_attrs[SLOT],
        point=point_of(spec, row.user_attrs[SLOT]),
        state=state_name(row.state, in_progress=in_progress),
        params=row.params,
        value=row.value if result.value is None else result.value,
        epochs=len(row.intermediate_values) if result.epochs is None else result.epochs,
        duration_s=result.total_time_s,
        run_id=None if attempt is None else attempt.run_id,
        uid=None if attempt is None else attempt.uid,
        code=result.code,
        remarks=result.remarks,
        unpromotable=_unpromotable(result) if row.state is TrialState.COMPLETE else "",
    )


def _unpromotable(result: StoredResult) -> str:
    return result.unpromotable or ("" if result.model_sha256 else "its model could not be kept")


def _standing(
    spec: StudySpec, rows: Sequence[FrozenTrial], states: Sequence[str], best: PointSummary | None
) -> Standing:
    return Standing(
        **dict(tally(spec, states, lambda: values_of(spec, rows))),
        study=spec.name,
        metric=spec.objective.metric,
        direction=spec.objective.direction,
        seeds=spec.replicates,
        best=best,
        claims=claims_of(spec, rows),
    )
