"""One study replayed: its own sampler and pruner, with recorded curves for trainers.

Sampler, pruner, seeds and stated points are those that `tuner.study` makes of a study file;
what is reported, when a trial is pruned and what is told follows `tuner.search.trials`, which
a test holds this module against. In place of processes there are trainers on a simulated
clock, and Optuna's storage in memory in place of a database. The clock counts what training
costs; the driver's own work takes no time on it.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice

import numpy as np
import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import Trial, TrialState

from benchmarks.replays.curves import METRICS, Curves, Table
from tuner.search import optuna_samplers, points
from tuner.spec.search_space import Scalar
from tuner.spec.study_spec import StudySpec


@dataclass(frozen=True)
class ReplayedTrial:
    """What became of one trial."""

    number: int
    params: dict[str, Scalar]
    state: TrialState
    epochs: int
    """Reported ones."""
    value: float
    """The objective at its best epoch, as the study saw it."""
    expected: float
    """The same epoch's objective on average over seeds."""
    ended_s: float
    """When its trainer was free again, by the simulated clock."""


@dataclass(frozen=True)
class ReplayedStudy:
    """The trials in the order in which they ended."""

    trials: tuple[ReplayedTrial, ...]

    @property
    def seconds(self) -> float:
        """From the first trial's beginning to the last one's end."""
        return max(trial.ended_s for trial in self.trials)

    def leaders(self) -> list[ReplayedTrial]:
        """Each completed trial that was the best so far when it ended."""
        leaders: list[ReplayedTrial] = []
        for trial in self.trials:
            completed = trial.state is TrialState.COMPLETE
            if completed and (not leaders or trial.value > leaders[-1].value):
                leaders.append(trial)
        return leaders

    def seconds_to(self, target: float) -> float | None:
        """When the best completed trial first had `target`; None if none ever did."""
        return next((trial.ended_s for trial in self.leaders() if trial.value >= target), None)


def replay(spec: StudySpec, table: Table, *, workers: int) -> ReplayedStudy:
    """Runs all of the study's trials; the same arguments give the same trials.

    Args:
        spec: a study of one seed a point that maximizes a metric of the table.
        table: where the curves come from.
        workers: trainers at a time.
    """
    return _Replay(spec, table).run(workers)


@dataclass
class _Attempt:
    """One trial at a trainer."""

    trial: Trial
    curves: Curves
    values: list[float] = field(default_factory=list)
    """The objective by epoch, as far as it is reported."""
    state: TrialState | None = None
    """How it ends, once that is known."""


class _Replay:
    def __init__(self, spec: StudySpec, table: Table) -> None:
        self._spec, self._table = spec, table
        self._metric = METRICS.index(spec.objective.metric)
        self._distributions = optuna_samplers.distributions(spec)
        self._study = optuna.create_study(
            study_name=spec.name,
            storage=InMemoryStorage(),
            pruner=optuna_samplers.pruner(spec),
            direction=spec.objective.direction,
        )
        self._events: list[tuple[float, int, _Attempt]] = []
        self._order = count()
        self._ended: list[ReplayedTrial] = []

    def run(self, workers: int) -> ReplayedStudy:
        slots = iter(range(self._spec.slots))
        for _ in range(workers):
            self._begin(slots, 0.0)
        while self._events:
            now, _, attempt = heapq.heappop(self._events)
            if attempt.state is None:
                self._report(attempt, now)
            else:
                self._tell(attempt, now)
                self._begin(slots, now)
        return ReplayedStudy(tuple(self._ended))

    def _begin(self, slots: Iterator[int], now: float) -> None:
        for slot in islice(slots, 1):
            trial = self._open(slot)
            rng = np.random.default_rng((self._spec.seed, slot))
            curves = self._table.draw({**self._spec.fixed, **trial.params}, rng)
            self._after(curves.costs.beyond_s + curves.costs.epoch_s, now, _Attempt(trial, curves))

    def _open(self, slot: int) -> Trial:
        """The slot's point: what the study file states of it, the rest from the sampler."""
        if stated := points.stated_point(self._spec, slot, {}):
            self._study.enqueue_trial(stated)
        self._study.sampler = optuna_samplers.sampler(
            self._spec, points.sampler_seed(self._spec, slot)
        )
        return self._study.ask(self._distributions)

    def _report(self, attempt: _Attempt, now: float) -> None:
        costs, epoch = attempt.curves.costs, len(attempt.values) + 1
        attempt.values.append(float(attempt.curves.seen[epoch - 1, self._metric]))
        attempt.trial.report(attempt.values[-1], step=epoch)
        pruned = attempt.trial.should_prune()
        if epoch == self._spec.epochs:
            attempt.state = TrialState.COMPLETE
        elif pruned:
            attempt.state = TrialState.PRUNED
        self._after(0.0 if attempt.state else costs.epoch_s, now, attempt)

    def _tell(self, attempt: _Attempt, now: float) -> None:
        assert attempt.state is not None
        best = int(np.argmax(attempt.values))  # the earliest epoch wins a tie
        completed = attempt.state is TrialState.COMPLETE
        value = attempt.values[best] if completed else None
        self._study.tell(attempt.trial, value, state=attempt.state)
        self._ended.append(
            ReplayedTrial(
                number=attempt.trial.number,
                params=attempt.trial.params,
                state=attempt.state,
                epochs=len(attempt.values),
                value=attempt.values[best],
                expected=float(attempt.curves.expected[best, self._metric]),
                ended_s=now,
            )
        )

    def _after(self, seconds: float, now: float, attempt: _Attempt) -> None:
        heapq.heappush(self._events, (now + seconds, next(self._order), attempt))
