"""Statistics: intervals of shares and differences, a paired test, levels, and the effect of choice.

Pure functions of numbers. Each names its source. SciPy is imported by those that need it, since it
takes as long to load as the rest of a command.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

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
