"""The race of a study's points against a baseline, decided from the values so far.

Each block adds one training of every point that is still in the race, all with the same seed and
the same validation rows. From the third block on, points may be left out; from the fifth on, they
are compared with the baseline, since each comparison has its price.

Two questions are asked with different care. Whether a point differs from the baseline is a claim:
all looks and all comparisons together find a difference that is not there with a chance of at most
`level`, by lower levels for each look (`look_level`) and Holm's procedure over all points that
began the race and all claims. Whether a point can be left out because it is behind the leader
claims nothing, and the worst that a mistake costs is a good point; so that is decided earlier,
which saves many trainings (`python -m benchmarks.promotion`).

A study may state claims about other pairs of points. They are compared in the same way, and their
points are trained until they are decided.

The values alone decide, so every process comes to the same decisions, also after a crash.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from statistics import fmean
from typing import NamedTuple

from tuner.spec.section import Frozen
from tuner.spec.study_spec import FEWEST_SEEDS, Confirmation
from tuner.statistics import Difference, Interval, half_width, holm, look_level, paired_difference

FIRST_BLOCKS = 3
"""After so many blocks, points may be left out: two differences hardly show a spread."""
_BEHIND_LEVEL = 0.1
"""The one-sided level at which a point is behind the leader."""
_MOST_FORESEEN = 10_000

Block = Mapping[int, float]
"""The value of each point in one block, by the point's number; the larger, the better.

NaN stands for a training that ended without a value.
"""


Key = int | str
"""A comparison: the number of the point that is compared with the baseline, or a claim's name."""


class Contest(NamedTuple):
    """A claim, as the race decides it: one point is better than another by some metric."""

    name: str
    better: int
    """The number of the point that is said to be better."""
    than: int
    margin: float
    resolution: float
    """The step between possible values, as for `paired_difference`."""
    blocks: Sequence[Block]
    """The values by the claim's metric."""

    def pairs(self, blocks: int) -> list[tuple[float, float]]:
        """Both points' values in each of the first `blocks` blocks."""
        return [_pair(block, self.better, self.than) for block in self.blocks[:blocks]]


class Verdict(StrEnum):
    """What is known about the difference between a point and the baseline."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    """The interval of the difference lies within the margin."""
    UNDECIDED = "undecided"


class Comparison(Frozen):
    """The comparison of a point with the baseline, or of the two points of a claim."""

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
    findings: dict[int, Comparison]
    """The comparison of each other point with the baseline; the first one that decided it."""
    claims: dict[str, Comparison]
    """The comparison of each claim's points, by its name; the first one that decided it."""
    remaining: tuple[int, ...]
    """The points that were not left out, the best mean first. The baseline stays."""
    training: frozenset[int]
    """The points that the next block trains: those of what is not decided yet."""
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
    claims: Sequence[Contest] = (),
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
        claims: further comparisons, of any points. Their points are trained until they are decided.
    """
    race = _Race(points, baseline, rules, resolution, claims)
    for block in blocks:
        if race.over or not all(point in block for point in race.training):
            break
        race.add(block)
    return race.state()


def more_blocks(finding: Comparison, rules: Confirmation) -> int | None:
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


def _pair(block: Block, point: int, other: int) -> tuple[float, float]:
    return block.get(point, math.nan), block.get(other, math.nan)


def _paired(pairs: Iterable[tuple[float, float]], resolution: float) -> Difference | None:
    """Over the pairs with both values; None if these are too few."""
    known = [pair for pair in pairs if not any(map(math.isnan, pair))]
    if len(known) < FIRST_BLOCKS:
        return None
    own, others = zip(*known, strict=True)
    return paired_difference(own, others, resolution)


class _Race:
    def __init__(
        self,
        points: Sequence[int],
        baseline: int | None,
        rules: Confirmation,
        resolution: float,
        claims: Sequence[Contest],
    ) -> None:
        self.remaining = list(points)
        self._points = tuple(points)
        self._baseline = baseline
        self._rules = rules
        self._resolution = resolution
        self._blocks: list[Block] = []
        self._claims = {claim.name: claim for claim in claims}
        self._findings: dict[Key, Comparison] = {}

    @property
    def over(self) -> bool:
        return len(self._blocks) >= self._rules.max_seeds or not self.training

    @property
    def training(self) -> frozenset[int]:
        """The points that another block would train."""
        rest = () if self._is_settled() else self.remaining
        claimed = [point for one in self._open_claims() for point in (one.better, one.than)]
        return frozenset((*rest, *claimed))

    def _open_claims(self) -> Iterator[Contest]:
        """Yields the claims that are not decided, and whose points have values to decide by."""
        known = len(self._blocks)
        for claim in self._claims.values():
            sides = list(zip(*claim.pairs(known), strict=True))
            hopeless = known >= FIRST_BLOCKS and any(all(map(math.isnan, one)) for one in sides)
            if self._verdict(claim.name) is Verdict.UNDECIDED and not hopeless:
                yield claim

    def _is_settled(self) -> bool:
        """Whether another block would change nothing about the points."""
        if self._has_no_baseline_value():
            return True  # nothing can be compared
        rivals = self._rivals()
        verdicts = [self._verdict(point) for point in rivals]
        return (
            not rivals
            or (len(rivals) == 1 and verdicts[0] is not Verdict.UNDECIDED)
            or all(verdict is Verdict.EQUIVALENT for verdict in verdicts)
        )

    def add(self, block: Block) -> None:
        """Adds a block, compares the points, and leaves out those that are worse or behind."""
        settled = self._is_settled()
        self._blocks.append({point: block[point] for point in self.training})
        if len(self._blocks) >= FEWEST_SEEDS:
            self._compare()
        if len(self._blocks) >= FIRST_BLOCKS and not settled:
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
            findings={key: one for key, one in self._findings.items() if isinstance(key, int)},
            claims={key: one for key, one in self._findings.items() if isinstance(key, str)},
            remaining=tuple(sorted(self.remaining, key=lambda point: _rank(means[point]))),
            training=frozenset() if self.over else self.training,
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

    def _verdict(self, key: Key) -> Verdict | None:
        """None for a point if there is no baseline."""
        if self._baseline is None and isinstance(key, int):
            return None
        return self._findings[key].verdict if key in self._findings else Verdict.UNDECIDED

    def _compare(self) -> None:
        """Compares what is not decided yet: points with the baseline, and the points of claims.

        Holm's procedure is about all points and claims that began, since which ones are left
        depends on the same values: those that differ count as rejected, the others as not.
        """
        found = self._differences()
        differing = (Verdict.BETTER, Verdict.WORSE)
        p_values = {key: float(self._verdict(key) not in differing) for key in self._keys()}
        p_values |= {key: difference.p_value for key, (difference, _) in found.items()}
        levels, rejected = holm(p_values, _level(len(self._blocks), self._rules))
        for key, (difference, margin) in found.items():
            interval = difference.interval(levels[key])
            if key in rejected:
                verdict = Verdict.BETTER if difference.mean > 0 else Verdict.WORSE
            elif interval.within(margin):
                verdict = Verdict.EQUIVALENT
            else:
                verdict = Verdict.UNDECIDED
            self._findings[key] = Comparison(
                difference=difference,
                level=levels[key],
                interval=interval,
                blocks=len(self._blocks),
                verdict=verdict,
            )

    def _keys(self) -> list[Key]:
        """Everything that the race compares, from its begin."""
        rivals = [] if self._baseline is None else [*self._points]
        return [*(point for point in rivals if point != self._baseline), *self._claims]

    def _differences(self) -> dict[Key, tuple[Difference, float]]:
        """What is compared now, with the margin."""
        found: dict[Key, tuple[Difference | None, float]] = {}
        if self._baseline is not None and not self._is_settled():
            for point in self._rivals():
                if self._verdict(point) is Verdict.UNDECIDED:
                    difference = self._difference(point, self._baseline)
                    found[point] = difference, self._rules.margin
        for claim in self._open_claims():
            pairs = claim.pairs(len(self._blocks))
            found[claim.name] = _paired(pairs, claim.resolution), claim.margin
        return {key: (one, margin) for key, (one, margin) in found.items() if one is not None}

    def _is_behind(self, point: int, leader: int) -> bool:
        difference = self._difference(leader, point)
        if difference is None:
            return False
        return difference.mean > 0 and difference.p_value / 2 < _BEHIND_LEVEL

    def _difference(self, point: int, other: int) -> Difference | None:
        """Over the blocks in which both have a value; None if these are too few."""
        return _paired((_pair(block, point, other) for block in self._blocks), self._resolution)

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
