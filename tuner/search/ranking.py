"""Ranks the points of a study, and picks the training that represents each point.

A point has one training per seed. Points are ranked by the number of completed trainings first,
then by the mean of their values. So neither a lucky seed nor the loss of an unlucky one (pruned,
failed or not ended) moves a point up. The median training represents its point, never the best.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from optuna.trial import FrozenTrial, TrialState

from tuner.search.points import point_of
from tuner.spec.search_space import Scalar
from tuner.spec.section import Frozen
from tuner.spec.study_spec import StudySpec
from tuner.storage.tables import SLOT
from tuner.tracking.spool.spool_events import TrialSummary


class Training(NamedTuple):
    """The facts about a completed training that ranking needs."""

    slot: int
    number: int
    """The number of its trial."""
    value: float
    """The objective."""


@dataclass(frozen=True)
class RankedPoint:
    """A point and its completed trainings."""

    point: int
    trainings: tuple[Training, ...]
    """At least one, the best first."""

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return fmean([training.value for training in self.trainings])

    @property
    def std(self) -> float | None:
        """The sample standard deviation of the values (n - 1); None for a single one."""
        values = [training.value for training in self.trainings]
        return stdev(values) if len(values) > 1 else None

    @property
    def representatives(self) -> list[Training]:
        """All trainings, the median one first (the worse of two), then by distance in rank."""
        middle = len(self.trainings) // 2
        ranks = sorted(range(len(self.trainings)), key=lambda rank: (abs(rank - middle), rank))
        return [self.trainings[rank] for rank in ranks]


class PointSummary(Frozen):
    """The results of one point's trainings."""

    point: int
    """Its number, from 0, in the order in which points are tried."""
    params: dict[str, Scalar]
    mean: float
    """The mean objective of the completed trainings."""
    std: float | None
    """Their sample standard deviation (n - 1); None for a single one."""
    completed: int
    """The number of completed trainings."""
    seeds: int
    """The number of trainings that the point will have."""
    trials: tuple[int, ...]
    """The numbers of the completed trials, the best first."""
    trial: TrialSummary
    """The median trial (the worse of two), which represents the point."""


def trainings(rows: Iterable[FrozenTrial]) -> list[Training]:
    """Returns the completed trainings among a study's Optuna trials."""
    return [
        Training(row.user_attrs[SLOT], row.number, row.value)
        for row in rows
        if row.state is TrialState.COMPLETE and row.value is not None
    ]


def rank(spec: StudySpec, trainings: Iterable[Training]) -> list[RankedPoint]:
    """Returns the points with a completed training, the best first.

    A point with more completed trainings comes first, then the better mean, then the earlier point.
    """
    return sorted(_points(spec, trainings), key=_place(spec))


def best_point(spec: StudySpec, trainings: Iterable[Training]) -> RankedPoint | None:
    """Returns the point that `rank` puts first; None without a completed training."""
    return min(_points(spec, trainings), key=_place(spec), default=None)


def _points(spec: StudySpec, trainings: Iterable[Training]) -> list[RankedPoint]:
    sign = _sign(spec)
    points: dict[int, list[Training]] = defaultdict(list)
    for training in trainings:
        points[point_of(spec, training.slot)].append(training)
    return [
        RankedPoint(point, tuple(sorted(found, key=lambda each: (sign * each.value, each.number))))
        for point, found in points.items()
    ]


def _place(spec: StudySpec) -> Callable[[RankedPoint], tuple[int, float, int]]:
    sign = _sign(spec)
    return lambda each: (-len(each.trainings), sign * each.mean, _first(each))


def _sign(spec: StudySpec) -> int:
    return -1 if spec.objective.direction == "maximize" else 1


def in_order(points: Iterable[RankedPoint]) -> list[Training]:
    """Returns the trainings of the best point, its representative first, then the next point's."""
    return [training for point in points for training in point.representatives]


def summary_of(spec: StudySpec, ranked: RankedPoint, trial: TrialSummary) -> PointSummary:
    """Returns a point's summary for reports; `trial` is its first representative."""
    return PointSummary(
        point=ranked.point,
        params=trial.params,
        mean=ranked.mean,
        std=ranked.std,
        completed=len(ranked.trainings),
        seeds=spec.seeds if spec.race is None else len(ranked.trainings),
        trials=tuple(training.number for training in ranked.trainings),
        trial=trial,
    )


def _first(ranked: RankedPoint) -> int:
    return min(training.number for training in ranked.trainings)
