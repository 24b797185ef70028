"""Statistics: intervals of shares and differences, a paired test, levels, and the effect of choice.

Pure functions of numbers. Each names its source. SciPy is imported by those that need it, since it
takes as long to load as the rest of a command.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tuner.spec.section import Frozen

Key = TypeVar("Key")

_ROUNDING = 1e-9
"""A relative spread that is nothing but rounding."""


class Interval(Frozen):
    """A confidence interval, with its limits."""

    low: float
    high: float

    def within(self, margin: float) -> bool:
        """Whether it lies between `-margin` and `margin`."""
        return -margin <= self.low and self.high <= margin


class Difference(Frozen):
    """The mean of paired differences."""

    mean: float
    std: float
    """The sample standard deviation of the differences (n - 1), or the resolution if larger."""
    pairs: int
    """At least 2."""
    p_value: float
    """Two-sided, of Student's paired t-test against a mean of 0."""

    def interval(self, level: float) -> Interval:
        """Student's interval of the mean, which has a confidence of `1 - level`."""
        half = half_width(self.std, self.pairs, level)
        return Interval(low=self.mean - half, high=self.mean + half)


def paired_difference(
    first: Sequence[float], second: Sequence[float], resolution: float = 0.0
) -> Difference:
    """Compares two samples of shape (n,), n >= 2, that belong together in pairs.

    Args:
        first: one sample.
        second: the other one.
        resolution: the step between possible values. Values in steps may agree by chance, so the
            standard deviation counts as at least one step. Without any, p is 1.

    Source: Student, Biometrika 6 (1908), 1-25.
    """
    from scipy import special

    differences = np.subtract(first, second)
    mean, pairs = float(differences.mean()), len(differences)
    std = max(float(differences.std(ddof=1)), resolution)
    error = std / math.sqrt(pairs)
    if error <= _ROUNDING * abs(mean):
        return Difference(mean=mean, std=std, pairs=pairs, p_value=1.0)
    p_value = 2 * float(special.stdtr(pairs - 1, -abs(mean) / error))
    return Difference(mean=mean, std=std, pairs=pairs, p_value=p_value)


def half_width(std: float, pairs: int, level: float) -> float:
    """Half of the width of Student's interval, for differences with this standard deviation."""
    from scipy import special

    return -float(special.stdtrit(pairs - 1, level / 2)) * std / math.sqrt(pairs)


def pooled_std(samples: Iterable[Sequence[float]]) -> tuple[float, int] | None:
    """The standard deviation within samples that may differ in their means.

    Returns:
        It and its degrees of freedom; None if no sample has two values.

    Source: ISO 5725-2:2019, 7.4 (the repeatability variance).
    """
    usable = [np.asarray(sample, float) for sample in samples if len(sample) > 1]
    degrees = sum(len(sample) - 1 for sample in usable)
    if not degrees:
        return None
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in usable)
    return math.sqrt(squares / degrees), degrees


def repeatability_limit(std: float, degrees: int, level: float = 0.05) -> float:
    """The difference that two single results of one kind exceed with a chance of `level`.

    Args:
        std: the standard deviation of such results.
        degrees: the degrees of freedom that it was estimated with.
        level: the chance.

    Source: ISO 5725-6:1994, 4.1, which has 2.8 standard deviations at 0.05. This is Student's
    quantile instead of the normal one, since the deviation is an estimate.
    """
    from scipy import special

    return -float(special.stdtrit(degrees, level / 2)) * math.sqrt(2) * std


class PairedShares(Frozen):
    """The rows that two classifiers have answered both, counted by which of them is right.

    There is at least one row.
    """

    both: int
    first: int
    """The rows that the first classifier alone has right."""
    second: int
    """The rows that the second classifier alone has right."""
    neither: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.both + self.discordant + self.neither

    @property
    def discordant(self) -> int:
        """The number of rows that one of them alone has right."""
        return self.first + self.second

    @property
    def difference(self) -> float:
        """The share that the first classifier has right, minus that of the second one."""
        return (self.first - self.second) / self.rows

    @property
    def p_value(self) -> float:
        """Two-sided, of McNemar's exact test of equal shares; 1 if no row is discordant.

        Source: Q. McNemar, Psychometrika 12 (1947), 153-157, with the binomial distribution.
        """
        return min(1.0, 2 * _at_most(min(self.first, self.second), self.discordant))

    @property
    def p_better(self) -> float:
        """One-sided: the chance of no more rows for the second one, if both are equally good."""
        return _at_most(self.second, self.discordant)

    def interval(self, level: float = 0.05) -> Interval:
        """Newcombe's interval of the difference, which has a confidence of about `1 - level`.

        Its lower limit alone is the one-sided limit at `level / 2`.

        Source: R. G. Newcombe, Statistics in Medicine 17 (1998), 2635-2650, method 10; recommended
        by Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014), 2850-2875.
        """
        ours, theirs = (self.both + alone for alone in (self.first, self.second))
        own, other = (share / self.rows for share in (ours, theirs))
        one, two = (wilson_interval(share, self.rows, level) for share in (own, other))
        low = self.difference - self._distance(own - one.low, two.high - other)
        high = self.difference + self._distance(one.high - own, other - two.low)
        return Interval(low=max(-1.0, low), high=min(1.0, high))

    def detectable(self, level: float = 0.05, power: float = 0.8) -> float:
        """The smallest true difference that McNemar's test finds with about this power.

        Two-sided at `level`, for classifiers that differ as often as these; 1 if there are too few
        rows for any. A difference needs discordant rows, and adds what these are short of.

        Source: R. J. Connor, Biometrics 43 (1987), 207-211, solved for the difference.
        """
        size, strength, rows = _upper(level / 2), _upper(1 - power), self.rows
        rest = max(0.0, rows + strength**2 - size**2)
        root = (size * math.sqrt(rows) + strength * math.sqrt(rest)) / (rows + strength**2)
        return min(1.0, max(root * math.sqrt(self.discordant / rows), root**2))

    def rows_for(self, margin: float, level: float = 0.05, power: float = 0.8) -> int:
        """About how many rows show that equally good classifiers differ by less than `margin`.

        One-sided at `level`, with this power, for classifiers that differ as often as these, or on
        one row if these never do.

        Source: the normal approximation, as in Liu et al., Statistics in Medicine 21 (2002),
        231-245.
        """
        share = max(self.discordant, 1) / self.rows
        return math.ceil(share * ((_upper(level) + _upper(1 - power)) / margin) ** 2)

    def _distance(self, one: float, other: float) -> float:
        """From the difference to its limit, by the distances of two shares to theirs."""
        return math.sqrt(max(0.0, one**2 - 2 * self._phi * one * other + other**2))

    @property
    def _phi(self) -> float:
        """The correlation of the two, with Newcombe's correction for continuity if positive."""
        ours, theirs = self.both + self.first, self.both + self.second
        margins = ours * (self.rows - ours) * theirs * (self.rows - theirs)
        excess: float = self.both * self.neither - self.first * self.second
        if excess > 0:
            excess = max(0.0, excess - self.rows / 2)
        return excess / math.sqrt(margins) if margins else 0.0


def paired_shares(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> PairedShares:
    """Counts rows by which of two classifiers is right, both of shape (N,), N >= 1."""
    cells = np.bincount(2 * first.astype(np.int64) + second, minlength=4)
    neither, theirs, ours, both = (int(count) for count in cells)
    return PairedShares(both=both, first=ours, second=theirs, neither=neither)


def _at_most(successes: int, trials: int) -> float:
    """The chance of at most so many successes, if each trial is as likely to fail."""
    from scipy import special

    return float(special.bdtr(successes, trials, 0.5))


def _upper(level: float) -> float:
    """The point that a standard normal variable exceeds with the chance `level`."""
    from scipy import special

    return -float(special.ndtri(level))


def look_level(look: int, level: float) -> float:
    """The level of look number `look`, from 1, at data that grow.

    The levels of all looks add up to `level`, since the reciprocal squares add up to pi^2 / 6. So
    by Bonferroni's inequality any number of looks has one false finding with at most that chance.
    """
    return level * 6 / (math.pi * look) ** 2


def holm(p_values: Mapping[Key, float], level: float) -> tuple[dict[Key, float], frozenset[Key]]:
    """Holm's procedure: which hypotheses are rejected, so that all are true with this level.

    Returns:
        The level that each hypothesis was held to, and those that are rejected. The interval of
        a difference at that level excludes 0 exactly if its hypothesis is rejected.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    levels: dict[Key, float] = {}
    rejected: set[Key] = set()
    held, stopped = level, False
    for number, key in enumerate(
        sorted(p_values, key=lambda key: (math.isnan(p_values[key]), p_values[key]))
    ):
        if not stopped:
            held = level / (len(p_values) - number)
            stopped = not p_values[key] <= held  # NaN rejects nothing
        levels[key] = held
        if not stopped:
            rejected.add(key)
    return levels, frozenset(rejected)


def wilson_interval(share: float, count: int, level: float = 0.05) -> Interval:
    """Wilson's score interval of a share, which is valid near 0 and 1 too, unlike the normal one.

    Source: E. B. Wilson, JASA 22 (1927), 209-212; recommended by Brown, Cai and DasGupta,
    Statistical Science 16 (2001), 101-133.
    """
    from scipy import special

    z2 = float(special.ndtri(level / 2)) ** 2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return Interval(low=max(0.0, centre - half), high=min(1.0, centre + half))


def expected_largest(count: int) -> float:
    """The mean of the largest of `count` independent standard normal values.

    Source: L. H. C. Tippett, Biometrika 17 (1925), 364-387.
    """
    from scipy import integrate, special

    def tails(value: float) -> float:
        below, above = special.ndtr(value), special.ndtr(-value)
        return float(1 - below**count - above**count)

    return 0.0 if count == 1 else float(integrate.quad(tails, 0, math.inf)[0])
