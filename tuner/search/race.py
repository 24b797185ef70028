"""The race of a study's points against a baseline, decided from the values so far.

Each block adds one training of every point that is still in the race, all with the same seed and
the same validation rows. From the third block on, points may be left out; from the fifth on, they
are compared with the baseline, since each comparison has its price.

Two questions are asked with different care. Whether a point differs from the baseline is a claim:
all looks and all points together find a difference that is not there with a chance of at most
`level`, by lower levels for each look (`look_level`) and Holm's procedure over all points that
began the race. Whether a point can be left out because it is behind the leader claims nothing, and
the worst that a mistake costs is a good point; so that is decided earlier, which saves many
trainings (`python -m benchmarks.promotion`).

The values alone decide, so every process comes to the same decisions, also after a crash.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from statistics import fmean

from optuna.trial import FrozenTrial, TrialState

from tuner.search.outlines import Outline, outlines
from tuner.search.points import point_of, replicate_of
from tuner.search.trials import stored_result
from tuner.spec.section import Frozen
from tuner.spec.study_spec import FEWEST_SEEDS, Confirmation, StudySpec
from tuner.statistics import Difference, Interval, half_width, holm, look_level, paired_difference
from tuner.storage.attempts import Ledger
from tuner.storage.database import Database
from tuner.storage.tables import SLOT

FIRST_BLOCKS = 3
"""After so many blocks, points may be left out: two differences hardly show a spread."""
_BEHIND_LEVEL = 0.1
"""The one-sided level at which a point is behind the leader."""
_MOST_FORESEEN = 10_000

Block = Mapping[int, float]
"""The value of each point in one block, by the point's number; the larger, the better.

NaN stands for a training that ended without a value.
"""


class Verdict(StrEnum):
    """What is known about the difference between a point and the baseline."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    """The interval of the difference lies within the margin."""
    UNDECIDED = "undecided"


class BaselineComparison(Frozen):
    """The comparison of a point with the baseline."""

    difference: Difference
    """How much larger the point's values are; for a metric to be minimized, how much smaller."""
    level: float
    """The level that the comparison is held to, once all looks and points are paid for."""
    interval: Interval
    """Of the mean difference, with a confidence of `1 - level`."""
    blocks: int
    """After how many blocks they were compared."""
    verdict: Verdict


class RaceState(Frozen):
    """What a race has found so far."""

    blocks: int
    """How many blocks were counted."""
    baseline: int | None
    """None if the study has no baseline."""
    means: dict[int, float]
    """Of each point, over the blocks that it was in. NaN if it never had a value."""
    findings: dict[int, BaselineComparison]
    """The comparison of each other point with the baseline; the first one that decided it."""
    remaining: tuple[int, ...]
    """The points that were not left out, the best mean first. The baseline stays."""
    over: bool
    """Whether another block would change nothing, or is not allowed."""

    @property
    def ranked(self) -> tuple[int, ...]:
        """All points: those that remain, then those that were left out; the best mean first."""
        out = [point for point in self.means if point not in self.remaining]
        return (*self.remaining, *sorted(out, key=lambda point: _rank(self.means[point])))

    @property
    def contenders(self) -> tuple[int, ...]:
        """The points that may be chosen, the best mean first.

        If some are better than the baseline, only these.
        """
        better = [
            point
            for point in self.remaining
            if point in self.findings and self.findings[point].verdict is Verdict.BETTER
        ]
        return tuple(better) or self.remaining

    def chosen(self, costs: Mapping[int, float]) -> int:
        """The point to promote: the baseline if none is better, or else the cheapest contender.

        A baseline that never had a value is not chosen while another point has one.

        Args:
            costs: the cost of a prediction by each point's network, in any unit. Among equal costs
                the better mean decides.
        """
        valued = [each for each in self.contenders if not math.isnan(self.means[each])]
        if self.baseline in valued or not valued:
            return self.ranked[0] if self.baseline is None else self.baseline
        return min(valued, key=lambda point: costs[point])


def judge(
    points: Sequence[int],
    baseline: int | None,
    blocks: Sequence[Block],
    rules: Confirmation,
    resolution: float = 0.0,
) -> RaceState:
    """Decides a race from its blocks, in order.

    A block counts once every point that is still in the race has an entry. Entries of other points
    are left out.

    Args:
        points: the points that begin the race, the baseline too.
        baseline: the baseline's point; None if the study has none.
        blocks: the values.
        rules: the rules of the race.
        resolution: the step between possible values, as for `paired_difference`.
    """
    race = _Race(points, baseline, rules, resolution)
    for block in blocks:
        if race.over or not all(point in block for point in race.remaining):
            break
        race.add(block)
    return race.state()


def more_blocks(finding: BaselineComparison, rules: Confirmation) -> int | None:
    """How many more blocks will probably decide an undecided comparison; None if over 10,000.

    Assumes that the mean and the spread of the differences stay as they are, and that as many
    points are compared.
    """
    blocks = finding.blocks
    distance = abs(finding.difference.mean)
    half = max(distance, rules.margin - distance)
    share = finding.level / _level(blocks, rules)
    for number in range(blocks + 1, _MOST_FORESEEN):
        if half_width(finding.difference.std, number, share * _level(number, rules)) <= half:
            return number - blocks
    return None


def values_of(spec: StudySpec, rows: Iterable[FrozenTrial]) -> dict[int, float]:
    """Returns what the ended trials reached, by slot: the larger, the better; NaN for nothing."""
    ended = (row for row in rows if row.state.is_finished())
    return {row.user_attrs[SLOT]: _value(spec, row.state, row.value) for row in ended}


def outlined_values(spec: StudySpec, rows: Iterable[Outline]) -> dict[int, float]:
    """Returns `values_of` from the outlines of the trials."""
    ended = (row for row in rows if row.state.is_finished())
    return {row.slot: _value(spec, row.state, row.value) for row in ended}


def race_state(spec: StudySpec, values: Mapping[int, float]) -> RaceState:
    """Decides the race that a study is.

    Args:
        spec: the study.
        values: what its ended trials reached, by slot, as `values_of` returns it.
    """
    assert spec.race is not None, f"{spec.name} is no race"
    known = 1 + max((replicate_of(spec, slot) for slot in values), default=-1)
    blocks: list[dict[int, float]] = [{} for _ in range(known)]
    for slot, value in values.items():
        blocks[replicate_of(spec, slot)][point_of(spec, slot)] = value
    in_images = not spec.objective.metric.endswith("loss")  # accuracy, or F1, which moves with it
    resolution = 1 / spec.validation if in_images and spec.validation else 0.0
    return judge(range(spec.trials), spec.race.against, blocks, spec.race.rules, resolution)


def planned(spec: StudySpec, values: Callable[[], Mapping[int, float]]) -> Collection[int]:
    """Returns the slots that are to be trained, as far as it is known now.

    These are all slots. In a race they are those of the blocks so far and of the next one, without
    the points that have been dropped; the first blocks can be trained at once. Every process that
    has read the same ended trials gets the same slots, and ended trials do not change.

    Args:
        spec: the study.
        values: returns what the ended trials of a race reached; called for a race alone.
    """
    if spec.race is None:
        return range(spec.slots)
    known = values()
    state = race_state(spec, known)
    if state.over:
        return frozenset(known)
    first = range(FIRST_BLOCKS * spec.trials)
    following = {state.blocks * spec.trials + point for point in state.remaining}
    return frozenset((*first, *known, *following))


def chosen_point(spec: StudySpec, rows: Sequence[FrozenTrial]) -> int:
    """Returns the point of a race that is to be promoted; see `RaceState.chosen`.

    What a prediction costs is the number of the network's weights.
    """
    weights: dict[int, float] = dict.fromkeys(range(spec.trials), math.inf)
    for row in rows:
        if known := stored_result(row).parameters:
            weights[point_of(spec, row.user_attrs[SLOT])] = known
    return race_state(spec, values_of(spec, rows)).chosen(weights)


def has_free_slot(database: Database, spec: StudySpec, ledger: Ledger) -> bool:
    """Whether a slot of the study waits for a driver."""

    def values() -> dict[int, float]:
        found = database.transact(lambda connection: outlines(connection, [spec.name]))
        return outlined_values(spec, found.get(spec.name, []))

    return ledger.has_free(spec.slots, planned(spec, values).__contains__)


def _value(spec: StudySpec, state: TrialState, value: float | None) -> float:
    if state is not TrialState.COMPLETE or value is None:
        return math.nan
    return value if spec.objective.direction == "maximize" else -value


class _Race:
    def __init__(
        self,
        points: Sequence[int],
        baseline: int | None,
        rules: Confirmation,
        resolution: float,
    ) -> None:
        self.remaining = list(points)
        self._points = tuple(points)
        self._baseline = baseline
        self._rules = rules
        self._resolution = resolution
        self._blocks: list[Block] = []
        self._findings: dict[int, BaselineComparison] = {}

    @property
    def over(self) -> bool:
        if self._has_no_baseline_value():
            return True  # nothing can be compared
        rivals = self._rivals()
        verdicts = [self._verdict(point) for point in rivals]
        return (
            len(self._blocks) >= self._rules.max_seeds
            or not rivals
            or (len(rivals) == 1 and verdicts[0] is not Verdict.UNDECIDED)
            or all(verdict is Verdict.EQUIVALENT for verdict in verdicts)
        )

    def add(self, block: Block) -> None:
        """Adds a block, compares the points, and leaves out those that are worse or behind."""
        self._blocks.append({point: block[point] for point in self.remaining})
        if len(self._blocks) >= FEWEST_SEEDS:
            self._compare_with_baseline()
        if len(self._blocks) >= FIRST_BLOCKS:
            leader = min(self.remaining, key=lambda point: _rank(self._mean(point)))
            for point in self._rivals():
                if self._is_out(point, leader):
                    self.remaining.remove(point)

    def state(self) -> RaceState:
        means = {point: self._mean(point) for point in self._points}
        return RaceState(
            blocks=len(self._blocks),
            baseline=self._baseline,
            means=means,
            findings=self._findings,
            remaining=tuple(sorted(self.remaining, key=lambda point: _rank(means[point]))),
            over=self.over,
        )

    def _is_out(self, point: int, leader: int) -> bool:
        """Whether a point is worse than the baseline, behind the leader, or never has a value.

        What is better than the baseline gives way only to what is too: a claim is not lost again.
        """
        if math.isnan(self._mean(point)) or self._verdict(point) is Verdict.WORSE:
            return True
        if point == leader or not self._is_behind(point, leader):
            return False
        return self._verdict(point) is not Verdict.BETTER or self._verdict(leader) is Verdict.BETTER

    def _rivals(self) -> list[int]:
        """The points in the race, without the baseline."""
        return [point for point in self.remaining if point != self._baseline]

    def _verdict(self, point: int) -> Verdict | None:
        """None if there is no baseline."""
        if self._baseline is None:
            return None
        return self._findings[point].verdict if point in self._findings else Verdict.UNDECIDED

    def _compare_with_baseline(self) -> None:
        """Compares each point whose comparison is not decided yet.

        Holm's procedure is about all points that began, since which ones are left depends on the
        same values: those that differ count as rejected, and those that are out as not.
        """
        if self._baseline is None:
            return
        found: dict[int, Difference] = {}
        p_values: dict[int, float] = {}
        for point in self._points:
            if point == self._baseline:
                continue
            verdict = self._verdict(point)
            p_values[point] = float(verdict not in (Verdict.BETTER, Verdict.WORSE))
            if point in self.remaining and verdict is Verdict.UNDECIDED:
                difference = self._difference(point, self._baseline)
                if difference is not None:
                    found[point], p_values[point] = difference, difference.p_value
        levels, differing = holm(p_values, _level(len(self._blocks), self._rules))
        for point, difference in found.items():
            interval = difference.interval(levels[point])
            if point in differing:
                verdict = Verdict.BETTER if difference.mean > 0 else Verdict.WORSE
            elif interval.within(self._rules.margin):
                verdict = Verdict.EQUIVALENT
            else:
                verdict = Verdict.UNDECIDED
            self._findings[point] = BaselineComparison(
                difference=difference,
                level=levels[point],
                interval=interval,
                blocks=len(self._blocks),
                verdict=verdict,
            )

    def _is_behind(self, point: int, leader: int) -> bool:
        difference = self._difference(leader, point)
        if difference is None:
            return False
        return difference.mean > 0 and difference.p_value / 2 < _BEHIND_LEVEL

    def _difference(self, point: int, other: int) -> Difference | None:
        """Over the blocks in which both have a value; None if these are too few."""
        pairs = [
            (block[point], block[other])
            for block in self._blocks
            if not math.isnan(block[point]) and not math.isnan(block[other])
        ]
        if len(pairs) < FIRST_BLOCKS:
            return None
        own, others = zip(*pairs, strict=True)
        return paired_difference(own, others, self._resolution)

    def _has_no_baseline_value(self) -> bool:
        """Whether the baseline has failed in each of the first blocks."""
        if self._baseline is None or len(self._blocks) < FIRST_BLOCKS:
            return False
        return math.isnan(self._mean(self._baseline))

    def _mean(self, point: int) -> float:
        values = [block[point] for block in self._blocks if point in block]
        known = [value for value in values if not math.isnan(value)]
        return fmean(known) if known else math.nan


def _level(blocks: int, rules: Confirmation) -> float:
    """The level of the look after this many blocks."""
    return look_level(blocks - FEWEST_SEEDS + 1, rules.level)


def _rank(mean: float) -> float:
    """Sorts the best mean first, and points without a mean last."""
    return math.inf if math.isnan(mean) else -mean
