"""Which point of a study is best, and which of its trainings stands for it.

A point's figure is the mean over all its trainings, one a seed, so that neither a lucky seed nor
the loss of an unlucky one flatters it: a point that lacks trainings, because they were pruned,
failed or have not ended, comes after every point that lacks fewer. The training in the middle
stands for its point, never the luckiest.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from optuna.trial import FrozenTrial, TrialState

from tuner.search.points import point_of
from tuner.spec.search_space import Frozen, Scalar
from tuner.spec.study_spec import StudySpec
from tuner.storage.tables import SLOT
from tuner.tracking.spool.spool_events import TrialSummary


class Training(NamedTuple):
    """A completed training, as far as ranking looks at it."""

    slot: int
    number: int
    """Of its trial."""
    value: float


@dataclass(frozen=True)
class RankedPoint:
    """A point and those of its trainings that have completed, at least one, the best first."""

    point: int
    trainings: tuple[Training, ...]

    @property
    def mean(self) -> float:
        """Of the trainings' values."""
        return fmean(training.value for training in self.trainings)

    @property
    def std(self) -> float | None:
        """The sample standard deviation of the values (n - 1); None for a single one."""
        values = [training.value for training in self.trainings]
        return stdev(values) if len(values) > 1 else None

    @property
    def representatives(self) -> list[Training]:
        """The training in the middle, of two the worse one, then the nearest to it in rank."""
        middle = len(self.trainings) // 2
        ranks = sorted(range(len(self.trainings)), key=lambda rank: (abs(rank - middle), rank))
        return [self.trainings[rank] for rank in ranks]


class PointSummary(Frozen):
    """What the trainings of one point come to."""

    point: int
    """Its number, in the order in which points are tried, from 0."""
    params: dict[str, Scalar]
    mean: float
    """The objective, over the completed trainings."""
    std: float | None
    """Its sample standard deviation over them; None for a single one."""
    completed: int
    """How many trainings that is."""
    seeds: int
    """How many the point is to have."""
    trials: tuple[int, ...]
    """The numbers of the completed trials, the best first."""
    trial: TrialSummary
    """The one in the middle, of two the worse one: it stands for the point."""


def trainings(rows: Iterable[FrozenTrial]) -> list[Training]:
    """The completed ones of a study's rows."""
    return [
        Training(row.user_attrs[SLOT], row.number, row.value)
        for row in rows
        if row.state is TrialState.COMPLETE and row.value is not None
    ]


def rank(spec: StudySpec, trainings: Iterable[Training]) -> list[RankedPoint]:
    """The points with a completed training, the best first.

    One that lacks fewer of its trainings comes first, then the better mean, then the earlier one.
    """
    sign = -1 if spec.objective.direction == "maximize" else 1
    points: dict[int, list[Training]] = defaultdict(list)
    for training in trainings:
        points[point_of(spec, training.slot)].append(training)
    ranked = [
        RankedPoint(point, tuple(sorted(found, key=lambda each: (sign * each.value, each.number))))
        for point, found in points.items()
    ]
    return sorted(ranked, key=lambda each: (-len(each.trainings), sign * each.mean, _first(each)))


def in_order(points: Iterable[RankedPoint]) -> list[Training]:
    """The trainings of the best point, the one that stands for it first, then the next point's."""
    return [training for point in points for training in point.representatives]


def summary_of(spec: StudySpec, ranked: RankedPoint, trial: TrialSummary) -> PointSummary:
    """The point as reports show it; `trial` is its first representative."""
    return PointSummary(
        point=ranked.point,
        params=trial.params,
        mean=ranked.mean,
        std=ranked.std,
        completed=len(ranked.trainings),
        seeds=spec.seeds,
        trials=tuple(training.number for training in ranked.trainings),
        trial=trial,
    )


def _first(ranked: RankedPoint) -> int:
    return min(training.number for training in ranked.trainings)
